"""From a fragmented movie to a plain one, in place and with no media copied; and what is whole after a crash.

A finished file is ``ftyp``, one ``mdat`` with a 64 bit size around all that was there, and the final ``moov`` whose
chunk offsets lead to the samples. The steps, each synced before the next: append `Movie.final_moov` at `Movie.end`,
write `Movie.covering_header` over the 16 spare bytes, rename.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from appliance.errors import RemoteProtocolError
from appliance.media.clock import rescale
from appliance.protocols.fmp4.boxes import box, full_box
from appliance.protocols.fmp4.movie import (
    AUDIO_RUN,
    MOVIE_TIMESCALE,
    VIDEO_RUN,
    mvhd,
)

#: ``read(offset, size)`` gives the bytes of the file there, fewer at its end.
Read = Callable[[int, int], bytes]

#: Bounds on what a damaged file may make us read at once.
MAX_HEAD = 1 << 20
MAX_MOOF = 16 << 20
_NOT_SYNC = 0x00010000
_BOX = struct.Struct(">I4s")


@dataclass(slots=True)
class _TrackIndex:
    """One track as the head describes it, and its samples so far. Times in ticks of ``timescale``."""

    number: int
    timescale: int
    shift: int
    tkhd: bytes
    language: bytes
    hdlr: bytes
    media_header: bytes
    stsd: bytes
    first: int | None = None
    first_offset: int = 0
    end: int = 0
    shown_end: int = 0
    sizes: array[int] = field(default_factory=lambda: array("I"))
    durations: list[list[int]] = field(default_factory=list)
    offsets: list[list[int]] = field(default_factory=list)
    sync: array[int] = field(default_factory=lambda: array("I"))
    chunks: array[int] = field(default_factory=lambda: array("Q"))
    chunk_runs: list[list[int]] = field(default_factory=list)
    has_sync_list: bool = False

    def add(self, decode_time: int, kind: int, values: Sequence[int], chunk: int) -> int:
        """The samples of one run, whose bytes begin at ``chunk`` of the file; returns how many bytes they are."""
        video = kind == VIDEO_RUN
        step = 4 if video else 2
        sizes = values[1::step]
        count = len(sizes)
        if self.first is None:
            self.first = self.end = decode_time
            self.first_offset = _signed(values[3]) if video else 0
        elif decode_time > self.end and self.durations:
            self._stretch(decode_time - self.end)
        number = len(self.sizes)
        for at, duration in enumerate(values[0::step]):
            _extend(self.durations, duration)
            if video:
                # A file that ends between B-frames shows its last frame after others that were decoded later.
                self.shown_end = max(self.shown_end, self.end + _signed(values[4 * at + 3]) + duration)
            self.end += duration
        if video:
            self.has_sync_list = True
            for flags, offset in zip(values[2::4], values[3::4], strict=True):
                number += 1
                if not flags & _NOT_SYNC:
                    self.sync.append(number)
                _extend(self.offsets, _signed(offset))
        self.sizes.extend(sizes)
        self.chunks.append(chunk)
        if not self.chunk_runs or self.chunk_runs[-1][1] != count:
            self.chunk_runs.append([len(self.chunks), count])
        return sum(sizes)

    def _stretch(self, gap: int) -> None:
        """Nothing was written for ``gap`` ticks: the last sample stands that long."""
        last = self.durations[-1]
        last[0] -= 1
        duration = last[1]
        if not last[0]:
            self.durations.pop()
        _extend(self.durations, duration + gap)
        self.end += gap

    # The final boxes

    @property
    def presentation_start(self) -> int:
        """When the first sample is shown, in ticks of the movie."""
        return rescale((self.first or 0) + self.first_offset - self.shift, self.timescale, MOVIE_TIMESCALE)

    @property
    def media_duration(self) -> int:
        return self.end - (self.first or 0)

    @property
    def shown_duration(self) -> int:
        """From the first sample shown to the end of the last, in ticks of the movie."""
        ticks = max(self.media_duration, self.shown_end - (self.first or 0) - self.first_offset)
        return rescale(ticks, self.timescale, MOVIE_TIMESCALE)

    @property
    def movie_duration(self) -> int:
        return max(0, self.presentation_start) + self.shown_duration

    def trak(self) -> bytes:
        tkhd = full_box(b"tkhd", 1, 7, struct.pack(">QQI4xQ8x", 0, 0, self.number, self.movie_duration), self.tkhd)
        mdhd = full_box(b"mdhd", 1, 0, struct.pack(">QQIQ", 0, 0, self.timescale, self.media_duration), self.language,
                        bytes(2))  # fmt: skip
        stbl = box(b"stbl", self.stsd, *self._tables())
        return box(
            b"trak", tkhd, self._edits(), box(b"mdia", mdhd, self.hdlr, box(b"minf", self.media_header, stbl))
        )

    def _edits(self) -> bytes:
        start = self.presentation_start
        length = self.shown_duration
        entries = []
        media_time = self.first_offset
        if start > 0:
            entries.append(struct.pack(">QqI", start, -1, 0x10000))
        elif start < 0:
            media_time += rescale(-start, MOVIE_TIMESCALE, self.timescale)
        if not entries and not media_time:
            return b""
        entries.append(struct.pack(">QqI", length, media_time, 0x10000))
        return box(b"edts", full_box(b"elst", 1, 0, struct.pack(">I", len(entries)), *entries))

    def _tables(self) -> Iterator[bytes]:
        yield full_box(b"stts", 0, 0, _pairs(self.durations))
        if any(offset for _, offset in self.offsets):
            yield full_box(b"ctts", 1, 0, _pairs(self.offsets))
        if self.has_sync_list and len(self.sync) < len(self.sizes):
            yield full_box(b"stss", 0, 0, struct.pack(">I", len(self.sync)), _big_endian(self.sync))
        runs = b"".join(struct.pack(">III", first, count, 1) for first, count in self.chunk_runs)
        yield full_box(b"stsc", 0, 0, struct.pack(">I", len(self.chunk_runs)), runs)
        yield full_box(b"stsz", 0, 0, struct.pack(">II", 0, len(self.sizes)), _big_endian(self.sizes))
        yield full_box(b"co64", 0, 0, struct.pack(">I", len(self.chunks)), _big_endian(self.chunks))


class Movie:
    """The index of a growing movie: give it the head, then each fragment, as they are written.

    ``end`` is the offset behind the last one. Raises RemoteProtocolError for bytes that no MovieWriter made.
    """

    def __init__(self, head: bytes) -> None:
        self._tracks: dict[int, _TrackIndex] = {}
        spare = -1
        at = 0
        for kind, start, end in _boxes(head, 0, len(head)):
            if kind == b"free" and spare < 0:
                spare = start - 8
            elif kind == b"moov":
                self._read_moov(head, start, end)
            at = end
        if spare < 0 or at != len(head) or not self._tracks:
            raise RemoteProtocolError("not the head of a movie of ours")
        self._spare = spare
        self.end = len(head)
        self.samples = 0

    def add(self, fragment: bytes) -> None:
        """``moof`` and ``mdat``, whole."""
        size, kind = _BOX.unpack_from(fragment) if len(fragment) >= 16 else (0, b"")
        if kind != b"moof" or not 16 <= size <= len(fragment) - 8:
            raise RemoteProtocolError("not a movie fragment")
        data_size, data_kind = _BOX.unpack_from(fragment, size)
        if data_kind != b"mdat" or size + data_size != len(fragment):
            raise RemoteProtocolError("a movie fragment without its data")
        self.add_moof(fragment[:size], data_size)

    def add_moof(self, moof: bytes, data_size: int) -> None:
        """``moof`` alone; its ``mdat`` of ``data_size`` bytes (header included) follows in the file."""
        runs = [_read_traf(moof, start, end) for kind, start, end in _boxes(moof, 8, len(moof)) if kind == b"traf"]
        total = 8
        for number, _, kind, values, offset in runs:
            if number not in self._tracks:
                raise RemoteProtocolError("a fragment of an unknown track")
            size = sum(values[1 :: 4 if kind == VIDEO_RUN else 2])
            if offset != len(moof) + total:
                raise RemoteProtocolError("a fragment whose samples lie elsewhere")
            total += size
        if total != data_size or not runs:
            raise RemoteProtocolError("a fragment that is not as long as its samples")
        for number, decode_time, kind, values, offset in runs:
            self._tracks[number].add(decode_time, kind, values, self.end + offset)
            self.samples += len(values) // (4 if kind == VIDEO_RUN else 2)
        self.end += len(moof) + data_size

    @property
    def duration_ms(self) -> int:
        """From the first to the end of the last sample shown."""
        shown = [track for track in self._tracks.values() if track.first is not None]
        if not shown:
            return 0
        start = min(max(0, track.presentation_start) for track in shown)
        return rescale(max(track.movie_duration for track in shown) - start, MOVIE_TIMESCALE, 1000)

    @property
    def final_size(self) -> int:
        """The most bytes that the final ``moov`` takes as it is now."""
        return 4096 + sum(
            1024 + len(track.stsd) + 4 * len(track.sizes) + 8 * (len(track.durations) + len(track.offsets))
            + 4 * len(track.sync) + 8 * len(track.chunks) + 12 * len(track.chunk_runs)
            for track in self._tracks.values()
        )  # fmt: skip

    def final_moov(self) -> bytes:
        """To be appended at ``end``."""
        tracks = [track for track in self._tracks.values() if track.sizes]
        duration = max((track.movie_duration for track in tracks), default=0)
        head = mvhd(duration, max(self._tracks) + 1)
        return box(b"moov", head, *(track.trak() for track in tracks))

    def covering_header(self) -> tuple[int, bytes]:
        """(offset, bytes): makes one ``mdat`` of everything from there to the final ``moov``."""
        return self._spare, struct.pack(">I4sQ", 1, b"mdat", self.end - self._spare)

    def _read_moov(self, head: bytes, start: int, end: int) -> None:
        for kind, inner, inner_end in _boxes(head, start, end):
            if kind == b"trak":
                track = _read_trak(head, inner, inner_end)
                self._tracks[track.number] = track


@dataclass(slots=True)
class Survey:
    """What a file holds: ``movie`` up to its last whole fragment; None where not even the head is whole.
    ``finished`` is true when it is a plain movie already, complete with its ``moov``."""

    movie: Movie | None
    finished: bool


def survey(read: Read, size: int) -> Survey:
    """Look through a file of ``size`` bytes that a crash left. Never raises for what is in it."""
    if _is_finished(read, size):
        return Survey(None, True)
    try:
        movie = Movie(_read_head(read, size))
    except RemoteProtocolError:
        return Survey(None, False)
    while movie.end + 16 <= size:
        header = read(movie.end, 8)
        if len(header) < 8:
            break
        moof_size, kind = _BOX.unpack(header)
        if kind != b"moof" or not 16 <= moof_size <= MAX_MOOF or movie.end + moof_size + 8 > size:
            break
        piece = read(movie.end, moof_size + 8)
        if len(piece) < moof_size + 8:
            break
        data_size, data_kind = _BOX.unpack_from(piece, moof_size)
        if data_kind != b"mdat" or movie.end + moof_size + data_size > size:
            break
        try:
            movie.add_moof(piece[:moof_size], data_size)
        except RemoteProtocolError:
            break
    return Survey(movie, False)


def _is_finished(read: Read, size: int) -> bool:
    """``ftyp``, the covering ``mdat``, and a ``moov`` up to the very end."""
    start = read(0, 8)
    if len(start) < 8 or start[4:] != b"ftyp":
        return False
    at = _BOX.unpack(start)[0]
    header = read(at, 16)
    if len(header) < 16 or header[:8] != b"\0\0\0\1mdat":
        return False
    moov = at + int(struct.unpack_from(">Q", header, 8)[0])
    tail = read(moov, 8)
    return len(tail) == 8 and tail[4:] == b"moov" and moov + _BOX.unpack(tail)[0] <= size


def covered_end(read: Read) -> int:
    """Where the final ``moov`` of a finished movie ends: what lies behind is spare room."""
    at: int = _BOX.unpack(read(0, 8))[0]
    covered: int = struct.unpack_from(">Q", read(at, 16), 8)[0]
    size: int = _BOX.unpack(read(at + covered, 8))[0]
    return at + covered + size


def _read_head(read: Read, size: int) -> bytes:
    at = 0
    while at + 8 <= size and at < MAX_HEAD:
        box_size, kind = _BOX.unpack(read(at, 8))
        if box_size < 8 or kind not in (b"ftyp", b"free", b"moov"):
            break
        if at + box_size > min(size, MAX_HEAD):
            break
        at += box_size
        if kind == b"moov":
            return read(0, at)
    raise RemoteProtocolError("the head of the movie is not whole")


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of contents, end) of each box."""
    while at + 8 <= end:
        size, kind = _BOX.unpack_from(data, at)
        if size < 8 or at + size > end:
            raise RemoteProtocolError("a box that is longer than what holds it")
        yield kind, at + 8, at + size
        at += size


def _read_traf(moof: bytes, start: int, end: int) -> tuple[int, int, int, Sequence[int], int]:
    """(track number, decode time, kind of run, its values, data offset)."""
    # tfhd 16, tfdt 20, trun 20 and its entries: the only form that MovieWriter has.
    if end - start < 56:
        raise RemoteProtocolError("a track fragment that is too short")
    number = struct.unpack_from(">12xI", moof, start)[0]
    decode_time = struct.unpack_from(">12xQ", moof, start + 16)[0]
    kind, count, offset = struct.unpack_from(">8xIIi", moof, start + 36)
    width = 4 if kind == VIDEO_RUN else 2
    if kind not in (VIDEO_RUN, AUDIO_RUN) or start + 56 + 4 * width * count != end or not count:
        raise RemoteProtocolError("a track run of another form")
    return number, decode_time, kind, struct.unpack_from(f">{width * count}I", moof, start + 56), offset


def _read_trak(head: bytes, start: int, end: int) -> _TrackIndex:
    found: dict[bytes, tuple[int, int]] = {}
    headers = b""
    stack = [(start, end)]
    while stack:
        for kind, inner, inner_end in _boxes(head, *stack.pop()):
            if kind in (b"mdia", b"minf", b"stbl", b"edts"):
                stack.append((inner, inner_end))
            found[kind] = (inner, inner_end)
            if kind in (b"vmhd", b"smhd", b"dinf"):
                headers += head[inner - 8 : inner_end]
    try:
        tkhd, mdhd, hdlr, stsd = (found[kind] for kind in (b"tkhd", b"mdhd", b"hdlr", b"stsd"))
        number = struct.unpack_from(">20xI", head, tkhd[0])[0]
        timescale = struct.unpack_from(">20xI", head, mdhd[0])[0]
        shift = struct.unpack_from(">16xq", head, found[b"elst"][0])[0] if b"elst" in found else 0
    except (KeyError, struct.error):
        raise RemoteProtocolError("a track of another form") from None
    if not number or not timescale:
        raise RemoteProtocolError("a track without number or timescale")
    return _TrackIndex(
        number=number, timescale=timescale, shift=shift, tkhd=head[tkhd[0] + 44 : tkhd[1]],
        language=head[mdhd[0] + 32 : mdhd[0] + 34], hdlr=head[hdlr[0] - 8 : hdlr[1]], media_header=headers,
        stsd=head[stsd[0] - 8 : stsd[1]],
    )  # fmt: skip


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _extend(runs: list[list[int]], value: int) -> None:
    if runs and runs[-1][1] == value:
        runs[-1][0] += 1
    else:
        runs.append([1, value])


def _pairs(runs: Sequence[Sequence[int]]) -> bytes:
    flat = [number & 0xFFFFFFFF for run in runs for number in run]
    return struct.pack(f">I{len(flat)}I", len(runs), *flat)


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values = values[:]
        values.byteswap()
    return values.tobytes()


__all__ = ["Movie", "Read", "Survey", "covered_end", "survey"]
