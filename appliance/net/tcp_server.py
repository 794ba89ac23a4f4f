"""Accepting TCP connections so that nothing a peer does, and no shortage on this machine, ends it."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from appliance.net.limits import Limits
from appliance.net.quiet_log import QuietLog

LOG = logging.getLogger("kiln.net")

Handler = Callable[[trio.socket.SocketType, str], Awaitable[None]]

_SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_PAUSE = 0.1
_ACCEPTS_A_PASS = 32


class PeerCounts:
    """Open connections, in all and by peer address. The address "" (a unix socket) is not limited."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._peers: dict[str, int] = {}
        self.total = 0

    def take(self, address: str) -> str:
        """Count a new connection; "" when it may stay, else the reason why not (then it is not counted)."""
        if self.total >= self._limits.connections:
            return "too many connections"
        mine = self._peers.get(address, 0)
        if address:
            if mine >= self._limits.connections_per_peer:
                return "too many connections of this peer"
            self._peers[address] = mine + 1
        self.total += 1
        return ""

    def give_back(self, address: str) -> None:
        self.total -= 1
        if address:
            left = self._peers[address] - 1
            if left:
                self._peers[address] = left
            else:
                del self._peers[address]


def peer_address(address: object) -> tuple[str, int]:
    """Host and port of what ``accept`` returned; IPv4 mapped into IPv6 is told as IPv4. ("", 0) for a unix socket."""
    if not isinstance(address, tuple):
        return "", 0
    host = str(address[0])
    return host.removeprefix("::ffff:") if "." in host else host, int(address[1])


async def accept_forever(
    listener: socket.socket, accepted: Callable[[socket.socket, object], None], *, name: str
) -> NoReturn:
    """Call ``accepted(socket, address)`` for every connection; the socket is non-blocking and TCP_NODELAY.

    A lack of file descriptors or memory is logged once a second and waited out in steps of 0.1 s.
    """
    quiet = QuietLog(LOG)
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(_ACCEPTS_A_PASS):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                    raise
                quiet.log(logging.WARNING, "accept", "event=accept_failed server=%s reason=%s", name, error)
                if error.errno in _SHORTAGE:
                    await trio.sleep(_PAUSE)
                    break
                continue
            try:
                sock.setblocking(False)
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                sock.close()
                continue
            accepted(sock, address)


async def serve_tcp(
    listener_socket: socket.socket,
    handler: Handler,
    *,
    limits: Limits | None = None,
    name: str,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``handler(socket, peer)`` for every connection until cancelled; ``peer`` is ``1.2.3.4:5678``.

    ``listener_socket`` is a listening, non-blocking socket (``Listener.sock``); the caller closes it. A handler's
    exception is logged and ends its connection alone. The handler's socket is closed when it returns. Of ``limits``
    hold ``connections`` and ``connections_per_peer``: what is over them is closed at once.
    """
    counts = PeerCounts(limits or Limits())
    quiet = QuietLog(LOG)

    async def contained(sock: socket.socket, host: str, port: int) -> None:
        peer = f"{host}:{port}"
        try:
            with trio.socket.from_stdlib_socket(sock) as trio_socket:
                await handler(trio_socket, peer)
        except OSError as error:
            LOG.debug("event=connection_lost server=%s peer=%s reason=%s", name, peer, error)
        except Exception as error:
            quiet.log(
                logging.ERROR, type(error).__name__, "event=handler_failed server=%s peer=%s", name, peer, error=error
            )
        finally:
            counts.give_back(host)

    def accepted(sock: socket.socket, address: object) -> None:
        host, port = peer_address(address)
        refusal = counts.take(host)
        if refusal:
            sock.close()
            quiet.log(logging.WARNING, refusal, "event=refused server=%s peer=%s reason=%s", name, host, refusal)
        else:
            nursery.start_soon(contained, sock, host, port)

    async with trio.open_nursery() as nursery:
        task_status.started()
        await accept_forever(listener_socket, accepted, name=name)
