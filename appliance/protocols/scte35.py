"""SCTE 35: the splice information section of a splice_insert, as EXT-X-DATERANGE carries it."""

from __future__ import annotations

from appliance.protocols.mpegts.psi import crc32

_TICKS = (1 << 33) - 1
_SPLICE_INSERT = 5


def splice_insert(identifier: int, time: int, *, out: bool, duration: int = 0, auto_return: bool = False) -> bytes:
    """A whole splice_info_section (SCTE 35 9.6, 9.7.3).

    ``time`` and ``duration`` are 90 kHz ticks; no break_duration is written where ``duration`` is 0.
    """
    flags = (0x80 if out else 0) | 0x40 | (0x20 if duration else 0) | 0x0F
    command = identifier.to_bytes(4, "big") + bytes((0x7F, flags)) + (0xFE << 32 | time & _TICKS).to_bytes(5, "big")
    if duration:
        command += ((0xFE if auto_return else 0x7E) << 32 | min(duration, _TICKS)).to_bytes(5, "big")
    # unique_program_id, avail_num and avails_expected: not used.
    command += b"\0\1\0\0"
    body = bytes(7) + (0xFFF << 12 | len(command)).to_bytes(3, "big") + bytes((_SPLICE_INSERT,)) + command + b"\0\0"
    head = (0xFC3 << 12 | len(body) + 4).to_bytes(3, "big")
    section = head + body
    return section + crc32(section).to_bytes(4, "big")
