"""NAL units: Annex B byte streams (H.264/H.265 Annex B) and length-prefixed access units (ISO/IEC 14496-15)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from appliance.errors import RemoteProtocolError

START_CODE = b"\0\0\0\1"
#: More units than this in one access unit are an attack, not video (the largest level has 600 slices).
MAX_UNITS = 8192
#: All ids of SPS and PPS, and some units that are neither.
MAX_PARAMETER_SETS = 320

_TOO_MANY = f"more than {MAX_UNITS} NAL units in one access unit"


def split_annexb(data: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream, without start codes and padding; empty ones are left out.

    Raises RemoteProtocolError when anything but zeros comes before the first start code, and for too many units.
    """
    head, *units = data.split(b"\0\0\1", MAX_UNITS + 1)
    if len(units) > MAX_UNITS:
        raise RemoteProtocolError(_TOO_MANY)
    if head.strip(b"\0"):
        raise RemoteProtocolError("no start code at the beginning of an Annex B access unit")
    # A NAL unit never ends in a zero byte, so zeros at its end are padding or the long form of the next start code.
    return [unit for unit in [unit.rstrip(b"\0") for unit in units] if unit]


def split_prefixed(data: bytes, length_size: int = 4) -> list[bytes]:
    """The NAL units of a length-prefixed access unit; empty ones are left out.

    ``length_size`` is 1, 2 or 4. Raises RemoteProtocolError when a length points past the end, and for too many units.
    """
    units: list[bytes] = []
    position, end = 0, len(data)
    for _ in range(MAX_UNITS):
        if position >= end:
            return units
        start = position + length_size
        position = start + int.from_bytes(data[position:start], "big")
        if start > end or position > end:
            raise RemoteProtocolError("NAL unit length points past the end of the access unit")
        if position > start:
            units.append(data[start:position])
    if position < end:
        raise RemoteProtocolError(_TOO_MANY)
    return units


def join_prefixed(units: Iterable[bytes]) -> bytes:
    """NAL units as one access unit with 4-byte lengths."""
    parts: list[bytes] = []
    for unit in units:
        parts.append(len(unit).to_bytes(4, "big"))
        parts.append(unit)
    return b"".join(parts)


def join_annexb(units: Iterable[bytes]) -> bytes:
    """NAL units as an Annex B byte stream with 4-byte start codes."""
    parts: list[bytes] = []
    for unit in units:
        parts.append(START_CODE)
        parts.append(unit)
    return b"".join(parts)


def annexb_to_prefixed(data: bytes) -> bytes:
    """An Annex B access unit with 4-byte lengths instead of start codes."""
    return join_prefixed(split_annexb(data))


def prefixed_to_annexb(data: bytes, parameter_sets: Iterable[bytes] = ()) -> bytes:
    """A canonical (4-byte length) access unit as an Annex B one, ``parameter_sets`` before it."""
    return join_annexb([*parameter_sets, *split_prefixed(data)])


def distinct(units: Iterable[bytes]) -> list[bytes]:
    """``units`` without doubles, in order. Raises RemoteProtocolError for more than a stream can have."""
    kept = list(dict.fromkeys(units))
    if len(kept) > MAX_PARAMETER_SETS:
        raise RemoteProtocolError("too many parameter sets in one access unit")
    return kept


#: What a table for ``canonical`` says of a NAL unit by the first byte of its header.
KEEP, KEY, DROP, COLLECT = 0, 1, 2, 4

_HEAD = Struct(">IB").unpack_from
_EACH_UNIT = range(MAX_UNITS)


def canonical(payload: bytes, length_size: int, kinds: bytes) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """A length-prefixed access unit as (with 4-byte lengths and without what is dropped, has it a KEY unit, collected).

    ``kinds`` holds KEEP, KEY, DROP or COLLECT for each of the 256 values of a NAL unit's first byte. ``payload`` itself
    comes back when there is nothing to do. Raises RemoteProtocolError.
    """
    if length_size != 4:
        return canonical_units(split_prefixed(payload, length_size), kinds)
    seen = position = 0
    last = len(payload) - 4
    for _ in _EACH_UNIT:
        if position >= last:
            break
        size, head = _HEAD(payload, position)
        kind = kinds[head] if size else DROP
        if kind > KEY:
            return canonical_units(split_prefixed(payload), kinds)
        seen |= kind
        position += size + 4
    if position != last + 4:
        # An empty unit or rubbish at the end, or too many units; splitting tells which.
        return canonical_units(split_prefixed(payload), kinds)
    return payload, seen != 0, ()


def canonical_units(units: Iterable[bytes], kinds: bytes) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """The same for the NAL units of an access unit, none of them empty."""
    kept: list[bytes] = []
    collected: list[bytes] = []
    keyframe = False
    for unit in units:
        kind = kinds[unit[0]]
        if kind <= KEY:
            kept.append(unit)
            keyframe = keyframe or kind == KEY
        elif kind == COLLECT:
            collected.append(unit)
    return join_prefixed(kept), keyframe, tuple(collected)
