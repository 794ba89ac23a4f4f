"""Payload formats: RTP packets in order become access units.

H.264 (RFC 6184), H.265 (RFC 7798), VP8 (RFC 7741), AAC (RFC 3640), Opus (RFC 7587), G.711 (RFC 3551).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from appliance.errors import RemoteProtocolError
from appliance.protocols.rtp.packet import RtpPacket

LARGEST_UNIT = 16 * 1024 * 1024
MOST_UNITS = 1024


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """``timestamp`` is the RTP one; ``parts`` are NAL units for H.264 and H.265, else one frame."""

    timestamp: int
    parts: tuple[bytes, ...]


class Depacketizer(Protocol):
    """Bounded: an access unit over LARGEST_UNIT raises RemoteProtocolError, as anything broken does."""

    def receive(self, packet: RtpPacket, gap: bool) -> list[AccessUnit]:
        """The access units that ``packet`` completes. ``gap``: packets before it are missing, so what was begun is
        given up, and so is all up to the next beginning."""


class _NalUnits:
    """What H.264 and H.265 have in common: units gathered until the marker or the next timestamp."""

    def __init__(self) -> None:
        self._units: list[bytes] = []
        self._fragments: list[bytes] | None = None
        self._size = 0
        self._timestamp = -1
        self._damaged = False

    def receive(self, packet: RtpPacket, gap: bool) -> list[AccessUnit]:
        done: list[AccessUnit] = []
        if packet.timestamp != self._timestamp:
            done = self._finish()
            self._timestamp = packet.timestamp
        if gap:
            self._damaged = True
            self._fragments = None
        if packet.payload:
            self._take(packet.payload)
        if packet.marker:
            done += self._finish()
        return done

    def _take(self, payload: bytes) -> None:
        raise NotImplementedError

    def _add(self, unit: bytes) -> None:
        if not unit:
            return
        self._grow(len(unit))
        self._units.append(unit)
        if len(self._units) > MOST_UNITS:
            raise RemoteProtocolError("too many NAL units in an access unit")

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > LARGEST_UNIT:
            raise RemoteProtocolError("access unit too large")

    def _aggregate(self, payload: bytes, position: int) -> None:
        while position + 2 <= len(payload):
            size = int.from_bytes(payload[position : position + 2], "big")
            position += 2
            if position + size > len(payload):
                raise RemoteProtocolError("aggregated NAL unit cut off")
            self._add(payload[position : position + size])
            position += size

    def _fragment(self, header: bytes, flags: int, piece: bytes) -> None:
        if flags & 0x80:
            self._fragments = [header]
        if self._fragments is None:
            self._damaged = True
            return
        self._grow(len(piece))
        self._fragments.append(piece)
        if flags & 0x40:
            self._units.append(b"".join(self._fragments))
            self._fragments = None

    def _finish(self) -> list[AccessUnit]:
        units, damaged = self._units, self._damaged or self._fragments is not None
        self._units, self._fragments, self._size, self._damaged = [], None, 0, False
        return [AccessUnit(self._timestamp, tuple(units))] if units and not damaged else []


class H264(_NalUnits):
    def _take(self, payload: bytes) -> None:
        kind = payload[0] & 31
        if 0 < kind < 24:
            self._add(payload)
        elif kind == 24:
            self._aggregate(payload, 1)
        elif kind == 28:
            if len(payload) < 3:
                raise RemoteProtocolError("fragment of a NAL unit cut off")
            self._fragment(bytes([payload[0] & 0xE0 | payload[1] & 31]), payload[1], payload[2:])
        else:
            raise RemoteProtocolError(f"H.264 packetization of kind {kind} is not supported")


class H265(_NalUnits):
    def _take(self, payload: bytes) -> None:
        if len(payload) < 3:
            raise RemoteProtocolError("H.265 packet cut off")
        kind = payload[0] >> 1 & 63
        if kind < 48:
            self._add(payload)
        elif kind == 48:
            self._aggregate(payload, 2)
        elif kind == 49:
            header = bytes([payload[0] & 0x81 | (payload[2] & 63) << 1, payload[1]])
            self._fragment(header, payload[2], payload[3:])
        else:
            raise RemoteProtocolError(f"H.265 packetization of kind {kind} is not supported")


class Vp8:
    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._timestamp = -1

    def receive(self, packet: RtpPacket, gap: bool) -> list[AccessUnit]:
        data = packet.payload
        begin, starts = _vp8_descriptor(data)
        if gap or packet.timestamp != self._timestamp:
            self._pieces, self._size = [], 0
            self._timestamp = packet.timestamp
        if not self._pieces and not starts:
            return []
        self._pieces.append(data[begin:])
        self._size += len(data) - begin
        if self._size > LARGEST_UNIT:
            raise RemoteProtocolError("frame too large")
        if not packet.marker:
            return []
        frame = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return [AccessUnit(packet.timestamp, (frame,))] if frame else []


def _vp8_descriptor(data: bytes) -> tuple[int, bool]:
    """(where the frame's bytes begin, whether they are its first) of RFC 7741 section 4.2."""
    try:
        first, position = data[0], 1
        if first & 0x80:
            extended = data[position]
            position += 1
            if extended & 0x80:
                position += 2 if data[position] & 0x80 else 1
            position += bool(extended & 0x40) + bool(extended & 0x30)
    except IndexError:
        raise RemoteProtocolError("VP8 payload descriptor cut off") from None
    if position > len(data):
        raise RemoteProtocolError("VP8 payload descriptor cut off")
    return position, bool(first & 0x10) and not first & 7


class Aac:
    """``mpeg4-generic`` in the modes AAC-hbr and AAC-lbr; ``samples`` a frame (1024 unless the configuration says so).
    Raises RemoteProtocolError for parameters that can't be."""

    def __init__(self, parameters: Mapping[str, str], samples: int = 1024) -> None:
        self._samples = samples
        lbr = parameters.get("mode", "AAC-hbr").lower() == "aac-lbr"
        self._size_bits = _small(parameters, "sizelength", 6 if lbr else 13)
        self._index_bits = _small(parameters, "indexlength", 2 if lbr else 3)
        self._delta_bits = _small(parameters, "indexdeltalength", 2 if lbr else 3)
        self._pieces: list[bytes] = []
        self._wanted = 0
        self._have = 0

    def receive(self, packet: RtpPacket, gap: bool) -> list[AccessUnit]:
        if gap:
            self._pieces = []
        sizes, position = self._headers(packet.payload)
        data = packet.payload
        if len(sizes) == 1 and (self._pieces or sizes[0] > len(data) - position):
            return self._fragment(packet, sizes[0], data[position:])
        self._pieces = []
        units = []
        for number, size in enumerate(sizes):
            if position + size > len(data):
                raise RemoteProtocolError("AAC access unit cut off")
            if size:
                timestamp = (packet.timestamp + number * self._samples) & 0xFFFFFFFF
                units.append(AccessUnit(timestamp, (data[position : position + size],)))
            position += size
        return units

    def _headers(self, data: bytes) -> tuple[list[int], int]:
        """Sizes of the access units, and where the first begins (RFC 3640 section 3.2.1)."""
        if self._size_bits == 0:
            return [len(data)], 0
        if len(data) < 2:
            raise RemoteProtocolError("AAC packet cut off")
        bits = int.from_bytes(data[:2], "big")
        end = 2 + (bits + 7) // 8
        if end > len(data):
            raise RemoteProtocolError("AAC headers cut off")
        headers = int.from_bytes(data[2:end], "big")
        left = (end - 2) * 8
        stop = left - bits
        sizes: list[int] = []
        index_bits = self._index_bits
        while left - stop >= self._size_bits + index_bits:
            left -= self._size_bits
            sizes.append(headers >> left & ((1 << self._size_bits) - 1))
            left -= index_bits
            index_bits = self._delta_bits
        return sizes, end

    def _fragment(self, packet: RtpPacket, size: int, piece: bytes) -> list[AccessUnit]:
        if not self._pieces:
            self._wanted, self._have = size, 0
        self._pieces.append(piece)
        self._have += len(piece)
        if self._have > self._wanted or size != self._wanted:
            self._pieces = []
            raise RemoteProtocolError("fragments of an AAC access unit don't fit together")
        if self._have < self._wanted:
            return []
        unit = AccessUnit(packet.timestamp, (b"".join(self._pieces),))
        self._pieces = []
        return [unit]


class OneFrame:
    """Each packet is a frame by itself: Opus, G.711."""

    def receive(self, packet: RtpPacket, gap: bool) -> list[AccessUnit]:
        return [AccessUnit(packet.timestamp, (packet.payload,))] if packet.payload else []


def _small(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) > 32:
        raise RemoteProtocolError(f"broken AAC parameter {name}: {text[:16]}")
    return int(text)
