"""SCTE 35: the splice information section of a splice_insert, as EXT-X-DATERANGE and transport streams carry it."""

from __future__ import annotations

from typing import Final, NamedTuple

from appliance.errors import RemoteProtocolError
from appliance.protocols.mpegts.psi import crc32

_TABLE: Final = 0xFC

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


class SpliceInsert(NamedTuple):
    """``time`` and ``duration`` are 90 kHz ticks; ``time`` None: at once; ``duration`` 0: not told."""

    id: int
    out: bool
    time: int | None
    duration: int
    auto_return: bool


def read_splice_insert(section: bytes) -> SpliceInsert | None:
    """A whole splice_info_section; None for other commands, for encrypted ones, and where an event is called off.

    Raises RemoteProtocolError.
    """
    if len(section) < 20 or section[0] != _TABLE or crc32(section):
        raise RemoteProtocolError("not a splice information section")
    if section[4] & 0x80 or section[13] != _SPLICE_INSERT:
        return None
    adjust = int.from_bytes(section[4:9], "big") & _TICKS
    body = section[14:-4]
    if len(body) < 6:
        raise RemoteProtocolError("splice_insert ends early")
    if body[4] & 0x80:
        return None
    identifier, flags = int.from_bytes(body[:4], "big"), body[5]
    at, time = 6, None
    immediate = flags & 0x10
    if flags & 0x40:
        if not immediate:
            time, at = _splice_time(body, at)
    else:
        # Component by component: the first one's time is taken for all.
        count, at = _byte(body, at), at + 1
        for _ in range(count):
            at += 1
            if not immediate:
                each, at = _splice_time(body, at)
                time = each if time is None else time
    duration, auto_return = 0, False
    if flags & 0x20:
        auto_return = _byte(body, at) & 0x80 != 0
        duration = _ticks(body, at)
    if time is not None:
        time = time + adjust & _TICKS
    return SpliceInsert(identifier, flags & 0x80 != 0, time, duration, auto_return)


def _splice_time(body: bytes, at: int) -> tuple[int | None, int]:
    return (_ticks(body, at), at + 5) if _byte(body, at) & 0x80 else (None, at + 1)


def _byte(body: bytes, at: int) -> int:
    if at >= len(body):
        raise RemoteProtocolError("splice_insert ends early")
    return body[at]


def _ticks(body: bytes, at: int) -> int:
    if at + 5 > len(body):
        raise RemoteProtocolError("splice_insert ends early")
    return int.from_bytes(body[at : at + 5], "big") & _TICKS
