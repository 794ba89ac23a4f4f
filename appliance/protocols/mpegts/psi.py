"""Sections of program specific information: their check sum, and how they are cut into transport packets."""

from __future__ import annotations

PACKET = 188
SYNC = 0x47
PAT_PID = 0
NULL_PID = 0x1FFF
#: Stuffing between packets, which every reader leaves out.
NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * 184

PAT_TABLE = 0x00
PMT_TABLE = 0x02


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc32(data: bytes) -> int:
    """CRC-32/MPEG-2 (13818-1 annex A); 0 over a whole section with its own check sum."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value << 8 ^ _CRC[value >> 24 ^ byte]) & 0xFFFFFFFF
    return value


def section(table: int, extension: int, version: int, body: bytes) -> bytes:
    """A whole section in the long form, the only one of its table (13818-1 2.4.4.11).

    ``extension`` is the 16-bit number behind the length (transport stream id, program number), ``version`` 0 to 31.
    """
    size = len(body) + 9
    head = bytes((table, 0xB0 | size >> 8, size & 0xFF, extension >> 8, extension & 0xFF, 0xC1 | version << 1, 0, 0))
    return head + body + crc32(head + body).to_bytes(4, "big")


def section_packets(pid: int, whole: bytes) -> list[bytes]:
    """Transport packets that carry one section, with continuity counters from 0; the rest is filled up with ones."""
    data = b"\0" + whole
    packets = []
    for number, at in enumerate(range(0, len(data), 184)):
        head = bytes((SYNC, (0 if number else 0x40) | pid >> 8, pid & 0xFF, 0x10 | number & 15))
        packets.append(head + data[at : at + 184].ljust(184, b"\xff"))
    return packets
