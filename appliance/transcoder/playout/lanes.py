"""The tracks of what is played, and the one item that is on them: where each frame comes to lie."""

from __future__ import annotations

from collections import deque

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.media.clock import NANOSECONDS
from appliance.media.codecs.aac import AudioConfig
from appliance.media.contracts import Input
from appliance.media.track import Codec, Track
from appliance.transcoder.demux import Slate
from appliance.transcoder.playout.feeds import Feed, FileFeed, Unit
from appliance.transcoder.playout.timetable import Entry

#: A sound frame that begins later than this part of a frame after the one before leaves a hole, which is filled.
HOLE = 0.75
#: How long (ns) the end of a live item waits for frames that are on their way.
LATE = 150_000_000
VIDEO_ID = 0
FIRST_AUDIO_ID = 100


class Lane:
    """One track of the output. ``end``: where what was sent ends (ns of the output, by presentation)."""

    def __init__(self, track_id: int, *, video: bool, index: int, public_name: str = "", language: str = "",
                 characteristics: str = "") -> None:  # fmt: skip
        self.id = track_id
        self.video = video
        self.index = index
        self.track: Track | None = None
        self.end = 0
        self.slate: Slate | None = None
        self.sent = 0
        self.slated = 0
        self._names = public_name, language, characteristics
        self._last_dts = -(1 << 62)
        self._known: tuple[Track, Track] | None = None

    def adopt(self, source: Track) -> Track:
        """The output's Track for frames of ``source``: the one in use where a decoder needn't notice."""
        known = self._known
        if known is not None and known[0] is source:
            return known[1]
        ours = self.track
        if ours is None or not _same_decoder(ours, source):
            name, language, characteristics = self._names
            ours = msgspec.structs.replace(
                source, id=self.id, generation=0 if ours is None else ours.generation + 1,
                variant="Video" if self.video else "Audio", public_name=name or source.public_name,
                language=language or source.language, characteristics=characteristics or source.characteristics,
            )  # fmt: skip
            self.track = ours
        self._known = source, ours
        return ours

    def send(self, target: Input, source: Track, pts: int, dts: int, duration: int, keyframe: bool,
             payload: bytes) -> None:  # fmt: skip
        """Times in ns of the output. Decoding times are pressed together where an item begins with reordered frames."""
        track = self.adopt(source)
        scale = track.timescale
        ticks = (2 * dts * scale + NANOSECONDS) // (2 * NANOSECONDS)
        if ticks <= self._last_dts:
            ticks = self._last_dts + 1
        self._last_dts = ticks
        shown = (2 * pts * scale + NANOSECONDS) // (2 * NANOSECONDS)
        length = (2 * duration * scale + NANOSECONDS) // (2 * NANOSECONDS)
        target.send(track, max(shown, ticks), ticks, keyframe, payload, 0 if self.video else length)
        self.end = max(self.end, pts + duration)
        self.sent += 1

    def rescaled(self, track: Track) -> None:
        """The next frames are of a track that counts otherwise."""
        if self.track is not None and self.track.timescale != track.timescale:
            self._last_dts = -(-self._last_dts * track.timescale // self.track.timescale)


class Segment:
    """``entry`` on the air from ``begin`` on; ``feed`` None is slate alone. ``until``: where it is cut at the latest.

    The picture leads: where it ends, by the end of its source or by ``until``, all other lanes end with it.
    """

    def __init__(self, entry: Entry | None, feed: Feed | None, begin: int, lanes: list[Lane]) -> None:
        self.entry = entry
        self.feed = feed
        self.begin = begin
        self.until: int | None = None
        #: Time of the source that lies at ``begin``; None until its first frame is known.
        self.origin: int | None = None
        self._runs = [_Run(self, lane) for lane in lanes]
        leads = next((run for run in self._runs if run.has_source), self._runs[0] if self._runs else None)
        self.lead = leads
        for run in self._runs:
            run.leads = run is leads

    @property
    def over(self) -> bool:
        return all(run.closed for run in self._runs)

    @property
    def end(self) -> int:
        """Where the next item begins: with the picture, whichever lane leads."""
        return self._runs[0].lane.end if self._runs else self.begin

    @property
    def starved(self) -> bool:
        """Whether the leading lane waits for its source."""
        return self.lead is not None and not self.lead.closed and self.lead.due(None) is None

    def send_due(self, target: Input, now: int) -> int | None:
        """Send what is due at ``now``; when something will be next, None: nothing is at hand."""
        while True:
            first: _Run | None = None
            due = 0
            for run in self._runs:
                at = run.due(now)
                if at is not None and (first is None or at < due):
                    first, due = run, at
            if first is None:
                return None
            if due > now:
                return due
            first.send(target)

    def last_queued(self) -> int | None:
        """Where the frames at hand end (ns of the output); None without any."""
        queue = self.feed.main if self.feed is not None else None
        if not queue:
            return None
        origin = self.origin
        if origin is None:
            # Nothing of it was sent yet: it will begin here.
            origin = next((unit.pts for unit in queue if unit.keyframe), queue[0].pts)
        return max(unit.pts + unit.duration for unit in list(queue)[-8:]) - origin + self.begin

    def position(self, now: int, *, live: bool) -> int:
        """Where in its source it is (ns); of a live one, how long it has been on."""
        return (0 if live else self.origin or 0) + max(0, now - self.begin)


class _Run:
    """One lane within one segment."""

    __slots__ = ("_frame", "_queue", "_segment", "_shift", "_slated", "_started", "closed", "lane", "leads")

    def __init__(self, segment: Segment, lane: Lane) -> None:
        self.lane = lane
        self.leads = False
        self.closed = False
        self._segment = segment
        self._queue: deque[Unit] | None = (
            segment.feed.queue(video=lane.video, index=lane.index) if segment.feed is not None else None
        )
        self._started = False
        self._shift = 0
        self._slated: int | None = None
        self._frame = 0

    @property
    def has_source(self) -> bool:
        return self._queue is not None

    def due(self, now: int | None) -> int | None:
        """When its next frame is to be sent (ns of the output); None: not known yet, or over."""
        if self.closed:
            return None
        segment = self._segment
        limit = self._limit()
        unit = self._next(limit)
        if unit is not None:
            shift = self._shift + segment.begin - (segment.origin or 0)
            if self._slated is not None:
                return self._slated
            return unit.dts + shift
        return self._without_unit(now, limit)

    def _without_unit(self, now: int | None, limit: int | None) -> int | None:
        """The source has nothing at hand, or the lane has just been closed."""
        if self.closed:
            return None
        feed = self._segment.feed
        if self._queue is not None and feed is not None and not feed.done:
            # A live source is late; where this item is to end nobody waits for long.
            if now is None or limit is None or now < limit + LATE:
                return None
            if self.leads:
                self.closed = True
                return None
        elif self._queue is not None and self.leads:
            self.closed = True
            return None
        return self._slate_due(limit)

    def _limit(self) -> int | None:
        lead = self._segment.lead
        if lead is not None and lead is not self and lead.closed:
            return lead.lane.end
        return self._segment.until

    def _slate_due(self, limit: int | None) -> int | None:
        lane = self.lane
        if lane.slate is None:
            self.closed = limit is not None
            return None
        if limit is not None and lane.end + lane.slate.frame // 2 > limit:
            self.closed = True
            return None
        self._slated = lane.end
        return lane.end

    def _next(self, limit: int | None) -> Unit | None:
        """The source's next frame that is to be seen; closes the lane where the item ends."""
        queue = self._queue
        segment, lane = self._segment, self.lane
        self._slated = None
        while queue:
            unit = queue[0]
            if not self._started and lane.video:
                if not unit.keyframe:
                    queue.popleft()
                    continue
                if segment.origin is None:
                    segment.origin = unit.pts
            if segment.origin is None:
                if not self.leads:
                    return None if segment.lead is not None else unit
                segment.origin = unit.pts
            at = unit.pts - segment.origin + segment.begin
            if lane.video:
                if at < segment.begin:
                    # Shown before the key frame that it begins with: can't be decoded.
                    queue.popleft()
                    continue
            elif not self._started:
                if at + unit.duration // 2 < lane.end:
                    queue.popleft()
                    continue
                if at - lane.end <= unit.duration * HOLE:
                    self._shift = lane.end - at
                    self._started = True
            at += self._shift
            if limit is not None and at + unit.duration // 2 > limit:
                self.closed = True
                return None
            if not lane.video and lane.slate is not None and at - lane.end > unit.duration * HOLE:
                self._slated = lane.end
            elif not lane.video:
                self._started = True
            return unit
        return None

    def send(self, target: Input) -> None:
        """What `due` was asked about."""
        lane = self.lane
        if self._slated is not None:
            slate = lane.slate
            assert slate is not None
            at, self._slated = self._slated, None
            payload = slate.payloads[self._frame % len(slate.payloads)]
            first = self._frame % len(slate.payloads) == 0
            lane.rescaled(slate.track)
            lane.send(target, slate.track, at, at, slate.frame, first or not lane.video, payload)
            lane.slated += 1
            self._frame += 1
            return
        queue = self._queue
        assert queue
        unit = queue.popleft()
        self._started = True
        shift = self._shift + self._segment.begin - (self._segment.origin or 0)
        lane.rescaled(unit.track)
        lane.send(target, unit.track, unit.pts + shift, unit.dts + shift, unit.duration, unit.keyframe, unit.payload)
        feed = self._segment.feed
        if isinstance(feed, FileFeed):
            feed.taken()


def _same_decoder(one: Track, other: Track) -> bool:
    return (
        one.codec is other.codec
        and _same_config(one, other)
        and one.timescale == other.timescale
        and (one.width, one.height, one.frame_rate) == (other.width, other.height, other.frame_rate)
        and (one.sample_rate, one.channels) == (other.sample_rate, other.channels)
    )


def _same_config(one: Track, other: Track) -> bool:
    if one.codec_config == other.codec_config:
        return True
    if one.codec is not Codec.AAC:
        return False
    # There are several ways to write that there is no SBR.
    try:
        return AudioConfig.parse(one.codec_config) == AudioConfig.parse(other.codec_config)
    except RemoteProtocolError:
        return False


def lanes_of(video: bool, audio_names: list[tuple[str, str, str]]) -> list[Lane]:
    """The lanes of a channel: a picture (id 0) and sounds (100, 101 …) with their public names."""
    lanes = [Lane(VIDEO_ID, video=True, index=0)] if video else []
    for index, (name, language, characteristics) in enumerate(audio_names):
        lanes.append(
            Lane(FIRST_AUDIO_ID + index, video=False, index=index, public_name=name, language=language,
                 characteristics=characteristics)
        )  # fmt: skip
    return lanes


def default_silence(codec: Codec | None) -> Codec:
    """What silence is made in for a lane of ``codec``."""
    return codec if codec in (Codec.AAC, Codec.OPUS, Codec.MP3) else Codec.AAC

