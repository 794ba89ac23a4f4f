"""The timeline of an input stream: whatever the source's clock does, the stream's times run on.

All tracks share one offset from source time to stream time, so sound stays with picture. A run of source times under
one offset is a segment; a jump of the source begins a new one, which the other tracks join when they jump too.
Times on a constant rate that arrive rounded (RTMP: to a millisecond) are put back on their exact grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction

from appliance.errors import RemoteProtocolError
from appliance.media.clock import NANOSECONDS, rescale
from appliance.media.codecs.aac import AudioConfig
from appliance.media.frame_rates import constant_rate, grid_period
from appliance.media.track import Codec, Track

#: A source that goes further ahead or further back than this within a track has jumped (ns).
JUMP_AHEAD = 10 * NANOSECONDS
JUMP_BACK = NANOSECONDS // 2
#: A track left behind in an old segment looks at the newest one when it steps by more than this (ns).
_RESTLESS = NANOSECONDS // 4
#: A track whose source time stands still for this long is anchored again (ns).
STUCK = NANOSECONDS
#: How far the stream may be from the monotonic clock before it counts as drifting (ns).
DRIFT_LIMIT = 5 * NANOSECONDS
_MEASURE_EVERY = 32

#: Fractions of a second: how far a video time is moved onto its grid, how far PTS may be moved, how far a sound time
#: may be off while its average stays within ``_SOUND_DRIFT``, and how far a run of lost sound frames may miss the grid.
_VIDEO_TOLERANCE = Fraction(15, 10_000)
_PTS_TOLERANCE = Fraction(2, 1000)
_SOUND_TOLERANCE = Fraction(10, 1000)
_SOUND_DRIFT = Fraction(2, 1000)
_SOUND_GAP = Fraction(25, 10_000)
#: Reordering of frames that a source may show by PTS before DTS (s), and the furthest PTS may be after DTS (s).
_MAX_REORDER = 1
_MAX_COMPOSITION = 10

#: Frames looked at before their spacing counts as constant: tells 59.94 from 60 in times rounded to a millisecond.
_WINDOW = 96
#: What one miss of the grid costs, in frames of grace, and how much is too much.
_MISS_COST = 240
_MISS_LIMIT = 600
#: So many frames in a row as they were due, and a frame's duration is given before the next one comes.
_SURE = 8
_NEVER = -(1 << 80)

_SAMPLES = {Codec.AAC: 1024, Codec.MP3: 1152, Codec.MP2: 1152, Codec.AC3: 1536}


@dataclass(slots=True)
class Mended:
    """How often the timeline had to step in, by kind.

    ``jumps``: source jumped, a new segment began. ``stuck``: source time stood still and was anchored again.
    ``overlaps``: a segment was moved on because a track of it started earlier than the others. ``dts``: not increasing.
    ``pts``: before DTS or absurdly far behind it. ``reorders``: DTS of a track moved back once for negative composition
    offsets. ``regrids``: a constant rate was off by more than the tolerance and took a new phase.
    """

    jumps: int = 0
    stuck: int = 0
    overlaps: int = 0
    dts: int = 0
    pts: int = 0
    reorders: int = 0
    regrids: int = 0

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class _Segment:
    """A run of source times under one offset (ns, source to stream)."""

    __slots__ = ("offset",)

    def __init__(self, offset: int) -> None:
        self.offset = offset


class _Lane:
    """What the timeline knows about one track. Ticks of its timescale unless said otherwise."""

    __slots__ = (
        "ahead", "audio", "base", "behind", "den", "drift", "due", "far", "frame", "gap", "heat", "index", "length",
        "num", "offset", "out", "pts_tolerance", "scale", "segment", "shift", "skip_at", "skipped", "skips", "slack",
        "source", "stuck_at", "stuck_since", "sure_from", "tolerance", "top", "track", "video", "widest", "window",
        "wrap", "wrap_bits",
    )  # fmt: skip

    def __init__(self, track: Track) -> None:
        self.source = 0
        self.offset = 0
        self.shift = 0
        self.out = -1
        self.length = 0
        self.top = -1
        self.segment: _Segment | None = None
        # Nothing is between these: the first packet always asks for its segment.
        self.ahead, self.behind = -1, 1
        self.due = _NEVER
        self.base = self.index = self.heat = self.sure_from = 0
        self.skip_at = _NEVER
        self.skipped = self.skips = 0
        self.drift = 0.0
        self.window: list[int] = []
        self.stuck_at = _NEVER
        self.stuck_since = 0
        self.wrap_bits = self.wrap = 0
        self.num, self.den = 0, 1
        self.describe(track)

    def describe(self, track: Track) -> None:
        self.track = track
        scale = self.scale = track.timescale
        self.audio = track.is_audio
        self.video = track.is_video
        self.far = _MAX_COMPOSITION * scale
        self.frame = _frame_ticks(track) if self.audio else 0
        self.slack = int(_SOUND_DRIFT * scale)
        self.gap = int(_SOUND_GAP * scale)
        self.pts_tolerance = int(_PTS_TOLERANCE * scale)
        self.tolerance = self.widest = int((_VIDEO_TOLERANCE if self.video else _SOUND_TOLERANCE) * scale)
        period = grid_period(track.frame_rate, scale) if self.video else None
        if period is not None:
            self.num, self.den = period.numerator, period.denominator

    def limits(self, newest: bool) -> None:
        self.ahead = (JUMP_AHEAD if newest else _RESTLESS) * self.scale // NANOSECONDS
        self.behind = -(JUMP_BACK if newest else _RESTLESS) * self.scale // NANOSECONDS

    def restart_grid(self, at: int) -> None:
        """Begin again at stream time ``at``."""
        self.window = []
        self.drift = 0.0
        self.heat = 0
        if self.video and self.num:
            self.base, self.index, self.due, self.sure_from = at, 0, at, _SURE
        else:
            self.due = _NEVER

    def move(self, ticks: int) -> None:
        """The segment moves on by ``ticks``."""
        self.offset += ticks
        self.base += ticks
        if self.due != _NEVER:
            self.due += ticks
        self.window = []

    @property
    def end(self) -> int:
        """Where what has been given out ends."""
        return self.out + self.length if self.out >= 0 else 0


class Timeline:
    """Maps the times of one input's source to the stream's own: from zero on, never back, sound and picture together.

    ``clock_now_ns`` gives CLOCK_MONOTONIC nanoseconds, ``epoch_ns`` is the moment of stream time zero on it. Only after
    a jump does the clock decide where the stream goes on; otherwise the source's spacing is kept and ``drift_ns`` tells
    how far the last packet was ahead of (+) or behind (-) the clock. ``mended`` counts what was repaired.
    """

    __slots__ = ("_clock", "_epoch", "_lanes", "_measure_in", "_newest", "drift_ns", "mended")

    def __init__(self, clock_now_ns: Callable[[], int], epoch_ns: int) -> None:
        self._clock = clock_now_ns
        self._epoch = epoch_ns
        self._lanes: dict[int, _Lane] = {}
        self._newest: _Segment | None = None
        self._measure_in = 1
        self.drift_ns = 0
        self.mended = Mended()

    @property
    def drifting(self) -> bool:
        """Whether the source's clock has led the stream over 5 s away from ours."""
        return abs(self.drift_ns) > DRIFT_LIMIT

    def stamp(self, track: Track, pts: int, dts: int, duration: int = 0, wrap_bits: int = 0) -> tuple[int, int, int]:
        """Stream times ``(pts, dts, duration)`` for source times, all in ticks of ``track.timescale``.

        ``dts`` increases within a track and is at least 0, ``pts`` is at least ``dts``; the first packet of the stream
        has DTS zero. ``duration`` is 0 where neither the source nor a rate that proved constant tells it.
        ``wrap_bits``: the source's counter wraps: 33 bits of 90 kHz (MPEG-TS), 32 bits of milliseconds (RTMP), any
        other number of bits in ticks of the track; 0: it doesn't. Never raises, whatever the numbers are.
        """
        lane = self._lanes.get(track.id)
        if lane is None or lane.track is not track:
            lane = self._lane(track, lane)
        if wrap_bits:
            pts, dts = self._unwrap(lane, pts, dts, wrap_bits)
        step = dts - lane.source
        if step > lane.ahead or step < lane.behind:
            self._judge(lane, pts, dts)
        lane.source = dts
        composition = pts - dts + lane.shift
        if composition < 0 or composition > lane.far:
            composition = self._mend_composition(lane, composition)
        time = dts + lane.offset

        error = time - lane.due
        tolerance = lane.tolerance
        out = lane.due if -tolerance <= error <= tolerance else self._off_grid(lane, time)
        if lane.audio:
            if out == lane.due:
                lane.drift = drift = lane.drift + (error - lane.drift) * 0.03125
                if not -lane.slack <= drift <= lane.slack:
                    out = self._take_up_drift(lane)
            if duration <= 0 or duration > lane.far:
                duration = lane.frame
        if out <= lane.out:
            out = self._mend_dts(lane, pts, dts)
            time = dts + lane.offset

        if lane.num:
            lane.index += 1
            lane.due = due = lane.base + lane.index * lane.num // lane.den
            lane.length = length = due - out if due > out else 1
            duration = length if lane.index > lane.sure_from else duration if 0 < duration <= lane.far else 0
        elif lane.audio and duration:
            lane.due = out + duration
            if duration != lane.length:
                lane.length = duration
                lane.tolerance = min(lane.widest, duration // 2)
        else:
            if duration < 0 or duration > lane.far:
                duration = 0
            lane.length = duration or (min(out - lane.out, lane.scale) if lane.out >= 0 else 0)
        lane.out = out

        self._measure_in -= 1
        if not self._measure_in:
            self._measure(lane)
        if not composition:
            return out, out, duration
        shown = self._presentation(lane, out, time + composition, composition)
        if shown > lane.top:
            lane.top = shown
        return shown, out, duration

    def _measure(self, lane: _Lane) -> None:
        self._measure_in = _MEASURE_EVERY
        self.drift_ns = lane.out * NANOSECONDS // lane.scale - (self._clock() - self._epoch)

    # ---- what no source gives

    def cut(self) -> None:
        """Another source, with another clock, goes on from here: its first packet follows on what was given out, and
        what comes before that packet's time on its other tracks joins it."""
        self._newest = None
        for lane in self._lanes.values():
            lane.segment = None
            lane.ahead, lane.behind = -1, 1
            lane.shift = lane.wrap_bits = 0
            lane.due = _NEVER

    def end(self, track: Track) -> int:
        """Where the next packet of ``track`` may begin, in its ticks: behind all that was given out of it, in decoding
        and in presentation; 0 when there is nothing yet."""
        lane = self._lanes.get(track.id)
        if lane is None or lane.out < 0:
            return 0
        end = max(lane.end, lane.top + lane.length)
        return end if lane.scale == track.timescale else rescale(end, lane.scale, track.timescale)

    @property
    def reached_ns(self) -> int:
        """Where the stream ends (ns): the end of the track that has come furthest."""
        lanes = self._lanes.values()
        return max((max(each.end, each.top + each.length) * NANOSECONDS // each.scale for each in lanes), default=0)

    def place(self, track: Track, time: int, duration: int) -> int:
        """A packet that no source gave takes its place at stream time ``time``, or where the track ends if that is
        later. Its DTS, which is its PTS; ticks of ``track.timescale``."""
        lane = self._lanes.get(track.id)
        if lane is None or lane.scale != track.timescale:
            lane = self._lane(track, lane)
        time = max(time, self.end(track))
        lane.out = lane.top = time
        lane.length = duration
        if lane.audio:
            lane.due = _NEVER
        return time

    def expected(self, track: Track, dts: int) -> int | None:
        """The stream time that ``dts`` of the source has as long as the source goes on as it did, None when it is
        further from its last one than ``JUMP_AHEAD`` or nothing is known of it. Ticks; changes nothing."""
        lane = self._lanes.get(track.id)
        if lane is None or lane.scale != track.timescale or self._newest is None:
            return None
        here = dts * NANOSECONDS // lane.scale
        if abs(here - self._position(self._newest)) > JUMP_AHEAD:
            return None
        if lane.segment is self._newest:
            return dts + lane.offset
        return dts + rescale(self._newest.offset, NANOSECONDS, lane.scale)

    # ---- tracks and segments

    def _lane(self, track: Track, lane: _Lane | None) -> _Lane:
        """The lane of a track that is new, or has a new configuration."""
        if lane is None:
            lane = self._lanes[track.id] = _Lane(track)
            return lane
        scale = lane.scale
        if track.timescale != scale:
            # The next time given out must not be before what was given out in the old unit.
            lane.out = -(-lane.out * track.timescale // scale) if lane.out >= 0 else -1
            lane.top = -(-lane.top * track.timescale // scale) if lane.top >= 0 else -1
            lane.length = rescale(lane.length, scale, track.timescale)
            lane.source = rescale(lane.source, scale, track.timescale)
            lane.shift = rescale(lane.shift, scale, track.timescale)
            lane.num, lane.den, lane.wrap_bits = 0, 1, 0
        before = scale, lane.num, lane.den
        lane.describe(track)
        if lane.segment is not None and track.timescale != scale:
            lane.limits(lane.segment is self._newest)
            lane.offset = rescale(lane.segment.offset, NANOSECONDS, lane.scale) - lane.shift
        if (lane.scale, lane.num, lane.den) != before:
            lane.restart_grid(lane.end)
        return lane

    def _unwrap(self, lane: _Lane, pts: int, dts: int, bits: int) -> tuple[int, int]:
        if bits != lane.wrap_bits:
            clock = {33: 90_000, 32: 1000}.get(bits, lane.scale)
            lane.wrap = max(2, rescale(1 << min(max(bits, 1), 64), clock, lane.scale))
            lane.wrap_bits = bits
        wrap = lane.wrap
        half = wrap // 2
        if lane.segment is not None:
            near = lane.source
        elif self._newest is not None:
            near = self._position(self._newest) * lane.scale // NANOSECONDS
        else:
            near = dts
        composition = (pts - dts + half) % wrap - half
        dts = near + (dts - near + half) % wrap - half
        return dts + composition, dts

    def _position(self, segment: _Segment) -> int:
        """The latest source time within ``segment`` (ns)."""
        lanes = [lane for lane in self._lanes.values() if lane.segment is segment]
        return max((lane.source * NANOSECONDS // lane.scale for lane in lanes), default=0)

    def _judge(self, lane: _Lane, pts: int, dts: int) -> None:
        """The step is unusual: stay, join the newest segment, or begin one."""
        newest, segment = self._newest, lane.segment
        here = dts * NANOSECONDS // lane.scale
        if newest is None:
            self._begin(lane, pts, dts)
            return
        if segment is not newest:
            away = abs(here - self._position(newest))
            step = JUMP_AHEAD + 1 if segment is None else abs(dts - lane.source) * NANOSECONDS // lane.scale
            if away <= JUMP_AHEAD and away < step:
                self._join(lane, newest, pts, dts)
                return
        if segment is not None:
            step = (dts - lane.source) * NANOSECONDS // lane.scale
            if -JUMP_BACK <= step <= JUMP_AHEAD or (step > 0 and here - self._position(segment) <= JUMP_AHEAD):
                return
        self.mended.jumps += 1
        self._begin(lane, pts, dts)

    def _begin(self, lane: _Lane, pts: int, dts: int) -> None:
        """A new segment: it goes on where the stream ends or where the clock is, whichever is later."""
        # What follows a cut goes on where the stream ends, wherever the clock is.
        start, shown = (0 if self._newest is None else max(0, self._clock() - self._epoch)), 0
        for other in self._lanes.values():
            start = max(start, other.end * NANOSECONDS // other.scale)
            shown = max(shown, (other.top + other.length) * NANOSECONDS // other.scale)
        early = max(0, dts - pts)
        lane.shift = max(lane.shift, early) if early <= _MAX_REORDER * lane.scale else lane.shift
        pts = max(pts, dts - lane.shift)
        # In whole ticks not before that.
        first = -(-start * lane.scale // NANOSECONDS)
        first_shown = -(-shown * lane.scale // NANOSECONDS)
        lane.offset = max(first - (dts - lane.shift), first_shown - pts, lane.end - (dts - lane.shift)) - lane.shift
        segment = self._newest = _Segment(rescale(lane.offset + lane.shift, lane.scale, NANOSECONDS))
        lane.segment = segment
        for other in self._lanes.values():
            if other.segment is not None:
                other.limits(other.segment is segment)
        lane.restart_grid(dts + lane.offset)

    def _join(self, lane: _Lane, segment: _Segment, pts: int, dts: int) -> None:
        """Take the segment's offset; move all of it on when this track starts before the segment's place."""
        lane.segment = segment
        lane.limits(True)
        early = max(0, dts - pts)
        lane.shift = max(lane.shift, early) if early <= _MAX_REORDER * lane.scale else lane.shift
        lane.offset = rescale(segment.offset, NANOSECONDS, lane.scale) - lane.shift
        lane.restart_grid(dts + lane.offset)
        missing = max(lane.end - (dts + lane.offset), lane.top + lane.length - (pts + lane.offset + lane.shift))
        if missing > 0:
            self.mended.overlaps += 1
            segment.offset += -(-missing * NANOSECONDS // lane.scale)
            for other in self._lanes.values():
                if other.segment is segment:
                    offset = rescale(segment.offset, NANOSECONDS, other.scale) - other.shift
                    other.move(offset - other.offset)

    # ---- single packets

    def _mend_composition(self, lane: _Lane, composition: int) -> int:
        """``composition`` is negative or absurd. DTS of the track move back once for all where frames are reordered."""
        deeper = -composition
        if lane.pts_tolerance < deeper <= _MAX_REORDER * lane.scale - lane.shift:
            if lane.num:
                periods = -(-(deeper - lane.tolerance) * lane.den // lane.num)
                deeper = max(deeper, periods * lane.num // lane.den)
            self.mended.reorders += 1
            lane.shift += deeper
            lane.offset -= deeper
            lane.window = []
            return composition + deeper
        self.mended.pts += 1
        return 0

    def _mend_dts(self, lane: _Lane, pts: int, dts: int) -> int:
        """The time doesn't increase: one tick on, or a new anchor when the source's clock stands still."""
        now = self._clock()
        if lane.stuck_at != lane.out:
            lane.stuck_since = now
        elif now - lane.stuck_since >= STUCK:
            self.mended.stuck += 1
            lane.stuck_at = _NEVER
            self._begin(lane, pts, dts)
            return dts + lane.offset
        self.mended.dts += 1
        lane.stuck_at = lane.out + 1
        return lane.out + 1

    def _presentation(self, lane: _Lane, out: int, shown: int, composition: int) -> int:
        """PTS for a frame that is shown after its DTS: on the grid of its track, if it has one."""
        if lane.num:
            index = ((shown - lane.base) * 2 * lane.den + lane.num) // (2 * lane.num)
            exact = lane.base + index * lane.num // lane.den
            shown = exact if -lane.pts_tolerance <= shown - exact <= lane.pts_tolerance else out + composition
        if shown < out:
            self.mended.pts += 1
            return out
        return shown

    # ---- constant rates

    def _off_grid(self, lane: _Lane, time: int) -> int:
        """``time`` is not where the next packet was due: frames are missing, the phase is off, or there is no grid."""
        if lane.audio:
            return self._sound_off_grid(lane, time)
        if not lane.num:
            if lane.video:
                lane.window.append(time)
                if len(lane.window) >= _WINDOW:
                    self._look_for_rate(lane)
            return time
        index = ((time - lane.base) * 2 * lane.den + lane.num) // (2 * lane.num)
        exact = lane.base + index * lane.num // lane.den
        if -lane.tolerance <= time - exact <= lane.tolerance:
            self._skip(lane, index - lane.index, exact)
            lane.index = index
            lane.sure_from = index + _SURE
            return exact
        self.mended.regrids += 1
        lane.heat = max(0, lane.heat - abs(index)) + _MISS_COST
        if lane.heat > _MISS_LIMIT:
            lane.num, lane.due, lane.heat, lane.window = 0, _NEVER, 0, [time]
        else:
            lane.base, lane.index, lane.sure_from = time, 0, _SURE
        return time

    def _skip(self, lane: _Lane, skipped: int, at: int) -> None:
        """``skipped`` frames are missing. When it's the same number every time, the rate was told too high."""
        if skipped > 0 and lane.skipped == skipped and lane.skip_at == lane.out:
            lane.skips += 1
            if lane.skips >= _SURE and lane.num * (skipped + 1) <= lane.scale * lane.den:
                lane.num *= skipped + 1
                lane.base, lane.skips = at - (lane.index + skipped) * lane.num // lane.den, 0
        else:
            lane.skipped, lane.skips = skipped, 1
        lane.skip_at = at

    def _sound_off_grid(self, lane: _Lane, time: int) -> int:
        if lane.due == _NEVER:
            return time
        lane.drift = 0.0
        error = time - lane.due
        frame = lane.length
        if error > 0 and frame:
            missing = (error + frame // 2) // frame
            if missing and abs(error - missing * frame) <= lane.gap:
                return lane.due + missing * frame
        if time > lane.out:
            self.mended.regrids += 1
        return time

    def _take_up_drift(self, lane: _Lane) -> int:
        """The sound's clock isn't quite its nominal rate: step by what has gathered."""
        self.mended.regrids += 1
        out = lane.due + round(lane.drift)
        lane.drift = 0.0
        return out

    def _look_for_rate(self, lane: _Lane) -> None:
        times, lane.window = lane.window, []
        found = constant_rate(times, lane.scale)
        if found is not None:
            period, lane.base = found
            lane.num, lane.den = period.numerator, period.denominator
            lane.index = ((times[-1] - lane.base) * 2 * lane.den + lane.num) // (2 * lane.num)
            lane.heat = 0
            lane.sure_from = lane.index


def _frame_ticks(track: Track) -> int:
    """The length of a sound packet where the codec fixes it, else 0."""
    if track.codec is Codec.AAC and track.codec_config:
        try:
            config = AudioConfig.parse(track.codec_config)
        except RemoteProtocolError:
            return 0
        return rescale(config.frame_length, config.core_rate, track.timescale)
    samples = _SAMPLES.get(track.codec, 0)
    return rescale(samples, track.sample_rate, track.timescale) if track.sample_rate else 0
