"""RTCP (RFC 3550 section 6): sender reports in, receiver reports out."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, pack

from appliance.errors import RemoteProtocolError

SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, BYE = 200, 201, 202, 203
_REPORT = Struct(">IIII")
#: Seconds from 1900 to 1970.
NTP_EPOCH = 2_208_988_800


@dataclass(frozen=True, slots=True)
class SenderReport:
    """``ntp`` is the sender's wall clock as 32.32 bits of seconds since 1900, ``timestamp`` the same moment in RTP."""

    ssrc: int
    ntp: int
    timestamp: int

    @property
    def seconds(self) -> float:
        """The sender's wall clock, seconds since 1970."""
        return self.ntp / (1 << 32) - NTP_EPOCH


@dataclass(frozen=True, slots=True)
class Bye:
    ssrc: int


def parse_rtcp(data: bytes) -> list[SenderReport | Bye]:
    """What of a compound packet matters to a receiver. Raises RemoteProtocolError."""
    found: list[SenderReport | Bye] = []
    position = 0
    while position < len(data):
        if len(data) - position < 4 or data[position] >> 6 != 2:
            raise RemoteProtocolError("not an RTCP packet")
        kind = data[position + 1]
        end = position + 4 + 4 * int.from_bytes(data[position + 2 : position + 4], "big")
        if end > len(data):
            raise RemoteProtocolError("RTCP packet cut off")
        if kind == SENDER_REPORT:
            if end - position < 20:
                raise RemoteProtocolError("RTCP sender report cut off")
            ssrc, high, low, timestamp = _REPORT.unpack_from(data, position + 4)
            found.append(SenderReport(ssrc, high << 32 | low, timestamp))
        elif kind == BYE and end - position >= 8:
            found.append(Bye(int.from_bytes(data[position + 4 : position + 8], "big")))
        position = end
    return found


def receiver_report(own: int, source: int, *, highest: int, lost: int, last_report: int, since_report: float) -> bytes:
    """A report on one source with our name in it (RFC 3550 section 6.4.2).

    ``highest`` is the extended highest sequence number, ``lost`` packets since the beginning, ``last_report`` the NTP
    time of the last sender report (0: none), ``since_report`` seconds since that.
    """
    middle = last_report >> 16 & 0xFFFFFFFF
    delay = min(int(since_report * 65536), 0xFFFFFFFF) if middle else 0
    report = pack(">BBHI", 0x81, RECEIVER_REPORT, 7, own)
    report += pack(">IIIIII", source, min(lost, 0x7FFFFF), highest & 0xFFFFFFFF, 0, middle, delay)
    name = b"kiln"
    text = pack(">IBB", own, 1, len(name)) + name
    text += bytes(4 - len(text) % 4)
    return report + pack(">BBH", 0x81, DESCRIPTION, len(text) // 4) + text
