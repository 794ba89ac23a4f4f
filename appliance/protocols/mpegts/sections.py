"""Tables of program specific information, read: sections gathered from packets, the PAT and the PMT (13818-1 2.4.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.errors import RemoteProtocolError
from appliance.protocols.mpegts.psi import NULL_PID, PAT_TABLE, PMT_TABLE, crc32

#: A PAT or PMT section is no longer than this.
MAX_SECTION: Final = 1024
_HEAD: Final = 3


@dataclass(frozen=True, slots=True)
class ElementaryStream:
    """One row of a program map: ``descriptors`` are (tag, body) in order."""

    pid: int
    stream_type: int
    descriptors: tuple[tuple[int, bytes], ...] = ()

    @property
    def registration(self) -> bytes:
        """The format identifier of four bytes, b"" when there is none."""
        return self.descriptor(0x05)[:4]

    @property
    def language(self) -> str:
        """ISO 639 code of three letters, "" when it is not told."""
        text = self.descriptor(0x0A)[:3]
        return text.decode("ascii").lower() if len(text) == 3 and text.isalpha() else ""

    def has(self, tag: int) -> bool:
        return any(kind == tag for kind, _ in self.descriptors)

    def descriptor(self, tag: int) -> bytes:
        return next((body for kind, body in self.descriptors if kind == tag), b"")


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """A PMT: ``version`` 0 to 31, ``clock_pid`` carries the PCR."""

    program: int
    version: int
    clock_pid: int
    streams: tuple[ElementaryStream, ...]


class SectionReader:
    """Puts the sections of one PID together. ``start`` and ``more`` give those that are whole; 1 KiB waits at most."""

    __slots__ = ("_data", "_waiting")

    def __init__(self) -> None:
        self._data = b""
        self._waiting = False

    def start(self, payload: bytes) -> list[bytes]:
        """A packet in which a section begins (its payload with the pointer)."""
        if not payload:
            return []
        pointer = payload[0] + 1
        before = self.more(payload[1:pointer]) if self._waiting else []
        self._data, self._waiting = payload[pointer:], True
        return before + self._whole()

    def more(self, payload: bytes) -> list[bytes]:
        """A packet in which none begins."""
        if not self._waiting:
            return []
        self._data += payload
        return self._whole()

    def drop(self) -> None:
        """A packet was lost."""
        self._data, self._waiting = b"", False

    def _whole(self) -> list[bytes]:
        sections = []
        while self._waiting:
            data = self._data
            if data[:1] == b"\xff":
                self.drop()
                break
            if len(data) < _HEAD:
                break
            size = _HEAD + ((data[1] & 0x0F) << 8 | data[2])
            if size > MAX_SECTION:
                self.drop()
                break
            if len(data) < size:
                break
            sections.append(data[:size])
            self._data = data[size:]
        return sections


def parse_pat(section: bytes) -> dict[int, int]:
    """Program number -> PID of its map, in order. Raises RemoteProtocolError; {} when it is not valid yet."""
    body, current = _body(section, PAT_TABLE)
    if not current:
        return {}
    programs = {}
    for at in range(0, len(body) - 3, 4):
        number = body[at] << 8 | body[at + 1]
        if number:
            programs[number] = (body[at + 2] & 0x1F) << 8 | body[at + 3]
    return programs


def parse_pmt(section: bytes) -> ProgramMap | None:
    """Raises RemoteProtocolError; None when it is not valid yet."""
    body, current = _body(section, PMT_TABLE)
    if not current:
        return None
    if len(body) < 4:
        raise RemoteProtocolError("PMT ends early")
    at = 4 + ((body[2] & 0x0F) << 8 | body[3])
    streams = []
    while at + 5 <= len(body):
        kind, pid = body[at], (body[at + 1] & 0x1F) << 8 | body[at + 2]
        end = at + 5 + ((body[at + 3] & 0x0F) << 8 | body[at + 4])
        if end > len(body):
            raise RemoteProtocolError("PMT ends early")
        if 0x10 <= pid < NULL_PID:
            streams.append(ElementaryStream(pid, kind, tuple(_descriptors(body[at + 5 : end]))))
        at = end
    return ProgramMap(
        program=section[3] << 8 | section[4], version=section[5] >> 1 & 31,
        clock_pid=(body[0] & 0x1F) << 8 | body[1], streams=tuple(streams),
    )  # fmt: skip


def _body(section: bytes, table: int) -> tuple[bytes, bool]:
    """What is between head and check sum, and whether it holds now."""
    if len(section) < 12 or section[0] != table or not section[1] & 0x80:
        raise RemoteProtocolError(f"not a section of table {table}")
    if crc32(section):
        raise RemoteProtocolError("check sum of a table is wrong")
    return section[8:-4], bool(section[5] & 1)


def _descriptors(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 2 <= len(data):
        end = at + 2 + data[at + 1]
        found.append((data[at], data[at + 2 : end]))
        at = end
    return found
