"""Loss of input: while a source gives nothing, its stream goes on with a slate that names the fault, and silence.

The slate is put in at the timeline, so that what is bypassed and what is encoded see the same packets. It goes on where
the stream's media ended, paced by the monotonic clock; the source comes back at its first key frame, stamped to go on
where the slate ends. What comes for a time that the slate has taken already is dropped and counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from appliance.engine.hold_rules import HoldRules, InputFault
from appliance.engine.slate_fill import Fill, PictureFill, SilenceFill, StillFill
from appliance.media.clock import NANOSECONDS
from appliance.media.contracts import Progress
from appliance.media.timeline import Timeline
from appliance.media.track import Track
from appliance.transcoder.fault_slate import SlateForm, Slates

if TYPE_CHECKING:
    from appliance.engine.input_stream import InputStream

log = logging.getLogger("kiln.input")

#: How far the media of a stream may run before the clock or behind it (ns); a slate takes back a tenth of its own
#: length of what is more. It stays this much behind what the source would have given, so that the source isn't late.
LEAD = 300_000_000
MARGIN = 150_000_000
#: The most (ns) that a slate fills in at once behind the clock; a longer silence leaves a hole.
MOST_AT_ONCE = 3 * NANOSECONDS
#: A source that went quiet and is back behind the slate may catch up for so long, and, once it has, wait for its next
#: key frame for so long.
CATCH_UP = 400_000_000
KEY_FRAME_WAIT = NANOSECONDS
MOST_KEPT_BYTES = 16 * 1024 * 1024
#: Sound that comes alone for so long is taken while the picture is still away (ns).
SOUND_ALONE = NANOSECONDS
#: How often a stream that is well is looked at (s), at most.
LOOK_EVERY = 0.5
#: Pictures that come and can't be decoded for so long make a fault (ns); how long (ns) until they are tried again.
UNDECODED = 2 * NANOSECONDS
RETRY = 5 * NANOSECONDS
MOST_RETRY = 60 * NANOSECONDS
#: Measured before a slate is made for a track that doesn't tell its frame rate (s).
MEASURE = 3.0
#: The times of two frames that follow on one another may be off by this (ns).
_SLACK = 2_000_000


class _Frame(msgspec.Struct, frozen=True, gc=False):
    """A frame as the source gave it."""

    track: Track
    pts: int
    dts: int
    keyframe: bool
    payload: bytes
    duration: int


class InputLoss:
    """Watches one input stream (``run``) and fills in for its source. ``input`` may change: its successor takes over.

    ``fault`` None: all is well. ``late`` counts packets that came for a time already taken, ``losses`` the faults.
    ``last_picture`` and ``still`` (the last key frame) are told by the input.
    """

    def __init__(self, input: InputStream, rules: HoldRules, slates: Slates, alarms: MutableMapping[str, str]) -> None:
        self.input = input
        self.rules = rules
        self.fault: InputFault | None = None
        self.reason = ""
        self.since_wall = 0
        self.late = 0
        self.losses = 0
        self.last_picture = input.clock.monotonic()
        self.still = b""
        #: The source's own Track to the one it has in the hub; while it is empty they are the same.
        self.renamed: dict[Track, Track] = {}
        self.renames = False
        self._places: dict[int, int] = {}
        self._over = False
        self._slates = slates
        self._alarms = alarms
        self._changed = trio.Event()
        self._since = 0
        self._gone = False
        self._fresh = False
        self._fills: dict[int, Fill] = {}
        self._pictures: dict[int, Track] = {}
        self._anchor = 0
        self._lead = 0
        self._back_since = 0
        self._sound_since = 0
        self._kept: list[_Frame] = []
        self._kept_bytes = 0
        #: Tracks that begin again with the frame that is no earlier than this time of the source (ns).
        self._begin_at: dict[int, int] = {}
        self._undecoded_since = 0
        self._decoded = (0, 0)
        self._retry_at = 0
        self._retry = RETRY

    # What the input asks and tells

    @property
    def active(self) -> bool:
        """Whether frames of the source have to come through ``take``."""
        return self.fault is not None or bool(self._begin_at)

    @property
    def described(self) -> dict[str, object]:
        """What is wrong, for people; ``fault`` is "" while nothing is. ``since``: seconds since 1970."""
        if self.fault is None:
            return {"fault": ""}
        return {"fault": self.fault.value, "reason": self.reason, "since": round(self.since_wall / NANOSECONDS, 3)}

    @property
    def gone(self) -> bool:
        """The source has left, so that another one may have its place."""
        return self._gone

    def lose(self, reason: str, *, gone: bool = False) -> None:
        """The source is known to be lost; what comes next is of another clock. ``gone``: it has left for good."""
        self._gone = gone
        self._fresh = True
        self._forget_kept()
        self._enter(InputFault.NO_INPUT, reason)

    def succeed(self, successor: InputStream, reason: str) -> None:
        """``successor`` is the source from now on; ``reason`` is why the one before is put off."""
        self.lose(reason)
        self.input = successor
        self.renamed = {}
        self.renames = True

    def take(self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int) -> None:
        """A frame of the source, while ``active``."""
        if self._gone:
            self.late += 1
            return
        frame = _Frame(track, pts, dts, keyframe, payload, duration)
        if self.fault is None:
            self._begin(frame)
        elif self._id(track) not in self._fills and self._id(track) not in self._pictures:
            self._pass_on(frame)
        else:
            self._wait_for_start(frame)

    def name(self, track: Track) -> Track:
        """The hub's Track for frames of ``track``: another configuration is the next generation."""
        known = self.renamed.get(track)
        if known is not None:
            return known
        hub = self.input.stream
        id = self._id(track)
        now = hub.tracks.get(id)
        if now is None or now is track:
            made = track
        elif _same_configuration(now, track):
            made = now
        else:
            made = msgspec.structs.replace(
                track, id=id, generation=now.generation + 1, variant=now.variant, public_name=now.public_name
            )
        self.renamed = {source: ours for source, ours in self.renamed.items() if ours.id != id}
        self.renamed[track] = made
        return made

    def match(self, tracks: Sequence[Track]) -> bool:
        """Whether a successor's ``tracks`` can go on in the place of those there are: as many of each kind and codec.
        They get the places of these, in the order of their ids."""
        places: dict[int, int] = {}
        ours = _of_media(self.input.stream.tracks.values())
        for theirs in _of_media(tracks):
            place = next((each for each in ours if (each.media, each.codec) == (theirs.media, theirs.codec)), None)
            if place is None:
                return False
            ours.remove(place)
            places[theirs.id] = place.id
        if ours:
            return False
        self._places = places
        return True

    def _id(self, track: Track) -> int:
        return self._places.get(track.id, track.id)

    # The task

    async def run(self, progress: Progress) -> None:
        """A supervised child, until the stream is over."""
        while not self._over:
            progress()
            pause = self._tend() if self.fault is not None else self._look()
            changed = self._changed = trio.Event()
            with trio.move_on_after(pause):
                await changed.wait()

    def stop(self) -> None:
        """The stream is over, or kept no more."""
        self._over = True
        self.fault = None
        self._alarms.pop(self._alarm, None)
        self._changed.set()

    async def make_ready(self, progress: Progress) -> None:
        """A supervised child: have the slate made, again when the picture has another form."""
        made: SlateForm | None = None
        waited = False
        while not self._over:
            progress()
            form = self._form()
            if form is not None and form != made:
                track = self._picture()
                if track is not None and not track.frame_rate and not waited:
                    waited = True
                    await trio.sleep(MEASURE)
                    continue
                made = form
                await self._slates.make(form)
                self._changed.set()
            await trio.sleep(LOOK_EVERY)

    def _picture(self) -> Track | None:
        """The picture as the source has it."""
        for track in self.input.stream.tracks.values():
            if track.is_video:
                return self._pictures.get(track.id, track)
        return None

    def _form(self) -> SlateForm | None:
        track = self._picture()
        if track is None:
            return None
        measured = self.input.measured.get(track.id)
        rate = measured.framerate_avg if measured is not None else 0.0
        # A rate that was measured wavers: whole frames will do.
        return SlateForm.of(track, float(round(rate)))

    # Well

    def _look(self) -> float:
        """How long (s) until the next look."""
        now = self.input.clock.monotonic()
        stall = self.rules.stall
        quiet = now - self.input.last_packet
        if quiet >= stall:
            self._enter(InputFault.NO_INPUT, f"nothing came for {quiet // 1_000_000} ms")
            return 0
        picture = self._picture()
        dark = now - self.last_picture if picture is not None else 0
        if dark >= stall:
            self._enter(InputFault.NO_VIDEO, f"no picture came for {dark // 1_000_000} ms")
            return 0
        if self._is_undecoded(now):
            self._retry_at = now + self._retry
            self._retry = min(2 * self._retry, MOST_RETRY)
            self._enter(InputFault.DECODING_FAILED, "its pictures can't be decoded")
            return 0
        return min(LOOK_EVERY, (stall - max(quiet, dark)) / NANOSECONDS + 0.001)

    def _is_undecoded(self, now: int) -> bool:
        outputs = self.input.outputs
        transcoder = outputs.transcoder if outputs is not None else None
        if transcoder is None or self._picture() is None:
            return False
        stats = transcoder.stats
        before, self._decoded = self._decoded, (stats.source_frames, stats.decode_errors)
        if stats.source_frames != before[0]:
            self._undecoded_since = 0
            if now > self._retry_at + MOST_RETRY:
                self._retry = RETRY
        elif stats.decode_errors > before[1] and not self._undecoded_since:
            self._undecoded_since = now
        return bool(self._undecoded_since) and now - self._undecoded_since >= UNDECODED

    # Lost

    @property
    def _alarm(self) -> str:
        return f"input:{self.input.label}"

    def _enter(self, fault: InputFault, reason: str) -> None:
        timeline = self.input.timeline
        if timeline is None or self.fault is fault:
            return
        now = self.input.clock.monotonic()
        if self.fault is None:
            self.losses += 1
            self._since, self.since_wall = now, self.input.clock.wall()
            self._begin_at.clear()
            self._anchor = now if fault is InputFault.NO_VIDEO else min(now, self.input.last_packet)
            self._lead = timeline.reached_ns - (self._anchor - self.input.stream.epoch)
        self._back_since = self._sound_since = self._undecoded_since = 0
        self.fault, self.reason = fault, reason
        log.warning("input lost stream=%s fault=%r reason=%r", self.input.label, str(fault), reason)
        self._alarms[self._alarm] = f"{fault}: {reason}; a slate is shown"
        self._fill_in(fault, timeline)
        self._changed.set()

    def _fill_in(self, fault: InputFault, timeline: Timeline) -> None:
        """The tracks that the fault takes away are filled in for."""
        begin = max(timeline.reached_ns, self._due_ns() - MOST_AT_ONCE)
        for track in self.input.stream.tracks.values():
            if track.is_video:
                fill = self._fills.get(track.id)
                if isinstance(fill, PictureFill):
                    fill.text = fault.slate
                elif fill is None:
                    self._pictures.setdefault(track.id, track)
                    self._show(track, timeline, begin)
            elif track.is_audio and fault is InputFault.NO_INPUT and track.id not in self._fills:
                sound = SilenceFill.of(track, timeline, begin)
                if sound is not None:
                    self._fills[track.id] = sound

    def _show(self, track: Track, timeline: Timeline, begin: int) -> None:
        """The slate in the place of ``track``, or the last picture as long as there is none."""
        assert self.fault is not None
        form = self._form()
        slate = self._slates.get(form) if form is not None else None
        if form is not None and slate is not None:
            self._fills[track.id] = PictureFill(track, timeline, begin, slate, form.rate, self.fault.slate)
            self.renamed = {source: ours for source, ours in self.renamed.items() if ours.id != track.id}
            self.renames = True
        elif self.still and track.id not in self._fills:
            self._fills[track.id] = StillFill(track, timeline, begin, self.still)

    def _due_ns(self) -> int:
        """The stream time that goes out now."""
        now = self.input.clock.monotonic()
        lead, taken_back = self._lead, (now - self._anchor) // 10
        if lead > LEAD:
            lead = max(LEAD, lead - taken_back)
        elif lead < -LEAD:
            lead = min(-LEAD, lead + taken_back)
        return now - self.input.stream.epoch + lead - MARGIN

    def _tend(self) -> float:
        """Give out what is due; how long (s) until there is more."""
        timeline = self.input.timeline
        assert timeline is not None
        now = self.input.clock.monotonic()
        if self.rules.hold and now - self._since >= self.rules.hold:
            self.input.cancel(f"{self.fault} for {self.rules.hold // 1_000_000} ms")
            return 0
        if self.fault is not InputFault.NO_INPUT and now - self.input.last_packet >= self.rules.stall:
            self._enter(InputFault.NO_INPUT, "nothing comes any more")
        for id, track in self._pictures.items():
            if not isinstance(self._fills.get(id), PictureFill):
                self._show(track, timeline, timeline.reached_ns)
        due = self._due_ns()
        put = self.input.put
        while self._fills:
            fill = min(self._fills.values(), key=_end_ns)
            if fill.end_ns > due:
                return min(LOOK_EVERY, (fill.end_ns - due) / NANOSECONDS + 0.001)
            fill.emit(put)
        return LOOK_EVERY

    # Back again

    def _wait_for_start(self, frame: _Frame) -> None:
        """A frame of a track that is filled in for."""
        now = self.input.clock.monotonic()
        if self.fault is InputFault.DECODING_FAILED and now < self._retry_at:
            return
        if not self._back_since:
            self._back_since = now
        if self._pictures and not frame.track.is_video:
            if self._kept:
                self._kept.append(frame)
            else:
                self._sound_alone(frame, now)
            return
        if self._fresh:
            if frame.keyframe:
                self._return(frame)
            else:
                self.late += 1
            return
        timeline = self.input.timeline
        assert timeline is not None
        named = msgspec.structs.replace(frame.track, id=self._id(frame.track))
        expected = timeline.expected(named, frame.dts)
        slack = _SLACK * frame.track.timescale // NANOSECONDS
        follows = expected is not None and expected + slack >= timeline.end(named)
        if frame.keyframe and follows:
            self._return(frame)
            return
        self._keep(frame)
        waited = now - self._back_since
        if self._kept and (waited >= KEY_FRAME_WAIT if follows else waited >= CATCH_UP):
            kept = self._kept
            self._kept, self._kept_bytes = [], 0
            # Sound that goes on keeps its place, and what is late of the picture is pressed together.
            self._fresh = self.fault is InputFault.NO_INPUT
            self._return(kept[0])
            for each in kept[1:]:
                self.take(*_as_sent(each))

    def _sound_alone(self, frame: _Frame, now: int) -> None:
        """Sound without picture: after a while it is taken, and the slate says what is missing."""
        self.late += 1
        if not self._sound_since or self.last_picture >= self._sound_since:
            self._sound_since = now
        elif now - self._sound_since >= max(SOUND_ALONE, self.rules.stall) and self.fault is InputFault.NO_INPUT:
            timeline = self.input.timeline
            assert timeline is not None
            self._fills = {id: fill for id, fill in self._fills.items() if id in self._pictures}
            timeline.cut()
            self._fresh = False
            self._anchor = now
            self._lead = timeline.reached_ns - (now - self.input.stream.epoch)
            self._enter(InputFault.NO_VIDEO, "sound comes without a picture")

    def _keep(self, frame: _Frame) -> None:
        """Frames from the last key frame on, in case the source doesn't catch up."""
        if frame.keyframe:
            self.late += len(self._kept)
            self._forget_kept()
        elif not self._kept:
            self.late += 1
            return
        self._kept.append(frame)
        self._kept_bytes += len(frame.payload)
        if self._kept_bytes > MOST_KEPT_BYTES:
            self.late += len(self._kept)
            self._forget_kept()

    def _forget_kept(self) -> None:
        self._kept, self._kept_bytes = [], 0

    def _return(self, frame: _Frame) -> None:
        """The source is back, with this key frame (or its first sound, where there is no picture)."""
        timeline = self.input.timeline
        assert timeline is not None
        lost = self.input.clock.monotonic() - self._since
        if self._fresh:
            self._fill_up_to(timeline.reached_ns)
            timeline.cut()
        else:
            named = msgspec.structs.replace(frame.track, id=self._id(frame.track))
            self._fill_up_to((timeline.expected(named, frame.dts) or 0) * NANOSECONDS // named.timescale)
        filled = set(self._fills) | set(self._pictures)
        start = frame.dts * NANOSECONDS // frame.track.timescale
        self._begin_at = dict.fromkeys(filled - {self._id(frame.track)}, start)
        self._fills.clear()
        self._pictures.clear()
        self._forget_kept()
        self._fresh = False
        self.fault = None
        self.renames = True
        self.last_picture = self.input.clock.monotonic()
        self._alarms.pop(self._alarm, None)
        log.info("input back stream=%s after_ms=%d late=%d", self.input.label, lost // 1_000_000, self.late)
        self._pass_on(frame)
        self._changed.set()

    def _fill_up_to(self, time_ns: int) -> None:
        """What is filled in for ends together."""
        for fill in self._fills.values():
            while fill.end_ns <= time_ns + _SLACK:
                fill.emit(self.input.put)

    def _begin(self, frame: _Frame) -> None:
        """The first frames after the return: each track begins where the first one of them did."""
        begin = self._begin_at.get(self._id(frame.track))
        if begin is not None:
            if frame.dts * NANOSECONDS // frame.track.timescale < begin:
                self.late += 1
                return
            del self._begin_at[self._id(frame.track)]
        self._pass_on(frame)

    def _pass_on(self, frame: _Frame) -> None:
        self.input.pass_on(self.name(frame.track), frame.pts, frame.dts, frame.keyframe, frame.payload, frame.duration)


def _as_sent(frame: _Frame) -> tuple[Track, int, int, bool, bytes, int]:
    return frame.track, frame.pts, frame.dts, frame.keyframe, frame.payload, frame.duration


def _end_ns(fill: Fill) -> int:
    return fill.end_ns


def _of_media(tracks: Iterable[Track]) -> list[Track]:
    return sorted((track for track in tracks if track.is_video or track.is_audio), key=lambda track: track.id)


def _same_configuration(one: Track, other: Track) -> bool:
    """Whether a decoder that is set up for one goes on with the other."""
    return (
        one.codec is other.codec
        and one.codec_config == other.codec_config
        and one.timescale == other.timescale
        and (one.width, one.height) == (other.width, other.height)
        and (one.sample_rate, one.channels) == (other.sample_rate, other.channels)
    )
