"""ID3v2.4.0 tags as timed metadata carries them (id3.org, structure and native frames)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.errors import BadRequest

#: A tag, and each frame, tells its size in 28 bits; timed metadata is small.
LONGEST_TAG = 60_000

_TEXT_FRAME = re.compile(r"T[A-Z0-9]{3}")
_UTF8 = b"\x03"


@dataclass(frozen=True, slots=True)
class Frame:
    """``type`` is TXXX (``info`` the description, ``data`` the text), another text frame (``data`` the text), or PRIV
    (``info`` the owner, ``data`` what is his)."""

    type: str
    info: str = ""
    data: str = ""


def is_supported(frame_type: str) -> bool:
    """Whether ``build_tag`` takes frames of that type."""
    return frame_type == "PRIV" or _TEXT_FRAME.fullmatch(frame_type) is not None


def build_tag(frames: Iterable[Frame]) -> bytes:
    """One tag with ``frames``. Raises BadRequest for a type that is not supported, and when it gets too long."""
    body = b"".join(map(_frame, frames))
    if len(body) > LONGEST_TAG:
        raise BadRequest(f"an ID3 tag of {len(body)} bytes is too long, {LONGEST_TAG} are allowed")
    return b"ID3\x04\0\0" + _syncsafe(len(body)) + body


def _frame(frame: Frame) -> bytes:
    if not is_supported(frame.type):
        raise BadRequest(f"frameType is not supported: [{frame.type}]")
    info, data = frame.info.replace("\0", "").encode(), frame.data.encode()
    if frame.type == "PRIV":
        content = info + b"\0" + data
    elif frame.type == "TXXX":
        content = _UTF8 + info + b"\0" + data
    else:
        content = _UTF8 + data
    return frame.type.encode() + _syncsafe(len(content)) + b"\0\0" + content


def _syncsafe(size: int) -> bytes:
    """28 bits in four bytes whose first bit is zero (6.2)."""
    return bytes((size >> 21 & 0x7F, size >> 14 & 0x7F, size >> 7 & 0x7F, size & 0x7F))
