"""The end of a segment: cues behind the clusters, and what the head then says; what is whole after a crash."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence

from appliance.errors import RemoteProtocolError
from appliance.protocols.matroska.ebml import UNKNOWN_SIZE, element, read_header, size_field, unsigned, void
from appliance.protocols.matroska.writer import (
    CLUSTER,
    CLUSTER_TIME,
    CUES,
    DURATION,
    EBML,
    INFO,
    SEEK_HEAD,
    SEEK_ROOM,
    SEGMENT,
    SIMPLE_BLOCK,
    TRACKS,
)

Read = Callable[[int, int], bytes]
MAX_HEAD = 1 << 20
MAX_CLUSTER = 256 << 20
#: A cue takes at most so many bytes.
_CUE_BYTES = 40


class Segment:
    """The index of a growing segment: give it the head, then each fragment. ``end`` is the offset behind the last one.

    Raises RemoteProtocolError for what no SegmentWriter made.
    """

    def __init__(self, head: bytes) -> None:
        self._size_at = self._segment = self._seek_at = self._duration_at = self._info = self._tracks = -1
        self._videos: set[int] = set()
        self._read_head(head)
        self.end = len(head)
        self.clusters = 0
        self._last = 0
        self._step = 0
        self._before = -1
        self._first = -1
        #: Of each cue: time in ms, track, offset of the cluster.
        self._cues = array("Q")

    def add(self, fragment: bytes) -> None:
        """Whole clusters."""
        at = 0
        while at < len(fragment):
            header = read_header(fragment, at)
            if header is None or header[0] != CLUSTER or header[1] < 0 or header[2] + header[1] > len(fragment):
                raise RemoteProtocolError("not a whole cluster")
            _, size, start = header
            self._read_cluster(fragment, start, start + size, self.end)
            self.end += start + size - at
            self.clusters += 1
            at = start + size

    @property
    def duration_ms(self) -> int:
        """From zero to the end of what is shown last, as far as the times tell."""
        return max(0, self._last + self._step - max(0, self._first)) if self.clusters else 0

    @property
    def final_size(self) -> int:
        return 64 + _CUE_BYTES * len(self._cues) // 3

    def cues(self) -> bytes:
        points = [
            element(
                0xBB, unsigned(0xB3, self._cues[at]),
                element(0xB7, unsigned(0xF7, self._cues[at + 1]), unsigned(0xF1, self._cues[at + 2] - self._segment)),
            )
            for at in range(0, len(self._cues), 3)
        ]  # fmt: skip
        return element(CUES, *points) if points else b""

    def patches(self) -> Sequence[tuple[int, bytes]]:
        """Duration, where to find what, and last the size of the segment: with that the file is finished."""
        cues = self.cues()
        seeks = [(INFO, self._info), (TRACKS, self._tracks)]
        if cues:
            seeks.append((CUES, self.end))
        entries = [
            element(0x4DBB, element(0x53AB, identifier.to_bytes(4, "big")), unsigned(0x53AC, at - self._segment))
            for identifier, at in seeks
        ]
        head = element(SEEK_HEAD, *entries)
        return (
            (self._duration_at, struct.pack(">d", float(self._last + self._step))),
            (self._seek_at, head + void(SEEK_ROOM - len(head))),
            (self._size_at, size_field(self.end + len(cues) - self._segment, 8)),
        )

    def _read_head(self, head: bytes) -> None:
        first = read_header(head, 0)
        if first is None or first[0] != EBML or first[1] < 0:
            raise RemoteProtocolError("not a Matroska file of ours")
        segment = read_header(head, first[1] + first[2])
        if segment is None or segment[0] != SEGMENT:
            raise RemoteProtocolError("no segment")
        self._segment = segment[2]
        self._size_at = self._segment - 8
        at = self._segment
        while at < len(head):
            header = read_header(head, at)
            if header is None or header[1] < 0 or header[1] + header[2] > len(head):
                raise RemoteProtocolError("the head of the segment is not whole")
            identifier, size, start = header
            if at == self._segment:
                self._seek_at = at
            elif identifier == INFO:
                self._info = at
                self._duration_at = head.find(DURATION.to_bytes(2, "big") + b"\x88", start, start + size) + 3
            elif identifier == TRACKS:
                self._tracks = at
                self._read_tracks(head, start, start + size)
            at = start + size
        if min(self._info, self._tracks) < 0 or self._duration_at < 3:
            raise RemoteProtocolError("the head of the segment lacks a part")

    def _read_tracks(self, head: bytes, at: int, end: int) -> None:
        while at < end and (header := read_header(head, at)) is not None and header[1] >= 0:
            _, size, inner = header
            at = inner + size
            values: dict[int, int] = {}
            while inner < at and (field := read_header(head, inner)) is not None and field[1] >= 0:
                identifier, size, start = field
                if identifier in (0xD7, 0x83):
                    values[identifier] = int.from_bytes(head[start : start + size], "big")
                inner = start + size
            if values.get(0x83) == 1:
                self._videos.add(values.get(0xD7, 0))

    def _read_cluster(self, data: bytes, at: int, end: int, offset: int) -> None:
        base = 0
        cued: set[int] = set()
        while at < end:
            header = read_header(data, at)
            if header is None or header[1] < 0 or header[1] + header[2] > end:
                raise RemoteProtocolError("a block that is longer than its cluster")
            identifier, size, start = header
            if identifier == CLUSTER_TIME:
                base = int.from_bytes(data[start : start + size], "big")
            elif identifier == SIMPLE_BLOCK:
                if size < 4:
                    raise RemoteProtocolError("a block that is too short")
                track, relative, flags = struct.unpack_from(">BhB", data, start)
                self._note(track & 0x7F, base + relative, bool(flags & 0x80), offset, cued)
            at = start + size

    def _note(self, track: int, shown: int, key: bool, offset: int, cued: set[int]) -> None:
        shown = max(0, shown)
        if track in self._videos or not self._videos:
            # The least distance of two frames is how long the last one lasts: with B-frames times go to and fro.
            if self._before >= 0 and shown != self._before:
                step = abs(shown - self._before)
                self._step = min(self._step, step) if self._step else step
            self._before = shown
        self._last = max(self._last, shown)
        if self._first < 0:
            self._first = shown
        if key and track not in cued and (track in self._videos or not self._videos):
            cued.add(track)
            self._cues.extend((shown, track, offset))


def survey(read: Read, size: int) -> tuple[Segment, int]:
    """(the whole clusters of a file that a crash left, 0), or its size when it was finished already.

    Raises RemoteProtocolError when not even the head is whole.
    """
    head = read(0, min(size, MAX_HEAD))
    at = 0
    finished = 0
    while True:
        header = read_header(head, at)
        if header is None:
            raise RemoteProtocolError("the head of the segment is not whole")
        identifier, length, start = header
        if identifier == SEGMENT:
            if length >= 0 and length != UNKNOWN_SIZE:
                finished = start + length
            at = start
            continue
        if length < 0 or start + length > len(head):
            raise RemoteProtocolError("the head of the segment is not whole")
        at = start + length
        if identifier == TRACKS:
            break
    segment = Segment(head[:at])
    if finished and finished <= size:
        return segment, finished
    while segment.end < size:
        piece = read(segment.end, 16)
        header = read_header(piece, 0)
        if header is None or header[0] != CLUSTER or not 0 <= header[1] <= MAX_CLUSTER:
            break
        whole = header[1] + header[2]
        data = read(segment.end, whole)
        if len(data) < whole:
            break
        try:
            segment.add(data)
        except RemoteProtocolError:
            break
    return segment, 0
