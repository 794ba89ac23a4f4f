"""EBML elements (RFC 8794): identifiers as they are written, sizes, values."""

from __future__ import annotations

import struct

UNKNOWN_SIZE = 0x01FFFFFFFFFFFFFF


def size_field(size: int, width: int = 0) -> bytes:
    """A size in as few bytes as it takes, or in ``width`` bytes."""
    if not width:
        width = 1
        while size >= (1 << 7 * width) - 1:
            width += 1
    return (size | 1 << 7 * width).to_bytes(width, "big")


def element(identifier: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return identifier.to_bytes((identifier.bit_length() + 7) // 8, "big") + size_field(len(body)) + body


def unsigned(identifier: int, value: int) -> bytes:
    return element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def number(identifier: int, value: float) -> bytes:
    return element(identifier, struct.pack(">d", value))


def text(identifier: int, value: str) -> bytes:
    return element(identifier, value.encode())


def void(size: int) -> bytes:
    """``size`` bytes (9 or more) that mean nothing."""
    return b"\xec" + size_field(size - 9, 8) + bytes(size - 9)


def read_header(data: bytes, at: int) -> tuple[int, int, int] | None:
    """(identifier, size, start of contents) of the element at ``at``; size -1 is unknown; None when it is not whole."""
    if at >= len(data) or not data[at]:
        return None
    id_width = 9 - data[at].bit_length()
    size_at = at + id_width
    if id_width > 4 or size_at >= len(data) or not data[size_at]:
        return None
    width = 9 - data[size_at].bit_length()
    if size_at + width > len(data):
        return None
    size = int.from_bytes(data[size_at : size_at + width], "big") & (1 << 7 * width) - 1
    if size == (1 << 7 * width) - 1:
        size = -1
    return int.from_bytes(data[at:size_at], "big"), size, size_at + width
