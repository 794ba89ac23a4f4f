"""The two shapes that every ISO base media file box has."""

from __future__ import annotations

import struct

_SIZE_AND_TYPE = struct.Struct(">I4s")
_FULL_BOX = struct.Struct(">I4sI")


def box(kind: bytes, *contents: bytes) -> bytes:
    """A box of type ``kind`` (four bytes) around ``contents``."""
    body = b"".join(contents)
    return _SIZE_AND_TYPE.pack(8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *contents: bytes) -> bytes:
    """A box that carries a version (8 bits) and flags (24 bits)."""
    body = b"".join(contents)
    return _FULL_BOX.pack(12 + len(body), kind, version << 24 | flags) + body
