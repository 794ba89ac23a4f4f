"""Plays a schedule: prepares each item while the one before it is on the air, and cuts on its frames.

Once on the air it stays there: what can't be played gives way to the fallback program, and that to black and silence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import trio

from appliance.errors import KilnError, Unavailable
from appliance.logs import RateLimited
from appliance.media.clock import Clock
from appliance.media.contracts import Input, Progress
from appliance.media.stream import Stream
from appliance.media.track import Codec, Track
from appliance.transcoder.demux import Demuxers, Slate
from appliance.transcoder.demux_messages import MakeSlate
from appliance.transcoder.playout.feeds import KEY_FRAME_WITHIN, Feed, FileFeed, LiveFeed
from appliance.transcoder.playout.lanes import Lane, Segment, default_silence, lanes_of
from appliance.transcoder.playout.model import MS, Program, Schedule
from appliance.transcoder.playout.timetable import Entry, Timetable

log = logging.getLogger("kiln.channel")

#: How long before its turn an item is prepared (ns), and how long that takes when it is joined at once.
LEAD = 2_500_000_000
EARLY = 150_000_000
#: Seconds between tries of what could not be played, and between looks at what is due.
RETRY_NS = 1_000_000_000
#: So long before its turn an item must be ready; then another takes its place (ns).
LAST_TRY = 700_000_000
LOOK_NS = 100_000_000
#: The shortest and the longest sleep between frames (s): several go out at a time.
SHORTEST_SLEEP, LONGEST_SLEEP = 0.03, 0.05
SLATES_KEPT = 8

FindStream = Callable[[str, str, str], Stream | None]


class Cut(Enum):
    """When a prepared item takes over: NOW, or where the one on the air ends."""

    NOW = "now"
    END = "end"


@dataclass(slots=True)
class Ready:
    """An item that can go on the air. ``at``: the wall clock (ns) where it is to, None: as ``cut`` says, ``follows``
    being what was on the air when it was chosen."""

    entry: Entry
    feed: Feed
    cut: Cut
    at: int | None
    follows: Segment | None
    slates: dict[int, Slate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnAir:
    """What is being seen. ``position``: ns within its source; ``entry`` None: black."""

    entry: Entry | None
    position: int = 0


class Player:
    """``open_input`` gives what is fed, once there is something; ``find`` an output stream of this box by virtual host,
    application and name. ``gives_up``: what can't be played ends it. ``trouble``: why something else is seen than what
    the schedule says ("": nothing)."""

    def __init__(
        self, schedule: Schedule, *, label: str, root: Path, demuxers: Demuxers, find: FindStream, clock: Clock,
        open_input: Callable[[], Input], gives_up: bool = False,
    ) -> None:  # fmt: skip
        stream = schedule.stream
        names = [(each.name, each.language, each.characteristics) for each in stream.audio_map] or [("", "", "")]
        self.label = label
        self.timetable = Timetable(schedule)
        self.trouble = ""
        self.lanes = lanes_of(stream.video_track, names if stream.audio_track else [])
        self._root = root
        self._demuxers = demuxers
        self._find = find
        self._clock = clock
        self._open_input = open_input
        self._gives_up = gives_up
        self._input: Input | None = None
        self._lost = ""
        self._tolerance = stream.error_tolerance_ms * MS
        self._zero = 0
        self._segment: Segment | None = None
        self._ready: Ready | None = None
        self._preparing: trio.CancelScope | None = None
        self._awaited: Entry | None = None
        self._awaited_since = 0
        self._standing_in: trio.CancelScope | None = None
        self._over: Program | None = None
        self._retry_at = 0
        self._fallback_retry_at = 0
        self._failed: Entry | None = None
        self._starved_since: int | None = None
        self._starved_at = 0
        self._superseded = False
        self._look_at = 0
        self._slates: dict[MakeSlate, list[Slate]] = {}
        self._reports = RateLimited(log)

    async def run(self, progress: Progress) -> None:
        """Until cancelled. Raises NameTaken and what else keeps the stream off the air, Unavailable when the engine has
        ended it."""
        if not self.lanes:
            raise Unavailable("a channel without picture and sound")
        faults: list[KilnError] = []
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                while True:
                    progress()
                    await trio.sleep(self._step())
                    if self._lost:
                        raise Unavailable(self._lost)
        except* KilnError as group:
            faults.extend(_leaves(group))
        finally:
            self._drop_ready()
            if self._segment is not None and self._segment.feed is not None:
                self._segment.feed.close()
            if self._input is not None:
                self._input.close("the channel ends")
        raise faults[0]

    def change(self, schedule: Schedule) -> None:
        """From now on play this. What is on the air stays as long as it would be on now in the same way."""
        self.timetable = Timetable(schedule)
        self._drop_ready()
        self._failed = None
        self._retry_at = self._fallback_retry_at = 0
        self._look_at = 0
        segment = self._segment
        if segment is None or segment.entry is None:
            return
        kept = self.timetable.replaced(segment.entry, self._clock.wall())
        if kept is None:
            self._superseded = True
        else:
            segment.entry = kept
            segment.until = None

    @property
    def on_air(self) -> OnAir | None:
        """None before the first frame."""
        segment = self._segment
        if segment is None:
            return None
        live = segment.entry is not None and segment.entry.item.live
        return OnAir(segment.entry, segment.position(self._now(), live=live))

    def _now(self) -> int:
        return self._clock.monotonic() - self._zero

    # Frames

    def _step(self) -> float:
        """Do what is due; seconds until the next time."""
        now = self._now()
        if self._segment is None or now >= self._look_at:
            self._look_at = now + LOOK_NS
            self._direct(now)
            # Going on the air moves the zero.
            now = self._now()
        segment, target = self._segment, self._input
        if segment is None or target is None:
            return LONGEST_SLEEP
        due = segment.send_due(target, now)
        if segment.over:
            self._advance(now)
            return 0.0
        self._watch_starving(segment, now, due)
        if due is None:
            return SHORTEST_SLEEP
        return min(max((due - now) / 1e9, SHORTEST_SLEEP), LONGEST_SLEEP)

    def _watch_starving(self, segment: Segment, now: int, due: int | None) -> None:
        feed = segment.feed
        if feed is None or feed.done or not segment.starved:
            self._starved_since = None
            return
        sent = segment.lead.lane.sent if segment.lead is not None else 0
        if self._starved_since is None or sent != self._starved_at:
            # A live source whose frames go out as they come has none at hand at any look.
            self._starved_since, self._starved_at = now, sent
        elif now - self._starved_since > self._tolerance:
            self._starved_since = None
            feed.fail(f"no media for {self._tolerance // MS} ms")
            self._look_at = 0

    def _advance(self, now: int) -> None:
        """The item on the air has ended on all lanes."""
        before = self._segment
        assert before is not None
        if before.feed is not None:
            before.feed.close()
        if before.entry is not None and self._was_last(before.entry, before.feed):
            self._over = before.entry.program
        ready = self._ready
        if ready is not None:
            self._ready = None
            self._begin(ready, before.end, before.entry)
        else:
            self._segment = Segment(None, None, before.end, self.lanes)
        self._look_at = 0

    def _was_last(self, entry: Entry, feed: Feed | None) -> bool:
        """Whether nothing of its program comes after ``entry``, which has ended."""
        program = entry.program
        if entry.fallback or program.repeat or self._superseded or entry.index + 1 < len(program.items):
            return False
        return not (feed is not None and feed.fault and entry.item.fallback_on_err)

    def _begin(self, ready: Ready, begin: int, before: Entry | None) -> None:
        if isinstance(ready.feed, LiveFeed):
            ready.feed.trim()
        for lane in self.lanes:
            lane.slate = ready.slates.get(lane.id, lane.slate)
        entry = self.timetable.begun(ready.entry, before, self._clock.wall() + begin - self._now())
        self._segment = Segment(entry, ready.feed, begin, self.lanes)
        self._superseded = False
        self._starved_since = None
        log.info("item on stream=%s program=%s item=%s", self.label, ready.entry.program.name, ready.entry.item.url)
        if not ready.entry.fallback:
            self._failed = None
            self.trouble = ""

    def _first(self, ready: Ready) -> None:
        """Go on the air."""
        target = self._open_input()
        tracks = []
        for lane in self.lanes:
            source = _source_track(ready.feed, lane) or (lane_slate.track if (lane_slate := ready.slates.get(lane.id))
                                                         else None)  # fmt: skip
            if source is not None:
                tracks.append(lane.adopt(source))
        target.on_cancel(self._cancelled)
        target.prepare(tracks)
        self._input = target
        self._zero = self._clock.monotonic()
        self._look_at = self._retry_at = self._fallback_retry_at = 0
        self._begin(ready, 0, None)

    def _cancelled(self, reason: str) -> None:
        self._lost = reason or "ended by the engine"

    # What comes next

    def _direct(self, now: int) -> None:
        wall = self._clock.wall()
        segment, ready = self._segment, self._ready
        if ready is not None and self._outdated(ready, wall):
            ready.feed.close()
            ready = self._ready = None
        if ready is not None and isinstance(ready.feed, LiveFeed):
            ready.feed.trim()
        if segment is None:
            if ready is not None:
                self._ready = None
                self._first(ready)
                return
        else:
            self._place_end(segment, ready, now, wall)
            if segment.feed is not None and isinstance(segment.feed, LiveFeed) and not segment.feed.done:
                silent = self._clock.monotonic() - segment.feed.last
                if silent > self._tolerance:
                    segment.feed.fail(f"no media for {self._tolerance // MS} ms")
        if self._preparing is None and ready is None:
            self._drop_ready()
            wanted = self._wanted(now, wall)
            if wanted is not None:
                # Set here: the next look may come before the task has begun.
                self._preparing = trio.CancelScope()
                self._awaited, self._awaited_since = wanted[0], now
                self._nursery.start_soon(self._prepare, self._preparing, segment, *wanted)
        elif self._ready is None and segment is not None and self._standing_in is None:
            fallback = self._stand_in(segment, now)
            if fallback is not None:
                cut = Cut.NOW if segment.entry is None else Cut.END
                self._standing_in = trio.CancelScope()
                self._nursery.start_soon(self._prepare, self._standing_in, segment, fallback, cut, None)

    def _stand_in(self, segment: Segment, now: int) -> Entry | None:
        """What is to be seen when what is being prepared does not get ready before ``segment`` ends."""
        if now - self._awaited_since < LAST_TRY or now < self._fallback_retry_at:
            return None
        if self._awaited is None or self._awaited.fallback:
            return None
        ends = now if segment.entry is None else self._ends_at(segment, now)
        if ends is None or ends - now > LAST_TRY:
            return None
        return self.timetable.fallback_after(segment.entry)

    def _outdated(self, ready: Ready, wall: int) -> bool:
        """Its source is lost, or its time has passed while it got ready."""
        until = self.timetable.begun(ready.entry, None, wall).until
        if until is not None and until <= wall:
            return True
        feed = ready.feed
        return feed.done and bool(feed.fault) and not any(feed.queues.values())

    def _place_end(self, segment: Segment, ready: Ready | None, now: int, wall: int) -> None:
        ends = []
        if segment.entry is not None and segment.entry.until is not None:
            ends.append(now + segment.entry.until - wall)
        if ready is not None:
            if ready.at is not None:
                ends.append(now + ready.at - wall)
            elif ready.cut is Cut.NOW or ready.follows is not segment:
                # What it was to follow may have ended before it was ready.
                ends.append(now)
        segment.until = min(ends) if ends else None

    def _wanted(self, now: int, wall: int) -> tuple[Entry, Cut, int | None] | None:
        segment = self._segment
        entry = segment.entry if segment is not None else None
        if segment is not None and entry is not None and not entry.fallback and not self._superseded:
            return self._after_primary(segment, entry, now, wall)
        primary = self._primary(now, wall)
        if primary is not None:
            return primary
        table = self.timetable
        if entry is None or (entry.fallback and self._superseded) or entry.program != table.schedule.fallback:
            fallback = table.fallback_after(None)
            if fallback is not None and now >= self._fallback_retry_at:
                return fallback, Cut.NOW, None
        elif segment is not None and self._ends_at(segment, now) is not None and now >= self._fallback_retry_at:
            following = table.fallback_after(entry)
            return (following, Cut.END, None) if following is not None else None
        return None

    def _primary(self, now: int, wall: int) -> tuple[Entry, Cut, int | None] | None:
        """What the schedule says is to be on now or soon, when it is time to try."""
        table = self.timetable
        coming = table.next_begin(wall)
        if coming is not None and coming - wall <= LEAD:
            entry = table.entry_at(coming)
            if entry is not None and now >= self._retry_at:
                return entry, Cut.END, coming
        if now < self._retry_at:
            return None
        due = table.entry_at(wall + EARLY)
        if due is None or due.program == self._over:
            return None
        failed = self._failed
        if failed is not None and failed.program == due.program and any(i.length is None for i in due.program.items):
            due = failed
        return due, Cut.NOW, None

    def _after_primary(
        self, segment: Segment, entry: Entry, now: int, wall: int
    ) -> tuple[Entry, Cut, int | None] | None:
        ends = self._ends_at(segment, now)
        if ends is None:
            return None
        feed = segment.feed
        table = self.timetable
        following: Entry | None = None
        if feed is not None and feed.fault:
            self._note(entry, feed.fault, now)
            if not entry.item.fallback_on_err:
                following = table.entry_after(entry, wall + ends - now)
        elif now >= self._retry_at:
            until = entry.until
            by_plan = until is not None and wall + (ends - now) >= until - MS
            following = table.entry_after(entry, until if by_plan and until is not None else wall + ends - now)
        elif ends - now > LAST_TRY:
            # It failed a moment ago; there is time to try it again before its turn.
            return None
        if following is None and now >= self._fallback_retry_at:
            following = table.fallback_after(None)
        return None if following is None else (following, Cut.END, None)

    def _ends_at(self, segment: Segment, now: int) -> int | None:
        """Where the item on the air will end (ns of the output), when that is near enough to prepare what follows."""
        ends = [segment.until] if segment.until is not None else []
        feed = segment.feed
        if feed is not None and feed.done:
            queued = segment.last_queued()
            ends.append(max(now, queued if queued is not None else segment.end))
        end = min(ends) if ends else None
        return end if end is not None and end - now <= LEAD else None

    def _note(self, entry: Entry, reason: str, now: int) -> None:
        """``entry`` can't be played."""
        if self._gives_up:
            self._lost = reason
        self._failed = entry
        self._retry_at = now + RETRY_NS
        self.trouble = f"{entry.item.url}: {reason}"
        self._reports(logging.ERROR, "item not played stream=%s program=%s item=%s reason=%r",
                      self.label, entry.program.name, entry.item.url, reason)  # fmt: skip

    def _drop_ready(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.feed.close()
        for scope in (self._preparing, self._standing_in):
            if scope is not None:
                scope.cancel()
        self._preparing = self._standing_in = None

    # Preparing

    async def _prepare(
        self, scope: trio.CancelScope, follows: Segment | None, entry: Entry, cut: Cut, at: int | None
    ) -> None:
        feed: Feed | None = None
        with scope:
            try:
                feed = await self._open(entry)
                self._nursery.start_soon(feed.fill)
                with trio.move_on_after(KEY_FRAME_WITHIN):
                    while not feed.startable and not feed.done:
                        await feed.changed.wait()
                if not feed.startable:
                    raise Unavailable(feed.fault or f"no key frame within {KEY_FRAME_WITHIN:g} s")
                slates = await self._slates_for(feed)
                if scope is not self._preparing and (scope is not self._standing_in or self._ready is not None):
                    # Dropped while its last step was under way, or not needed any more.
                    return
                if self._ready is not None:
                    self._ready.feed.close()
                self._ready = Ready(entry, feed, cut, at, follows, slates)
                feed = None
            except KilnError as error:
                self._could_not(entry, str(error))
            except Exception as error:
                # One item is lost by it, not the channel.
                log.exception("preparation broken stream=%s item=%s", self.label, entry.item.url)
                self._could_not(entry, f"internal error: {error!r}")
            finally:
                if feed is not None:
                    feed.close()
                if self._preparing is scope:
                    self._preparing = None
                    self._look_at = 0
                elif self._standing_in is scope:
                    self._standing_in = None
                    self._look_at = 0

    def _could_not(self, entry: Entry, reason: str) -> None:
        now = self._now()
        if entry.fallback:
            self._fallback_retry_at = now + RETRY_NS
            self._reports(logging.ERROR, "fallback not played stream=%s item=%s reason=%r",
                          self.label, entry.item.url, reason)  # fmt: skip
            self.trouble = self.trouble or f"{entry.item.url}: {reason}"
            return
        self._note(entry, reason, now)

    async def _open(self, entry: Entry) -> Feed:
        item = entry.item
        if item.live:
            return await LiveFeed.join(self._find, item.place, self.label)
        return await FileFeed.open(self._demuxers, self._root, item.place, entry.content)

    async def _slates_for(self, feed: Feed) -> dict[int, Slate]:
        """What each lane is filled with while ``feed`` is on. A lane whose slate can't be made stays as it is."""
        found: dict[int, Slate] = {}
        for lane in self.lanes:
            job = _slate_job(lane, _source_track(feed, lane) or lane.track)
            made = self._slates.get(job)
            if made is None:
                try:
                    made = await self._demuxers.slates(job)
                except Unavailable as error:
                    log.warning("no slate stream=%s reason=%s", self.label, error)
                    continue
                if len(self._slates) >= SLATES_KEPT:
                    del self._slates[next(iter(self._slates))]
                self._slates[job] = made
            if made:
                found[lane.id] = made[0]
        return found


def _leaves(group: BaseExceptionGroup[KilnError]) -> Iterator[KilnError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _source_track(feed: Feed, lane: Lane) -> Track | None:
    if lane.video:
        return feed.video
    return feed.audios[lane.index] if lane.index < len(feed.audios) else None


def _slate_job(lane: Lane, like: Track | None) -> MakeSlate:
    if lane.video:
        if like is None:
            return MakeSlate(0, Codec.H264)
        rate = like.frame_rate if 1 <= like.frame_rate <= 120 else 30.0
        return MakeSlate(0, like.codec, max(16, like.width & ~1), max(16, like.height & ~1), rate)
    if like is None:
        return MakeSlate(0, None, audio=Codec.AAC)
    return MakeSlate(0, None, audio=default_silence(like.codec), sample_rate=like.sample_rate, channels=like.channels)
