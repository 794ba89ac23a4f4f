"""RTP packets, and what puts them in order (RFC 3550 section 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from appliance.errors import RemoteProtocolError

_HEADER = Struct(">BBHII")
HALF = 1 << 15
WHOLE = 1 << 16


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """``sequence`` is 16 bits, ``timestamp`` 32 bits of the media's clock, both as they came."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse_rtp(data: bytes) -> RtpPacket:
    """One datagram, or one interleaved frame. Raises RemoteProtocolError."""
    if len(data) < 12:
        raise RemoteProtocolError("RTP packet cut off")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise RemoteProtocolError("not an RTP packet")
    begin = 12 + 4 * (first & 15)
    if first & 0x10:
        if len(data) < begin + 4:
            raise RemoteProtocolError("RTP header extension cut off")
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    end = len(data)
    if first & 0x20:
        padding = data[-1]
        if not 0 < padding <= end - begin:
            raise RemoteProtocolError("broken RTP padding")
        end -= padding
    if begin > end:
        raise RemoteProtocolError("RTP packet cut off")
    return RtpPacket(second & 127, bool(second & 128), sequence, timestamp, ssrc, data[begin:end])


class InOrder:
    """Packets in the order of their sequence numbers, each once, and what never came.

    ``push`` gives back what is due: nothing while an earlier packet may still come, which is until ``depth`` packets
    wait behind the gap. Over TCP nothing is ever late: use ``depth`` 0. ``lost`` counts packets given up, ``late``
    those that came too late or twice.
    """

    def __init__(self, depth: int = 64) -> None:
        self.lost = 0
        self.late = 0
        self.highest = -1
        self.depth = depth
        self._next = -1
        self._waiting: dict[int, RtpPacket] = {}

    def push(self, packet: RtpPacket) -> list[tuple[RtpPacket, bool]]:
        """What is due now as (packet, whether packets are missing right before it)."""
        if self._next < 0:
            self._next = WHOLE + packet.sequence
        index = self._next + (packet.sequence - self._next + HALF) % WHOLE - HALF
        if index < self._next or index in self._waiting:
            self.late += 1
            return []
        self.highest = max(self.highest, index)
        if index == self._next and not self._waiting:
            self._next += 1
            return [(packet, False)]
        self._waiting[index] = packet
        due: list[tuple[RtpPacket, bool]] = []
        gap = False
        while self._waiting:
            ready = self._waiting.pop(self._next, None)
            if ready is not None:
                due.append((ready, gap))
                gap = False
                self._next += 1
            elif len(self._waiting) > self.depth:
                first = min(self._waiting)
                self.lost += first - self._next
                self._next = first
                gap = True
            else:
                break
        return due
