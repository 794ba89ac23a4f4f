"""A connected, non-blocking socket, plain or under TLS: bytes now, or the word that there are none yet."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Sequence

import trio

RECEIVE_SIZE = 64 * 1024
_RECORD = 16 * 1024
_MOST_BUFFERS = 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class PlainTransport:
    """Owns ``sock`` and closes it."""

    __slots__ = ("fd", "sock")

    scheme = "http"

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()

    def try_receive(self) -> bytes | None:
        """What has come, b"" at the end of the connection (however it ended), None when there is nothing yet."""
        try:
            return self.sock.recv(RECEIVE_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def try_send(self, buffers: list[bytes | memoryview]) -> list[bytes | memoryview]:
        """Send what the socket takes now; what is left over, [] when all went. Raises OSError when the peer is gone."""
        while buffers:
            part = buffers if len(buffers) <= _MOST_BUFFERS else buffers[:_MOST_BUFFERS]
            try:
                sent = self.sock.sendmsg(part)
            except (BlockingIOError, InterruptedError):
                return buffers
            if len(part) == len(buffers) and sent == sum(map(len, part)):
                return []
            if not sent:
                return buffers
            buffers = _after(buffers, sent)
        return buffers

    def shut_write(self) -> None:
        """Tell the peer that nothing more comes."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close without waiting for what the peer has not read."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def close(self) -> None:
        if self.fd >= 0:
            trio.lowlevel.notify_closing(self.fd)
            self.fd = -1
            self.sock.close()


class TlsTransport(PlainTransport):
    """The same under TLS. ``sock`` is an ``ssl.SSLSocket`` after its handshake."""

    __slots__ = ()

    scheme = "https"
    sock: ssl.SSLSocket

    def try_receive(self) -> bytes | None:
        try:
            return self.sock.recv(RECEIVE_SIZE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (OSError, ValueError):
            return b""

    def try_send(self, buffers: list[bytes | memoryview]) -> list[bytes | memoryview]:
        if not buffers:
            return buffers
        # One record takes 16 KiB; small buffers share one. A record begun must be offered again with the same bytes.
        data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        at = 0
        try:
            while at < len(data):
                at += self.sock.send(data[at : at + _RECORD])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return [data[at:]]
        return []

    def shut_write(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.sock.unwrap()
        super().shut_write()

    def close(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError, ValueError):
                self.sock.unwrap()
        super().close()


def _after(buffers: Sequence[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
