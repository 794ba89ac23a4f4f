"""What of one track can be fetched now: parts, segments, init segments, and the text of each in the playlist."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from appliance.media.clock import NANOSECONDS
from appliance.media.track import MediaType, Track
from appliance.net.direct import Reply
from appliance.protocols import hls
from appliance.protocols.fmp4 import init_segment
from appliance.publishers.llhls.dvr import Archive

#: Parts are listed within so many target durations of the playlist's end; so long they must stay, and no longer.
PARTS_LISTED = 3
#: A playlist is never shorter than this many target durations once it has been that long.
SHORTEST_WINDOW = 3
FEWEST_SEGMENTS = 3


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a segment starts in every track: at ``time`` ticks of ``timescale``.

    ``discontinuities`` counts those of the stream up to here, ``wall_offset`` is the nanosecond since 1970 of timestamp
    zero for this segment, ``independent`` false where the group of pictures was too long and had to be cut.
    """

    msn: int
    time: int
    timescale: int
    discontinuity: bool
    discontinuities: int
    independent: bool
    wall_offset: int
    #: Lines of the playlist that mark this place: cues, splices.
    tags: str = ""

    def seconds_until(self, later: Boundary) -> float:
        return max(0.0, later.time / later.timescale - self.time / self.timescale)


class Init:
    """An init segment: one for each generation of the track."""

    __slots__ = ("content_type", "name", "payload", "reply", "track")

    def __init__(self, name: str, payload: bytes, track: Track) -> None:
        self.name = name
        self.track = track
        self.payload = payload
        self.content_type = content_type(track)
        self.reply: Reply | None = None


class Part:
    """One fragment, as it is sent. ``duration`` in seconds; ``reply`` is kept by the delivery."""

    __slots__ = ("content_type", "duration", "independent", "line", "name", "payload", "reply")

    def __init__(self, name: str, payload: bytes, duration: float, independent: bool, content_type: bytes) -> None:
        self.name = name
        self.payload = payload
        self.duration = duration
        self.independent = independent
        self.content_type = content_type
        self.line = hls.part(duration, name, independent=independent)
        self.reply: Reply | None = None


class Segment:
    """A list of parts. ``begins`` and ``duration`` in seconds, ``begins`` on the playlist's own time line."""

    __slots__ = ("begins", "body", "boundary", "complete", "content_type", "duration", "gap", "head_text", "init",
                 "last_needed", "line", "name", "opening_text", "parts", "parts_text", "reply", "size",
                 "tagged")  # fmt: skip

    def __init__(self, name: str, boundary: Boundary, init: Init, begins: float) -> None:
        self.name = name
        self.boundary = boundary
        self.init = init
        self.begins = begins
        self.duration = 0.0
        self.parts: list[Part] = []
        #: The whole, where it is not its parts one after the other.
        self.body: bytes | None = None
        self.size = 0
        self.complete = False
        self.gap = False
        self.line = ""
        self.parts_text = ""
        self.head_text = ""
        self.opening_text = ""
        self.last_needed = 0.0
        #: It stands behind an EXT-X-DISCONTINUITY.
        self.tagged = False
        self.content_type = init.content_type
        self.reply: Reply | None = None

    @property
    def msn(self) -> int:
        return self.boundary.msn

    @property
    def buffers(self) -> list[bytes]:
        """What is sent of it."""
        return [part.payload for part in self.parts] if self.body is None else [self.body]


_KINDS = {MediaType.VIDEO: "video", MediaType.SUBTITLE: "subtitle"}
_CONTENT_TYPES = {MediaType.VIDEO: b"video/mp4", MediaType.SUBTITLE: b"text/vtt"}


def content_type(track: Track) -> bytes:
    return _CONTENT_TYPES.get(track.media, b"audio/mp4")


class Mirror(Protocol):
    """A track that gets the segments and parts of another one."""

    def open(self, boundary: Boundary, pts: int, timescale: int) -> None: ...
    def mirror(self, duration: float, part_target: float, *, ends: bool) -> None: ...
    def close(self) -> Boundary | None: ...
    def skip(self, boundary: Boundary, duration: float) -> None: ...


class TrackWindow:
    """The parts and segments of one track, in order, with the memory they take bounded.

    ``key`` is the part of the names that tells stream instances apart. With ``names_by_content`` the name of an init
    segment follows from its bytes, so that it is the same on all origins and never stands for others. ``changed`` is
    called after each change that a waiting request may want. Everything that can be fetched stands in ``files`` by its
    name.
    """

    def __init__(
        self,
        track: Track,
        key: str,
        segment_count: int,
        files: dict[str, object],
        changed: Callable[[TrackWindow], None],
        *,
        hints: bool = True,
        names_by_content: bool = False,
    ) -> None:
        self.track = track
        self.kind = _KINDS.get(track.media, "audio")
        self.extension = "vtt" if track.media is MediaType.SUBTITLE else "m4s"
        self.mirrors: list[Mirror] = []
        #: Where segments go that are listed no more; None where nobody can rewind.
        self.archive: Archive | None = None
        self.key = key
        self.segment_count = max(FEWEST_SEGMENTS, segment_count)
        self.playlist_name = f"chunklist_{track.id}_{self.kind}_{key}_llhls.m3u8"
        self.files = files
        self.target_duration = 0
        self.part_target = 0.0
        self.hints = hints
        self.listed: deque[Segment] = deque()
        self.current: Segment | None = None
        self.edge = 0.0
        #: The newest part, as rendition reports tell it; -1 before the first.
        self.last_msn = -1
        self.last_part = -1
        #: The part that comes next, by what is known now.
        self.next_msn = -1
        self.next_part = 0
        self.ended = False
        self.retained = 0
        self.peak_bitrate = 0
        self.measured_bytes = 0
        self.measured_seconds = 0.0
        self.frame_rate = 0.0
        self.completed = 0
        self._names_by_content = names_by_content
        self._changed = changed
        self._removed: deque[Segment] = deque()
        self._init: Init | None = None
        self._inits = 0

    @property
    def started(self) -> bool:
        """There is at least one part to play."""
        return self.last_msn >= 0

    @property
    def init(self) -> Init | None:
        return self._init

    @property
    def last_complete(self) -> int:
        """The number of the newest whole segment, -1 when there is none."""
        return self.listed[-1].msn if self.listed else -1

    def segments(self) -> Iterator[Segment]:
        """Everything that the playlist lists, the one in progress last."""
        yield from self.listed
        if self.current is not None and self.current.parts:
            yield self.current

    def rewound(self) -> list[Segment]:
        """The whole segments from the oldest that can be rewound to."""
        return [*self.archive.segments, *self.listed] if self.archive is not None else list(self.listed)

    @property
    def oldest(self) -> float:
        """Where the playlist begins, on its own time line (seconds)."""
        first = next(self.segments(), None)
        return self.edge if first is None else first.begins

    def part_name(self, msn: int, index: int) -> str:
        return f"part_{self.track.id}_{msn}_{index}_{self.kind}_{self.key}_llhls.{self.extension}"

    def find(self, msn: int) -> Segment | None:
        """A segment that the playlist lists."""
        if self.current is not None and self.current.msn == msn:
            return self.current
        if not self.listed or not self.listed[0].msn <= msn <= self.listed[-1].msn:
            return None
        return self.listed[msn - self.listed[0].msn]

    # What the packager tells.

    def use(self, track: Track) -> None:
        """A (new) codec configuration: an init segment under a name of its own.

        Raises BadRequest when the codec can't be packaged.
        """
        payload = init_segment(track)
        if self._names_by_content:
            generation = f"_{hashlib.sha256(payload).hexdigest()[:12]}"
        else:
            generation = f"_{self._inits}" if self._inits else ""
        init = Init(f"init_{track.id}_{self.kind}_{self.key}{generation}_llhls.m4s", payload, track)
        self._inits += 1
        self._init = init
        self.track = track
        self.files[init.name] = init

    def open(self, boundary: Boundary, pts: int, timescale: int) -> None:
        """Begin the segment of ``boundary``, whose first sample is at ``pts`` ticks."""
        self.current = self._segment(boundary, boundary.wall_offset + pts * NANOSECONDS // timescale)
        self.next_msn = boundary.msn
        self.next_part = 0
        for mirror in self.mirrors:
            mirror.open(boundary, pts, timescale)

    def add(self, payload: bytes, duration: float, independent: bool, *, ends: bool) -> None:
        """One more part of the open segment; ``ends`` when the next part is expected to be in the next segment."""
        segment = self.current
        assert segment is not None
        index = len(segment.parts)
        name = self.part_name(segment.msn, index)
        part = Part(name, payload, duration, independent, segment.content_type)
        segment.parts.append(part)
        segment.parts_text += part.line
        segment.duration += duration
        segment.size += len(payload)
        self.retained += len(payload)
        self.edge += duration
        self.files[name] = part
        self.last_msn = segment.msn
        self.last_part = index
        self.next_msn, self.next_part = (segment.msn + 1, 0) if ends else (segment.msn, index + 1)
        for mirror in self.mirrors:
            mirror.mirror(duration, self.part_target, ends=ends)
        self._changed(self)

    def close(self) -> Boundary | None:
        """The open segment is whole; without a part there is none, and its boundary is given back."""
        segment = self.current
        self.current = None
        for mirror in self.mirrors:
            mirror.close()
        if segment is None:
            return None
        if not segment.parts:
            return segment.boundary
        segment.complete = True
        segment.line = hls.segment(segment.duration, segment.name)
        self.files[segment.name] = segment
        self._measure(segment)
        self._list(segment)
        return None

    def skip(self, boundary: Boundary, duration: float) -> None:
        """The segment of ``boundary`` has no media in this track (EXT-X-GAP); ``duration`` in seconds."""
        for mirror in self.mirrors:
            mirror.skip(boundary, duration)
        start = boundary.wall_offset + boundary.time * NANOSECONDS // boundary.timescale
        segment = self._segment(boundary, start)
        segment.complete = segment.gap = True
        segment.duration = duration
        segment.line = hls.segment(duration, segment.name, gap=True)
        self.edge += duration
        self.last_msn, self.last_part = boundary.msn, 0
        self._list(segment)

    def let_go(self) -> None:
        """Nobody asks for anything of it any longer."""
        self.listed.clear()
        self.current = None

    def end(self) -> None:
        """Nothing comes any more."""
        self.close()
        self.ended = True
        self._changed(self)

    # Inside.

    def _segment(self, boundary: Boundary, wall: int) -> Segment:
        init = self._init
        assert init is not None
        name = f"seg_{self.track.id}_{boundary.msn}_{self.kind}_{self.key}_llhls.{self.extension}"
        segment = Segment(name, boundary, init, self.edge)
        previous = self.listed[-1].init if self.listed else None
        segment.tagged = tagged = boundary.discontinuity and previous is not None
        when = hls.date_time(wall)
        new_map = "" if init is previous else init.name
        segment.head_text, segment.opening_text = (
            hls.segment_head(discontinuity=tagged, init_uri=uri, program_date_time=when, tags=boundary.tags)
            for uri in (new_map, init.name)
        )
        return segment

    def _measure(self, segment: Segment) -> None:
        self.measured_bytes += segment.size
        self.measured_seconds += segment.duration
        # A short rest of a segment says nothing about the peak (draft 4.4.6.2 takes half a target duration and up).
        if segment.duration * 2 >= self.target_duration:
            self.peak_bitrate = max(self.peak_bitrate, int(segment.size * 8 / segment.duration))

    def _list(self, segment: Segment) -> None:
        self.listed.append(segment)
        self.completed += 1
        self.next_msn, self.next_part = segment.msn + 1, 0
        listed = self.listed
        shortest = SHORTEST_WINDOW * self.target_duration
        while len(listed) > self.segment_count and self.edge - listed[0].begins - listed[0].duration >= shortest:
            oldest = listed.popleft()
            # A segment must stay for its own duration and that of the longest playlist it was in (draft 6.2.2).
            oldest.last_needed = self.edge + oldest.duration + (self.edge - oldest.begins)
            self._removed.append(oldest)
            if self.archive is not None:
                self.archive.append(oldest, self.edge - listed[0].begins)
        self._purge()
        self._changed(self)

    def _purge(self) -> None:
        removed = self._removed
        while removed and removed[0].last_needed <= self.edge:
            segment = removed.popleft()
            self.retained -= segment.size
            for part in segment.parts:
                self.files.pop(part.name, None)
            if self.archive is not None and self.archive.retire(segment):
                continue
            self.files.pop(segment.name, None)
            following = removed[0] if removed else self.listed[0]
            # A configuration that came back may be under the same name again.
            if following.init is not segment.init and self.files.get(segment.init.name) is segment.init:
                self.files.pop(segment.init.name, None)
