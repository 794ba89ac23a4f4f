"""Pairs of UDP ports on which an RTSP server's packets come in (RFC 3550 section 11)."""

from __future__ import annotations

import socket

import trio

from appliance.errors import Unavailable

#: Bytes that the kernel keeps for us: a key frame comes in one burst.
RECEIVE_BUFFER = 4 * 1024 * 1024
ATTEMPTS = 32


class PortPair:
    """RTP on ``port``, which is even, and RTCP on the next."""

    def __init__(self, rtp: trio.socket.SocketType, rtcp: trio.socket.SocketType) -> None:
        self.rtp = rtp
        self.rtcp = rtcp
        self.port = int(rtp.getsockname()[1])

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


async def open_port_pair(host: str, family: int) -> PortPair:
    """Bound to our address ``host``. Raises Unavailable when no two ports in a row are free."""
    for _ in range(ATTEMPTS):
        first = trio.socket.socket(family, socket.SOCK_DGRAM)
        second: trio.socket.SocketType | None = None
        try:
            await first.bind((host, 0))
            port = int(first.getsockname()[1])
            second = trio.socket.socket(family, socket.SOCK_DGRAM)
            await second.bind((host, port ^ 1))
        except OSError:
            first.close()
            if second is not None:
                second.close()
            continue
        for each in (first, second):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return PortPair(first, second) if port % 2 == 0 else PortPair(second, first)
    raise Unavailable("no two UDP ports in a row are free")
