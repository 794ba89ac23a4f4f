"""What the disk worker has to know of a container: what is whole in a file, and what finishes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from appliance.errors import KilnError
from appliance.protocols.fmp4 import finishing as fmp4
from appliance.protocols.matroska import finishing as matroska

Read = fmp4.Read
_TS_PACKET = 188
_TS_SYNC = 0x47
_TS_CLOCK = 90_000
_TS_TAIL = 4 << 20


class Index(Protocol):
    """Follows a file as it grows."""

    @property
    def end(self) -> int:
        """The offset behind the last whole fragment."""

    def add(self, fragment: bytes) -> None: ...

    @property
    def duration_ms(self) -> int:
        """0 when the bytes don't tell."""

    @property
    def final_size(self) -> int:
        """The most bytes that finishing appends."""

    def tail(self) -> bytes:
        """To be appended at ``end``, and synced."""

    def patches(self) -> Sequence[tuple[int, bytes]]:
        """(offset, bytes) to write after that: each is short enough to be written whole or not at all."""


class Mp4Index:
    def __init__(self, movie: fmp4.Movie) -> None:
        self._movie = movie

    @property
    def end(self) -> int:
        return self._movie.end

    def add(self, fragment: bytes) -> None:
        self._movie.add(fragment)

    @property
    def duration_ms(self) -> int:
        return self._movie.duration_ms

    @property
    def final_size(self) -> int:
        return self._movie.final_size

    def tail(self) -> bytes:
        return self._movie.final_moov()

    def patches(self) -> Sequence[tuple[int, bytes]]:
        return (self._movie.covering_header(),)


class TsIndex:
    """A transport stream needs nothing at its end."""

    def __init__(self, end: int, duration_ms: int = 0) -> None:
        self.end = end
        self.duration_ms = duration_ms
        self.final_size = 0

    def add(self, fragment: bytes) -> None:
        self.end += len(fragment)

    def tail(self) -> bytes:
        return b""

    def patches(self) -> Sequence[tuple[int, bytes]]:
        return ()


class MatroskaIndex:
    def __init__(self, segment: matroska.Segment) -> None:
        self._segment = segment

    @property
    def end(self) -> int:
        return self._segment.end

    def add(self, fragment: bytes) -> None:
        self._segment.add(fragment)

    @property
    def duration_ms(self) -> int:
        return self._segment.duration_ms

    @property
    def final_size(self) -> int:
        return self._segment.final_size

    def tail(self) -> bytes:
        return self._segment.cues()

    def patches(self) -> Sequence[tuple[int, bytes]]:
        return self._segment.patches()


def index(container: str, head: bytes) -> Index:
    """For a new file that begins with ``head``. Raises RemoteProtocolError."""
    if container == "mp4":
        return Mp4Index(fmp4.Movie(head))
    if container == "mkv":
        return MatroskaIndex(matroska.Segment(head))
    return TsIndex(len(head))


def recover(container: str, read: Read, size: int) -> tuple[Index | None, int]:
    """(index of what is whole, 0), or (None, size) of a file that was finished already; (None, 0): nothing is whole."""
    if container == "mp4":
        found = fmp4.survey(read, size)
        if found.finished:
            return None, fmp4.covered_end(read)
        return (Mp4Index(found.movie), 0) if found.movie is not None and found.movie.samples else (None, 0)
    if container == "mkv":
        try:
            segment, finished = matroska.survey(read, size)
        except KilnError:
            return None, 0
        if finished:
            return None, finished
        return (MatroskaIndex(segment), 0) if segment.clusters else (None, 0)
    return _recover_ts(read, size)


def _recover_ts(read: Read, size: int) -> tuple[Index | None, int]:
    # Room that was promised to a write that never came may hold zeros.
    end = size - size % _TS_PACKET
    while end:
        start = max(0, end - _TS_PACKET * 4096)
        piece = read(start, end - start)
        while piece and piece[-_TS_PACKET] != _TS_SYNC:
            piece = piece[:-_TS_PACKET]
        if piece:
            end = start + len(piece)
            break
        end = start
    if not end:
        return None, 0
    first = _times(read(0, min(end, _TS_TAIL)))
    tail = max(0, end - _TS_TAIL)
    last = _times(read(tail - tail % _TS_PACKET, end - (tail - tail % _TS_PACKET)))
    span = (max(last) - min(first)) % (1 << 33) if first and last else 0
    return TsIndex(end, span * 1000 // _TS_CLOCK), 0


def _times(data: bytes) -> list[int]:
    """Presentation times (90 kHz) of the PES packets that begin in ``data``, which begins with a packet."""
    found = []
    for at in range(0, len(data) - _TS_PACKET + 1, _TS_PACKET):
        if not data[at + 1] & 0x40:
            continue
        body = at + 4
        if data[at + 3] & 0x20:
            body += 1 + data[body]
        head = data[body : min(body + 14, at + _TS_PACKET)]
        if len(head) == 14 and head[:3] == b"\0\0\1" and head[7] & 0x80:
            parts = head[9:14]
            found.append(
                (parts[0] >> 1 & 7) << 30 | parts[1] << 22 | (parts[2] >> 1) << 15 | parts[3] << 7 | parts[4] >> 1
            )
    return found
