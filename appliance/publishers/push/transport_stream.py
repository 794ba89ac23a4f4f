"""Targets that take MPEG-TS: UDP datagrams, a TCP connection, an SRT connection."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

import trio

from appliance.errors import BadRequest, ConfigError, Unavailable
from appliance.media.contracts import Egress
from appliance.media.packet import Packet
from appliance.media.track import Track
from appliance.net import srt
from appliance.protocols.mpegts.muxer import Muxer
from appliance.protocols.mpegts.psi import NULL_PACKET
from appliance.publishers.push.destination import TS_PACKET, Destination
from appliance.publishers.push.target import SEND_BUFFER, Refused, Wire

DATAGRAM: Final = 7 * TS_PACKET
#: So many datagrams go out at once, then the network gets a pause (s): a key frame would overrun small receivers.
BURST: Final = 16
PAUSE: Final = 0.001
DEFAULT_TTL: Final = 16
#: libsrt is told to give up a little before we do, so that its own reason is the one that is shown.
_MARGIN: Final = 0.5
#: Reject reasons of libsrt (srt.h, SRT_REJECT_REASON) that are nobody's no: unknown, system, time-out.
_NOT_ANSWERED: Final = frozenset({0, 1, 16})

#: Option of an SRT URL as FFmpeg names it -> libsrt's, and what its number is divided by (FFmpeg's are in us).
SRT_OPTIONS: Final = {
    "mss": ("SRTO_MSS", 1), "ffs": ("SRTO_FC", 1), "ipttl": ("SRTO_IPTTL", 1), "iptos": ("SRTO_IPTOS", 1),
    "inputbw": ("SRTO_INPUTBW", 1), "oheadbw": ("SRTO_OHEADBW", 1), "maxbw": ("SRTO_MAXBW", 1),
    "rcvlatency": ("SRTO_RCVLATENCY", 1000), "peerlatency": ("SRTO_PEERLATENCY", 1000),
    "snddropdelay": ("SRTO_SNDDROPDELAY", 1000), "tlpktdrop": ("SRTO_TLPKTDROP", 0), "nakreport": ("SRTO_NAKREPORT", 0),
    "lossmaxttl": ("SRTO_LOSSMAXTTL", 1), "minversion": ("SRTO_MINVERSION", 1), "sndbuf": ("SRTO_SNDBUF", 1),
    "rcvbuf": ("SRTO_RCVBUF", 1), "kmrefreshrate": ("SRTO_KMREFRESHRATE", 1),
    "kmpreannounce": ("SRTO_KMPREANNOUNCE", 1), "enforced_encryption": ("SRTO_ENFORCEDENCRYPTION", 0),
    "smoother": ("SRTO_CONGESTION", 0), "packetfilter": ("SRTO_PACKETFILTER", 0),
}  # fmt: skip
_SRT_OWN: Final = {"mode", "latency", "timeout", "connect_timeout", "passphrase", "pbkeylen", "streamid", "pkt_size",
                   "payload_size", "transtype"}  # fmt: skip
_UDP_OWN: Final = {"pkt_size", "ttl", "buffer_size"}


def check_options(where: Destination) -> list[str]:
    """Names of options that have no effect. Raises BadRequest for values that can't be."""
    match where.kind:
        case "udp":
            known = _UDP_OWN
            _datagram_size(where)
            _ttl(where)
            _send_buffer(where)
        case "srt":
            known = _SRT_OWN | SRT_OPTIONS.keys()
            _srt_settings(where)
        case _:
            known = set()
    return sorted(where.options.keys() - known)


class _Muxed:
    """Packets as a transport stream, from a key frame of the video on."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._muxer = Muxer(tracks, late_events=True)
        self._waits = any(track.is_video for track in tracks)

    def mux(self, packets: list[Packet]) -> bytes:
        parts: list[bytes] = []
        for packet in packets:
            if self._waits:
                if not (packet.track.is_video and packet.keyframe):
                    continue
                self._waits = False
            parts.append(self._muxer.packet(packet))
        return b"".join(parts)


class TcpTarget(_Muxed):
    """A receiver that listens on TCP."""

    def __init__(self, wire: Wire, tracks: Sequence[Track]) -> None:
        super().__init__(tracks)
        self._wire = wire

    @classmethod
    async def open(
        cls, where: Destination, tracks: Sequence[Track], egress: Egress, connect: float, timeout: float
    ) -> TcpTarget:
        stream = await egress.open_tcp(where.url.host, where.url.port, connect, send_buffer=SEND_BUFFER)
        return cls(Wire(stream, timeout), tracks)

    @property
    def sent(self) -> int:
        return self._wire.sent

    async def send(self, packets: list[Packet]) -> None:
        await self._wire.send(self.mux(packets))

    async def listen(self) -> None:
        while True:
            await self._wire.receive()

    async def finish(self) -> None:
        await self._wire.end()

    def close(self) -> None:
        self._wire.close()


class UdpTarget(_Muxed):
    """A receiver of datagrams, or a group of them. Nobody answers: it counts as reached when there is a way."""

    def __init__(self, sock: socket.socket, size: int, tracks: Sequence[Track], timeout: float) -> None:
        super().__init__(tracks)
        self._socket = sock
        self._size = size
        self._timeout = timeout
        self.sent = 0

    @classmethod
    async def open(
        cls, where: Destination, tracks: Sequence[Track], egress: Egress, connect: float, timeout: float
    ) -> UdpTarget:
        found = await egress.resolve(where.url.host, where.url.port, multicast=True, timeout=connect)
        address = found[0]
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _send_buffer(where))
            _set_ttl(sock, address[0], _ttl(where))
            sock.connect(address)
        except OSError as error:
            sock.close()
            raise Unavailable(f"no way to {where.url.authority}: {error.strerror}") from error
        return cls(sock, _datagram_size(where), tracks, timeout)

    async def send(self, packets: list[Packet]) -> None:
        data = memoryview(self.mux(packets))
        for number, start in enumerate(range(0, len(data), self._size)):
            if number and number % BURST == 0:
                await trio.sleep(PAUSE)
            await self._send(data[start : start + self._size])

    async def _send(self, datagram: memoryview) -> None:
        while True:
            try:
                self.sent += self._socket.send(datagram)
                return
            except ConnectionRefusedError:
                # Of an earlier datagram: nobody listens there yet.
                continue
            except BlockingIOError:
                with trio.move_on_after(self._timeout) as scope:
                    await trio.lowlevel.wait_writable(self._socket)
                if scope.cancelled_caught:
                    raise Unavailable(f"the network took nothing for {self._timeout:g} s") from None
            except OSError as error:
                raise Unavailable(f"the network does not take it: {error.strerror}") from error

    async def listen(self) -> None:
        await trio.sleep_forever()

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._socket.close()


class SrtTarget(_Muxed):
    """A listener of SRT, called by us."""

    def __init__(self, connection: srt.SrtSocket, tracks: Sequence[Track], timeout: float) -> None:
        super().__init__(tracks)
        self._connection = connection
        self._timeout = timeout

    @classmethod
    async def open(
        cls, where: Destination, tracks: Sequence[Track], egress: Egress, connect: float, timeout: float
    ) -> SrtTarget:
        settings = _srt_settings(where)
        found = await egress.resolve(where.url.host, where.url.port, timeout=connect)
        within = min(connect, where.number("connect_timeout", int(connect * 1000), 100, 60_000) / 1000)
        with trio.move_on_after(within):
            for address, port in found:
                try:
                    connection = await srt.connect(
                        address, port, stream_id=where.options.get("streamid", ""),
                        passphrase=where.options.get("passphrase", ""), pbkeylen=where.number("pbkeylen", 0, 0, 32),
                        latency_ms=_latency(where), timeout_ms=max(100, int((within - _MARGIN) * 1000 / len(found))),
                        options=settings,
                    )  # fmt: skip
                except srt.SrtRefused as error:
                    if address == found[-1][0]:
                        kind = Unavailable if error.code in _NOT_ANSWERED else Refused
                        raise kind(str(error)) from error
                except srt.SrtError:
                    if address == found[-1][0]:
                        raise
                else:
                    own = where.number("timeout", 0, 0, 60_000_000) / 1_000_000
                    return cls(connection, tracks, min(own, timeout) if own else timeout)
        raise Unavailable(f"{where.url.authority} does not answer in {within:g} s")

    @property
    def sent(self) -> int:
        return self._connection.bytes_sent

    async def send(self, packets: list[Packet]) -> None:
        data = self.mux(packets)
        before = self._connection.bytes_sent
        with trio.move_on_after(self._timeout) as scope:
            await self._connection.send(data)
        if scope.cancelled_caught:
            if self._connection.bytes_sent == before:
                raise Unavailable(f"the target took nothing for {self._timeout:g} s")
            raise Unavailable(f"the target is too slow: it did not take {len(data)} bytes in {self._timeout:g} s")

    async def listen(self) -> None:
        while await self._connection.receive():
            pass
        raise Unavailable("the SRT connection is over")

    async def finish(self) -> None:
        await self._connection.drain(1.0, NULL_PACKET)

    def close(self) -> None:
        self._connection.close()


def _datagram_size(where: Destination) -> int:
    size = where.number("pkt_size", DATAGRAM, TS_PACKET, 65_507)
    return size - size % TS_PACKET


def _ttl(where: Destination) -> int:
    return where.number("ttl", DEFAULT_TTL, 1, 255)


def _send_buffer(where: Destination) -> int:
    return where.number("buffer_size", SEND_BUFFER, 1316, 8 * 1024 * 1024)


def _set_ttl(sock: socket.socket, address: str, ttl: int) -> None:
    if not ipaddress.ip_address(address).is_multicast:
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)


def _latency(where: Destination) -> int | None:
    """ms; the URL has us."""
    return where.number("latency", 0, 0, 60_000_000) // 1000 if "latency" in where.options else None


def _srt_settings(where: Destination) -> dict[str, str]:
    """Options of libsrt. Raises BadRequest."""
    settings: dict[str, str] = {}
    for name, (option, divisor) in SRT_OPTIONS.items():
        text = where.options.get(name)
        if text is None:
            continue
        settings[option] = str(where.number(name, 0, 0, 10**11) // divisor) if divisor > 1 else text
    for name in ("timeout", "connect_timeout", "pbkeylen", "latency"):
        where.number(name, 0, 0, 60_000_000)
    if where.options.get("transtype", "live") != "live":
        raise BadRequest("the URL's transtype is not live")
    given = dict(settings)
    if passphrase := where.options.get("passphrase"):
        given["SRTO_PASSPHRASE"] = passphrase
    if length := where.options.get("pbkeylen"):
        given["SRTO_PBKEYLEN"] = length
    if stream_id := where.options.get("streamid"):
        given["SRTO_STREAMID"] = stream_id
    try:
        srt.check_options(given)
    except ConfigError as error:
        raise BadRequest(str(error)) from error
    return settings
