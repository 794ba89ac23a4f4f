"""What all targets share: the contract of a session, and a TCP connection that can't block for longer than it may."""

from __future__ import annotations

import socket
from typing import Final, Protocol

import trio

from appliance.errors import Unavailable
from appliance.media.packet import Packet

#: What the kernel may hold for a peer that reads slowly (it takes twice as much), in bytes.
SEND_BUFFER: Final = 256 * 1024
#: A peer takes at least so much within the time-out, or it is lost.
PIECE: Final = 16 * 1024
#: What was sent must be acknowledged within so many ms, or the kernel gives the connection up.
UNACKNOWLEDGED: Final = 5000
_READ: Final = 16 * 1024


class Refused(Unavailable):
    """The server answered, and said no."""


class Target(Protocol):
    """One connection to a target. ``send`` and ``listen`` raise Unavailable when it is of no use any more."""

    @property
    def sent(self) -> int:
        """Bytes that were handed to the network."""

    async def send(self, packets: list[Packet]) -> None:
        """Send ``packets``; nothing in it waits longer than the time-out."""

    async def listen(self) -> None:
        """Follow what the peer says; returns only by raising."""

    async def finish(self) -> None:
        """Say goodbye."""

    def close(self) -> None: ...


class Wire:
    """Bytes to a peer, whose every piece is taken within ``timeout`` seconds."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout
        self._sending = trio.Lock()
        self.sent = 0
        sock = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket
        self._socket = sock
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)

    async def send(self, data: bytes) -> None:
        """Raises Unavailable. May be called by several tasks: each ``data`` goes out whole."""
        async with self._sending:
            for start in range(0, len(data), PIECE):
                piece = data[start : start + PIECE]
                try:
                    with trio.fail_after(self._timeout):
                        await self._stream.send_all(piece)
                except trio.TooSlowError as error:
                    raise Unavailable(f"the target took nothing for {self._timeout:g} s") from error
                except trio.BrokenResourceError as error:
                    raise Unavailable(f"the connection broke: {_why(error)}") from error
                except trio.ClosedResourceError as error:
                    raise Unavailable("the connection is closed") from error
                self.sent += len(piece)

    async def receive(self) -> bytes:
        """Raises Unavailable at the end."""
        try:
            data = await self._stream.receive_some(_READ)
        except trio.BrokenResourceError as error:
            raise Unavailable(f"the connection broke: {_why(error)}") from error
        except trio.ClosedResourceError as error:
            raise Unavailable("the connection is closed") from error
        if not data:
            raise Unavailable("the target closed the connection")
        return bytes(data)

    def close(self) -> None:
        self._socket.close()

    async def end(self) -> None:
        """What was sent still arrives, then the peer reads the end."""
        try:
            if isinstance(self._stream, trio.SSLStream):
                await self._stream.aclose()
            else:
                await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The peer was quicker.
            return


def _why(error: BaseException) -> str:
    cause = error.__cause__
    return (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(cause or error)


