"""Receiving datagrams in batches: unicast, and multicast groups that are joined."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import struct
from typing import Final

import trio

from appliance.errors import KilnError

log = logging.getLogger("kiln.net")

#: What the kernel may hold for us while the loop is busy: 4 s of 8 Mbit/s (it halves what it is given).
RECEIVE_BUFFER: Final = 4 * 1024 * 1024
_BATCH: Final = 256
_LARGEST: Final = 65536
#: After a batch so much time passes before the next: a wake-up for every datagram costs three times as much (s).
_PACE: Final = 0.005
_SO_RCVBUFFORCE: Final = 33
_IP_MULTICAST_ALL: Final = 49

Datagram = tuple[bytes, tuple[str, int]]


class UdpReceiver:
    """One UDP port of one address. ``bind`` opens it, ``close`` closes it.

    ``host`` is ``*`` (every IPv4 address), ``::``, an address of this machine, or a multicast group, which is then
    joined on ``interface`` (an address of this machine for IPv4, a name for IPv6; "" lets the system choose).
    """

    def __init__(self, host: str, port: int, interface: str = "") -> None:
        self.host = {"*": "0.0.0.0", "": "0.0.0.0"}.get(host, host)
        self.interface = interface
        self._port = port
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(_LARGEST))

    def __str__(self) -> str:
        return f"udp://[{self.host}]:{self.port}" if ":" in self.host else f"udp://{self.host}:{self.port}"

    @property
    def port(self) -> int:
        """The port really bound, once it is."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._port

    @property
    def is_group(self) -> bool:
        return ipaddress.ip_address(self.host).is_multicast

    def bind(self) -> None:
        """Raises KilnError with address and reason. Does nothing when it is open."""
        if self._socket is not None:
            return
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                self._set_up(sock, family)
            except BaseException:
                sock.close()
                raise
        except (OSError, ValueError) as error:
            text = "the address is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
            hint = "another program may listen there: stop it or choose another port"
            raise KilnError(f"can't listen on {self}: {text}", hint=hint) from error
        self._socket = sock

    def _set_up(self, sock: socket.socket, family: int) -> None:
        sock.setblocking(False)
        _enlarge(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if self.is_group:
            # Others on this machine may hear the same group.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, self._port))
        if self.is_group:
            self._join(sock, family)

    def _join(self, sock: socket.socket, family: int) -> None:
        group = socket.inet_pton(family, self.host)
        if family == socket.AF_INET6:
            index = socket.if_nametoindex(self.interface) if self.interface else 0
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", index))
            return
        # Only what this socket has joined, not what others on this machine have.
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        local = socket.inet_aton(self.interface) if self.interface else b"\0\0\0\0"
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + local)

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            trio.lowlevel.notify_closing(sock)
            sock.close()

    async def receive(self) -> list[Datagram]:
        """What has come, one datagram or more (at most 256) with the address of each. Raises KilnError when closed."""
        while True:
            sock = self._socket
            if sock is None:
                raise KilnError(f"{self} is not bound")
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                raise KilnError(f"{self} is closed") from None
            await trio.sleep(_PACE)
            batch = self._read(sock)
            if batch:
                return batch

    def _read(self, sock: socket.socket) -> list[Datagram]:
        batch: list[Datagram] = []
        buffer = self._buffer
        try:
            for _ in range(_BATCH):
                size, address = sock.recvfrom_into(buffer)
                batch.append((bytes(buffer[:size]), address[:2]))
        except BlockingIOError:
            pass
        except OSError as error:
            # An ICMP answer to what somebody sent from this port: nothing of ours.
            log.debug("datagram not read on=%s reason=%s", self, error)
        return batch


def _enlarge(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:
        # Without the right to it: as much as net.core.rmem_max allows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
