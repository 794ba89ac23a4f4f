"""Fragmented MP4 into frames (ISO/IEC 14496-12). Sans-IO: the init section and fragments in, in any pieces.

A sample is given as soon as its bytes are there. Bounded: boxes that describe are 1 MiB at most, one sample 16 MiB.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import aac, av1, h264, h265, opus, vp9
from appliance.media.track import Track

MOST_HEAD: Final = 1024 * 1024
MOST_SAMPLE: Final = 16 * 1024 * 1024
MOST_SAMPLES: Final = 50_000
MOST_TRACKS: Final = 16
_LONGEST: Final = 1 << 62
_NOT_SYNC: Final = 0x00010000
_BOX: Final = struct.Struct(">I4s")

#: (canonical payload, is it a key frame, parameter sets in it).
Canonical = Callable[[bytes], tuple[bytes, bool, tuple[bytes, ...]]]


class Frame(NamedTuple):
    """One frame, in the order of ``contracts.Input.send``; times in ticks of the track, as the fragments say them with
    the edit list applied."""

    track: Track
    pts: int
    dts: int
    keyframe: bool
    payload: bytes
    duration: int


@dataclass(slots=True)
class _Track:
    """One trak: its Track, what makes its samples canonical, and the defaults of its samples."""

    track: Track
    canonical: Canonical | None
    updated: Callable[[bytes, tuple[bytes, ...]], bytes] | None
    made: Callable[[bytes], Track]
    shift: int
    duration: int = 0
    size: int = 0
    flags: int = 0
    next_time: int = 0


class _Sample(NamedTuple):
    """Where in the file, and what."""

    offset: int
    size: int
    owner: _Track
    pts: int
    dts: int
    keyframe: bool
    duration: int


@dataclass(slots=True)
class _Fragment:
    """What a traf says for its runs."""

    owner: _Track
    base: int
    time: int
    duration: int
    size: int
    flags: int


@dataclass(slots=True)
class Demuxer:
    """``receive_data`` takes bytes as they come and gives frames in the order of the file. It raises
    RemoteProtocolError for what is no fragmented MP4 and for what is encrypted; the demuxer is of no use then.

    ``tracks`` are those of the init section that are carried; ``unsupported`` names the others.
    """

    unsupported: list[str] = field(default_factory=list)
    _tracks: dict[int, _Track] = field(default_factory=dict)
    _buffer: bytearray = field(default_factory=bytearray)
    #: Where in the file the buffer begins, and up to where nothing is wanted.
    _at: int = 0
    _skip_to: int = 0
    _mdat_end: int = 0
    _pending: list[_Sample] = field(default_factory=list)
    _moof: int = 0
    _known: bool = False

    @property
    def tracks(self) -> list[Track]:
        return [each.track for each in self._tracks.values()]

    def receive_data(self, data: bytes) -> Iterator[Frame]:
        """Read it to its end before the next call: frames are made as they are asked for."""
        self._buffer += data
        while self._step():
            yield from self._samples()

    def _step(self) -> bool:
        """Take what is at the beginning of the buffer; whether there may be more."""
        buffer = self._buffer
        if self._skip_to > self._at:
            gone = min(self._skip_to - self._at, len(buffer))
            del buffer[:gone]
            self._at += gone
            return self._skip_to == self._at
        if self._at < self._mdat_end:
            return self._media()
        if len(buffer) < 8:
            return False
        size, kind = _BOX.unpack_from(buffer)
        head = 8
        if size == 1:
            if len(buffer) < 16:
                return False
            size, head = int.from_bytes(buffer[8:16], "big"), 16
        if not head <= size < _LONGEST:
            raise RemoteProtocolError("MP4: a box of an impossible size")
        if kind == b"mdat":
            self._mdat_end = self._at + size
            del buffer[:head]
            self._at += head
        elif kind in (b"moov", b"moof"):
            if size > MOST_HEAD:
                raise RemoteProtocolError(f"MP4: a {kind.decode()} of {size} bytes")
            if len(buffer) < size:
                return False
            body = bytes(buffer[head:size])
            del buffer[:size]
            if kind == b"moov":
                self._read_moov(body)
            else:
                self._read_moof(body, self._at)
            self._at += size
        else:
            self._skip_to = self._at + size
        return True

    def _media(self) -> bool:
        """Inside an mdat: let go of what no sample wants; whether to look on."""
        pending = self._pending
        while pending and pending[-1].offset + pending[-1].size <= self._at:
            # Before the mdat, or within what has gone: it can't be read any more.
            if pending[-1].size:
                raise RemoteProtocolError("MP4: a sample that overlaps another or lies outside of the media")
            pending.pop()
        if not pending:
            self._skip_to = self._mdat_end
            return True
        sample = pending[-1]
        if sample.offset < self._at or sample.offset + sample.size > self._mdat_end:
            raise RemoteProtocolError("MP4: a sample that overlaps another or lies outside of the media")
        if sample.offset > self._at:
            self._skip_to = sample.offset
            return True
        return len(self._buffer) >= sample.size

    def _samples(self) -> Iterator[Frame]:
        """The samples at the beginning of the buffer, whole and one after the other."""
        if self._at >= self._mdat_end or self._skip_to > self._at:
            return
        buffer, pending = self._buffer, self._pending
        used = 0
        try:
            while pending:
                sample = pending[-1]
                end = used + sample.size
                if sample.offset != self._at + used or end > len(buffer) or self._at + end > self._mdat_end:
                    return
                payload = bytes(buffer[used:end])
                pending.pop()
                used = end
                frame = _frame(sample, payload)
                if frame is not None:
                    yield frame
        finally:
            del buffer[:used]
            self._at += used

    # What describes

    def _read_moov(self, body: bytes) -> None:
        self._tracks, self.unsupported, self._pending = {}, [], []
        movie_scale = 0
        extends: list[bytes] = []
        traks: list[bytes] = []
        for kind, content in _boxes(body):
            if kind == b"mvhd":
                movie_scale = _header_timescale(content)
            elif kind == b"trak":
                traks.append(content)
            elif kind == b"mvex":
                extends += [each for name, each in _boxes(content) if name == b"trex"]
        if len(traks) > MOST_TRACKS:
            raise RemoteProtocolError(f"MP4: more than {MOST_TRACKS} tracks")
        for trak in traks:
            number, made = _read_trak(trak, movie_scale)
            if isinstance(made, str):
                self.unsupported.append(made)
            elif number in self._tracks:
                raise RemoteProtocolError("MP4: two tracks of one number")
            else:
                self._tracks[number] = made
        for trex in extends:
            _need(trex, 24)
            number, _, duration, size, flags = struct.unpack_from(">5I", trex, 4)
            owner = self._tracks.get(number)
            if owner is not None:
                owner.duration, owner.size, owner.flags = duration, size, flags
        self._known = True

    def _read_moof(self, body: bytes, start: int) -> None:
        if not self._known:
            raise RemoteProtocolError("MP4: a fragment before the init section")
        samples: list[_Sample] = []
        end = start
        for kind, content in _boxes(body):
            if kind == b"traf":
                end = self._read_traf(content, start, end, samples)
        # What the fragment before has promised and not given is lost.
        self._pending = sorted(samples, key=lambda sample: sample.offset, reverse=True)

    def _read_traf(self, body: bytes, start: int, end: int, samples: list[_Sample]) -> int:
        """Where the last run's samples end, for a traf that says nothing of where it begins."""
        fragment: _Fragment | None = None
        for kind, content in _boxes(body):
            if kind == b"tfhd":
                fragment = self._read_tfhd(content, start, end)
                if fragment is None:
                    return end
            elif fragment is None:
                continue
            elif kind == b"tfdt":
                _need(content, 12 if content[:1] == b"\1" else 8)
                fragment.time = int.from_bytes(content[4 : 12 if content[0] == 1 else 8], "big")
                if fragment.time >= _LONGEST:
                    raise RemoteProtocolError("MP4: a decode time that can't be")
            elif kind == b"trun":
                end = _read_run(content, fragment, end, samples)
        if fragment is not None:
            fragment.owner.next_time = fragment.time
        return end

    def _read_tfhd(self, content: bytes, start: int, end: int) -> _Fragment | None:
        """None for a track that is not carried."""
        cursor = _Cursor(content)
        flags = cursor.word() & 0xFFFFFF
        number = cursor.word()
        base = cursor.long() if flags & 1 else start if flags & 0x20000 or end == start else end
        if flags & 2:
            cursor.word()
        owner = self._tracks.get(number)
        if owner is None:
            return None
        duration = cursor.word() if flags & 8 else owner.duration
        size = cursor.word() if flags & 0x10 else owner.size
        sample_flags = cursor.word() if flags & 0x20 else owner.flags
        return _Fragment(owner, base, owner.next_time, duration, size, sample_flags)


class _Cursor:
    """Big-endian numbers one after the other. Raises RemoteProtocolError at the end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) < count:
            raise RemoteProtocolError("MP4: a box ends early")
        self.at += count
        return found

    def word(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def long(self) -> int:
        return int.from_bytes(self.take(8), "big")


def _read_run(content: bytes, fragment: _Fragment, end: int, samples: list[_Sample]) -> int:
    """The samples of one trun; where the last of them ends."""
    cursor = _Cursor(content)
    head = cursor.word()
    version, flags = head >> 24, head & 0xFFFFFF
    count = cursor.word()
    offset = fragment.base
    if flags & 1:
        word = cursor.word()
        offset += word - (1 << 32) if word >> 31 else word
    elif end > fragment.base and samples:
        offset = end
    first_flags = cursor.word() if flags & 4 else None
    if count > MOST_SAMPLES - len(samples):
        raise RemoteProtocolError(f"MP4: more than {MOST_SAMPLES} samples in a fragment")
    fields = [bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800)]
    row = struct.Struct(">" + "I" * sum(fields))
    body = cursor.take(row.size * count)
    rows = row.iter_unpack(body) if row.size else iter([()] * count)
    owner, time = fragment.owner, fragment.time
    shift, is_video = owner.shift, owner.track.is_video
    for number, values in enumerate(rows):
        at = 0
        duration, size, sample_flags, composition = fragment.duration, fragment.size, fragment.flags, 0
        if fields[0]:
            duration, at = values[at], at + 1
        if fields[1]:
            size, at = values[at], at + 1
        if fields[2]:
            sample_flags, at = values[at], at + 1
        elif number == 0 and first_flags is not None:
            sample_flags = first_flags
        if fields[3]:
            composition = values[at]
            if version and composition >> 31:
                composition -= 1 << 32
        if size > MOST_SAMPLE:
            raise RemoteProtocolError(f"MP4: a sample of {size} bytes")
        dts = time + shift
        keyframe = not is_video or not sample_flags & _NOT_SYNC
        samples.append(_Sample(offset, size, owner, dts + composition, dts, keyframe, duration))
        offset += size
        time += duration
    fragment.time = time
    return offset


def _frame(sample: _Sample, payload: bytes) -> Frame | None:
    """None for a sample that is broken or has nothing in it."""
    owner = sample.owner
    keyframe = sample.keyframe
    if owner.canonical is not None:
        try:
            payload, is_key, sets = owner.canonical(payload)
            if sets and owner.updated is not None:
                _learn(owner, sets)
        except RemoteProtocolError:
            return None
        # An open GOP begins where the flags alone say so.
        keyframe = keyframe or is_key
    if not payload:
        return None
    return Frame(owner.track, sample.pts, sample.dts, keyframe, payload, sample.duration)


def _learn(owner: _Track, sets: tuple[bytes, ...]) -> None:
    """Parameter sets between the pictures (avc3, hev1) make a new Track when they say something new."""
    assert owner.updated is not None
    config = owner.updated(owner.track.codec_config, sets)
    if config is not owner.track.codec_config and config != owner.track.codec_config:
        made = owner.made(config)
        owner.track = msgspec.structs.replace(made, generation=owner.track.generation + 1,
                                              language=owner.track.language)  # fmt: skip


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each box. Raises RemoteProtocolError."""
    at = 0
    while at + 8 <= len(data):
        size, kind = _BOX.unpack_from(data, at)
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            raise RemoteProtocolError("MP4: a box that is larger than what it is in")
        yield kind, data[at + head : at + size]
        at += size


def _need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise RemoteProtocolError("MP4: a box ends early")


def _header_timescale(content: bytes) -> int:
    """Of mvhd and mdhd."""
    at = 20 if content[:1] == b"\1" else 12
    _need(content, at + 4)
    return int.from_bytes(content[at : at + 4], "big")


def _read_trak(body: bytes, movie_scale: int) -> tuple[int, _Track | str]:
    """Its number, and the track or the name of what is not carried."""
    number = timescale = 0
    handler = language = ""
    stsd = edits = b""
    for path, content in _walk(body):
        if path == b"tkhd":
            at = 20 if content[:1] == b"\1" else 12
            _need(content, at + 4)
            number = int.from_bytes(content[at : at + 4], "big")
        elif path == b"mdhd":
            timescale = _header_timescale(content)
            language = _language(content)
        elif path == b"hdlr":
            handler = content[8:12].decode("latin-1")
        elif path == b"stsd":
            stsd = content
        elif path == b"elst":
            edits = content
    if handler not in ("vide", "soun"):
        return number, f"a track of kind {handler.strip() or 'unknown'!r}"
    if not 0 < timescale <= 1_000_000_000:
        raise RemoteProtocolError("MP4: a track with an impossible timescale")
    entry = next(_boxes(stsd[8:]), None)
    if entry is None:
        raise RemoteProtocolError("MP4: a track without a sample entry")
    made = _read_entry(number, *entry, timescale)
    if isinstance(made, str):
        return number, made
    made.shift = _edit_shift(edits, movie_scale, timescale)
    made.track = msgspec.structs.replace(made.track, language=language)
    return number, made


_CONTAINERS: Final = frozenset((b"mdia", b"minf", b"stbl", b"edts"))


def _walk(body: bytes, depth: int = 0) -> Iterator[tuple[bytes, bytes]]:
    for kind, content in _boxes(body):
        if kind in _CONTAINERS and depth < 4:
            yield from _walk(content, depth + 1)
        else:
            yield kind, content


def _language(mdhd: bytes) -> str:
    at = 32 if mdhd[:1] == b"\1" else 20
    code = int.from_bytes(mdhd[at : at + 2], "big")
    letters = [(code >> shift & 31) + 0x60 for shift in (10, 5, 0)]
    text = "".join(map(chr, letters))
    return text if text.isalpha() and text != "und" and text.islower() else ""


def _edit_shift(elst: bytes, movie_scale: int, timescale: int) -> int:
    """What an edit list adds to the times of the media, in ticks: empty edits, then one that begins somewhere."""
    if len(elst) < 8:
        return 0
    wide = elst[0] == 1
    row = struct.Struct(">Qqhh" if wide else ">Iihh")
    delay = 0
    for number in range(min(int.from_bytes(elst[4:8], "big"), 8)):
        if len(elst) < 8 + (number + 1) * row.size:
            break
        length, begin, _, _ = row.unpack_from(elst, 8 + number * row.size)
        if begin != -1:
            return (delay * timescale // movie_scale if movie_scale else 0) - int(begin)
        delay += length
    return 0


def _read_entry(number: int, kind: bytes, content: bytes, timescale: int) -> _Track | str:
    """The sample entry of a track, or what it is when that is not carried."""
    name = kind.decode("latin-1")
    if kind in (b"encv", b"enca"):
        raise RemoteProtocolError("MP4: the media are encrypted")
    if kind in (b"avc1", b"avc3", b"hvc1", b"hev1", b"av01", b"vp09"):
        _need(content, 78)
        size = (int.from_bytes(content[24:26], "big"), int.from_bytes(content[26:28], "big"))
        return _video(number, kind, dict(_boxes(content[78:])), size, timescale)
    if kind in (b"mp4a", b"Opus"):
        _need(content, 28)
        # QuickTime's longer forms.
        head = 28 + {1: 16, 2: 36}.get(int.from_bytes(content[8:10], "big"), 0)
        return _audio(number, kind, dict(_boxes(content[head:])), timescale) or f"audio {name!r}"
    return f"codec {name!r}"


def _maker(make: Callable[[int, bytes, int], Track], number: int, timescale: int) -> Callable[[bytes], Track]:
    return lambda config: make(number, config, timescale)


def _video(
    number: int, kind: bytes, boxes: dict[bytes, bytes], size: tuple[int, int], timescale: int
) -> _Track:
    if kind in (b"avc1", b"avc3"):
        config = _config(boxes, b"avcC")
        length = h264.AvcConfig.parse(config).length_size
        made = _maker(h264.track_from_config, number, timescale)
        return _Track(made(config), lambda data: h264.canonical(data, length), h264.updated_config, made, 0)
    if kind in (b"hvc1", b"hev1"):
        config = _config(boxes, b"hvcC")
        length = h265.HevcConfig.parse(config).length_size
        made = _maker(h265.track_from_config, number, timescale)
        return _Track(made(config), lambda data: h265.canonical(data, length), h265.updated_config, made, 0)
    if kind == b"av01":
        made = _maker(av1.track_from_config, number, timescale)
        return _Track(made(_config(boxes, b"av1C")), av1.canonical, av1.updated_config, made, 0)
    width, height = size
    made = _maker(partial(vp9.track_from_config, width=width, height=height), number, timescale)
    return _Track(made(_config(boxes, b"vpcC")[4:]), None, None, made, 0)


def _audio(number: int, kind: bytes, boxes: dict[bytes, bytes], timescale: int) -> _Track | None:
    """None for what mp4a carries beside AAC."""
    if kind == b"Opus":
        made = _maker(opus.track_from_config, number, timescale)
        return _Track(made(_config(boxes, b"dOps")), None, None, made, 0)
    wave = boxes.get(b"wave")
    config = _audio_config(_config(dict(_boxes(wave)) if wave else boxes, b"esds"))
    if config is None:
        return None
    made = _maker(aac.track_from_config, number, timescale)
    return _Track(made(config), None, None, made, 0)


def _config(boxes: dict[bytes, bytes], kind: bytes) -> bytes:
    found = boxes.get(kind)
    if found is None:
        raise RemoteProtocolError(f"MP4: a sample entry without {kind.decode()}")
    return found


def _audio_config(esds: bytes) -> bytes | None:
    """The AudioSpecificConfig in an esds (14496-1 7.2.6); None when it is no AAC."""
    cursor = _Cursor(esds)
    cursor.word()
    tag, size = _descriptor(cursor)
    if tag != 3:
        raise RemoteProtocolError("MP4: an esds without its descriptor")
    cursor.take(2)
    flags = cursor.take(1)[0]
    if flags & 0x80:
        cursor.take(2)
    if flags & 0x40:
        cursor.take(cursor.take(1)[0])
    if flags & 0x20:
        cursor.take(2)
    tag, size = _descriptor(cursor)
    if tag != 4:
        raise RemoteProtocolError("MP4: an esds without a decoder configuration")
    if cursor.take(13)[0] not in (0x40, 0x66, 0x67, 0x68):
        return None
    tag, size = _descriptor(cursor)
    if tag != 5:
        raise RemoteProtocolError("MP4: an esds without an AudioSpecificConfig")
    return cursor.take(size)


def _descriptor(cursor: _Cursor) -> tuple[int, int]:
    tag = cursor.take(1)[0]
    size = 0
    for _ in range(4):
        byte = cursor.take(1)[0]
        size = size << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    return tag, size
