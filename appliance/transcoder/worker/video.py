"""Video inside the worker: one input, many renditions, each encoded by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
from av.error import FFmpegError
from av.video.frame import VideoFrame

from appliance.errors import KilnError, WorkerFault
from appliance.transcoder.encoders import candidates
from appliance.transcoder.messages import RenditionStats
from appliance.transcoder.spec import RenditionSpec, frame_rate_fraction
from appliance.transcoder.worker.grid import FrameSlots, InputGrid, RateMeter, RateWatch, key_frame_interval
from appliance.transcoder.worker.honoured import no_effect
from appliance.transcoder.worker.outbox import Outbox
from appliance.transcoder.worker.patience import Load, Patience
from appliance.transcoder.worker.picture_encoder import PictureEncoder, Work
from appliance.transcoder.worker.video_encoder import MOST_THREADS

if TYPE_CHECKING:
    from typing import Any

    from av.packet import Packet

#: Raw frames that may wait for one encoder: this many, or fewer when they are large.
QUEUE_FRAMES = 32
QUEUE_BYTES = 64 * 1024 * 1024
QUEUE_MINIMUM = 3
#: Automatic SkipFrames: look at the load this often, and grow by one when frames were lost.
SKIP_LOOK_NS = 1_000_000_000
SKIP_CALM_NS = 5_000_000_000

ReportFault = Callable[[str, int | None, bool], None]


class VideoInput:
    """The decoded frames of one input track. Calls come from one thread at a time.

    ``rate`` None is measured; ``phase`` None is that of the first frame. With ``adapt`` a rate that turns out to be
    another one is followed by the renditions that have no frame rate of their own.
    """

    def __init__(self, rate: Fraction | None, phase: int | None = None, *, adapt: bool = False) -> None:
        self.renditions: list[VideoRendition] = []
        #: All renditions are to have a key frame at their first common time from here on (90 kHz); None: not wanted.
        self.key_since: int | None = None
        self._rate = rate
        self._phase = phase
        self._grid: InputGrid | None = None
        self._meter = RateMeter()
        self._adapt = adapt
        self._watch: RateWatch | None = None
        self._held: list[tuple[VideoFrame, int]] = []
        self._fill = False
        self._force_from: int | None = None

    def frame(self, frame: VideoFrame, at: int) -> None:
        """One raw frame at ``at`` (90 kHz ticks of the stream's timeline)."""
        if self._grid is not None:
            changed = self._watch.add(at) if self._watch else None
            if changed is not None:
                self._follow(self._grid, changed)
            self._offer(self._grid, frame, at)
            return
        self._held.append((frame, at))
        if self._rate is None:
            self._rate = self._meter.add(at)
        if self._rate is None:
            return
        phase = self._held[0][1] if self._phase is None else self._phase
        grid = self._grid = InputGrid(self._rate, phase)
        if self._adapt:
            self._watch = RateWatch(self._rate)
        held, self._held = self._held, []
        for earlier, then in held:
            self._offer(grid, earlier, then)

    def lapse(self) -> None:
        """Frames were left out on purpose: the hole is not filled."""
        self._fill = False
        if self._watch is not None:
            self._watch.start_over()

    def _follow(self, grid: InputGrid, rate: Fraction) -> None:
        self._grid = InputGrid(rate, grid.phase)
        self._watch = RateWatch(rate)
        for rendition in self.renditions:
            rendition.follow(self._grid)

    def _offer(self, grid: InputGrid, frame: VideoFrame, at: int) -> None:
        steady = grid.snap(at)
        if steady is None:
            return
        if self.key_since is not None and steady >= self.key_since:
            self.key_since = None
            self._force_from = max((r.next_time(grid, steady) for r in self.renditions if r.spec.kind == "video"),
                                   default=None)  # fmt: skip
        for rendition in self.renditions:
            rendition.offer(grid, frame, steady, self._force_from, self._fill)
        self._fill = True


class VideoRendition:
    """One encode. `offer` never waits; `run` is the thread that filters and encodes."""

    def __init__(self, spec: RenditionSpec, outbox: Outbox, fault: ReportFault, before: VideoRendition | None) -> None:
        self.spec = spec
        self.busy_since: int | None = None
        self._outbox = outbox
        self._fault = fault
        self._before = before
        self._changed = threading.Condition()
        self._queue: deque[Work] = deque()
        self._closed = False
        self._failed = False
        self._slots: FrameSlots | None = None
        self._last_frame: VideoFrame | None = None
        self._patience = Patience()
        self._key_pending = True
        self._forced_until: int | None = None
        self._skip = spec.skip_frames
        self._skip_looked = 0
        self._skip_dropped = 0
        self._calm_since = 0
        self._encoder: PictureEncoder | None = None
        self._told: set[str] = set()
        self._threads = 1
        self._load = Load()
        self._wanted_bitrate: int | None = None
        self._taken = 0
        self._dropped = 0
        self._duplicated = 0
        self._made = 0
        self._bytes = 0
        self._thread = threading.Thread(target=self.run, name=f"encode-{spec.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # The input's side

    def next_time(self, grid: InputGrid, steady: int) -> int:
        """Time of this rendition's first slot from ``steady`` on."""
        slots = self._slots or self._make_slots(grid)
        return slots.time_of(slots.first_slot_from(steady))

    def offer(self, grid: InputGrid, frame: VideoFrame, steady: int, force_from: int | None, fill: bool) -> None:
        if self._failed:
            return
        slots = self._slots or self._make_slots(grid)
        slot = slots.slot_at(steady)
        if slots.last is not None and slot <= slots.last:
            return
        at = slots.time_of(slot)
        forced = force_from is not None and at >= force_from and force_from != self._forced_until
        if forced:
            self._forced_until = force_from
        if slots.begins_interval(slot) or forced:
            self._key_pending = True
        if self._skip > 0 and slot % (self._skip + 1) and not self._key_pending:
            return
        if fill and self._skip <= 0 and self.spec.kind == "video":
            self._fill_gap(slots, slot)
        slots.last = slot
        self._last_frame = frame
        self._taken += 1
        self._put(Work(frame, at, self._key_pending, time.monotonic_ns()))
        if self.spec.skip_frames >= 0:
            self._adapt_skip(slots)

    def follow(self, grid: InputGrid) -> None:
        """The input has another frame rate from here on."""
        old = self._slots
        if old is None or (self.spec.framerate and self.spec.skip_frames < 0):
            return
        slots = self._make_slots(grid)
        if old.last is not None:
            slots.last = slots.slot_at(old.time_of(old.last))

    def _make_slots(self, grid: InputGrid) -> FrameSlots:
        spec = self.spec
        rate = grid.rate
        if spec.framerate and spec.skip_frames < 0:
            rate = frame_rate_fraction(spec.framerate)
        self._slots = FrameSlots(rate, key_frame_interval(spec, rate), grid.phase)
        return self._slots

    def _fill_gap(self, slots: FrameSlots, slot: int) -> None:
        missing = slots.gap(slot)
        picture = self._last_frame
        if not missing or picture is None or slots.last is None:
            return
        for empty in range(slots.last + 1, slot):
            # Filling is never worth losing a real frame.
            if len(self._queue) >= self._limit(picture) // 2 and missing < slots.rate / 2:
                break
            if len(self._queue) >= self._limit(picture) - 1:
                break
            self._duplicated += 1
            self._put(Work(picture, slots.time_of(empty), False, time.monotonic_ns()))

    def _limit(self, frame: VideoFrame) -> int:
        size = max(1, frame.width * frame.height * 3 // 2)
        limit = 1 if self.spec.kind == "image" else QUEUE_FRAMES
        return min(limit, max(QUEUE_MINIMUM, QUEUE_BYTES // size))

    def _put(self, work: Work) -> None:
        with self._changed:
            if len(self._queue) >= self._limit(work.frame):
                self._lose(work.since)
                if not work.keyframe:
                    return
                # A key frame belongs on its tick: a newer frame that no key frame needs makes room.
                self._queue.pop()
            self._queue.append(work)
            if work.keyframe:
                self._key_pending = False
            self._changed.notify_all()

    def _adapt_skip(self, slots: FrameSlots) -> None:
        now = time.monotonic_ns()
        if now - self._skip_looked < SKIP_LOOK_NS:
            return
        lost = self._dropped - self._skip_dropped
        self._skip_dropped = self._dropped
        self._skip_looked = now
        if lost:
            self._skip = min(self._skip + 1, max(1, round(slots.rate) - 1))
            self._calm_since = now
        elif self._skip > self.spec.skip_frames and now - self._calm_since > SKIP_CALM_NS:
            self._skip -= 1
            self._calm_since = now

    # Commands

    def want_key_frame(self) -> None:
        """The next frame becomes a key frame (packets after the last one were lost)."""
        self._key_pending = True

    def want_bitrate(self, bitrate: int) -> None:
        self._wanted_bitrate = bitrate

    def change_bitrate(self, wanted: RenditionSpec) -> bool:
        """Become ``wanted`` without a new thread when only the bitrate differs."""
        if self.spec.kind != "video" or msgspec.structs.replace(self.spec, bitrate=wanted.bitrate) != wanted:
            return False
        self._wanted_bitrate = wanted.bitrate
        self.spec = wanted
        return True

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Encode what waits, and end. Does not wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    @property
    def stats(self) -> RenditionStats:
        encoder = self._encoder
        return RenditionStats(
            id=self.spec.id,
            encoder=encoder.name if encoder else "",
            frames_in=self._taken,
            frames_out=self._made,
            bytes_out=self._bytes,
            dropped=self._dropped,
            duplicated=self._duplicated,
            output_dropped=self._outbox.dropped.get(self.spec.id, 0),
            queue=len(self._queue),
            skip=self._skip,
        )

    # The encoder's side

    def run(self) -> None:
        if self._before is not None:
            # Its last packets come before our first.
            self._before.join()
            self._before = None
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    break
                work = self._next()
            began = self.busy_since = time.monotonic_ns()
            try:
                self._encode(work)
            except (FFmpegError, KilnError, ValueError) as error:
                if not self._encode_anew(work, str(error)):
                    self._give_up()
                    return
            self.busy_since = None
            self._load.worked(time.monotonic_ns() - began)
        self._finish()

    def wait_for_room(self, until: float) -> None:
        """Let the encoder catch up with a burst: returns when half its queue is free, or at the monotonic ``until``."""
        with self._changed:
            while not self._failed and self._queue and len(self._queue) * 2 > self._limit(self._queue[0].frame):
                left = until - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _next(self) -> Work:
        self._changed.notify_all()
        work = self._queue.popleft()
        now = time.monotonic_ns()
        too_old = now - self._patience.limit(now)
        while self._queue and work.since < too_old and not work.keyframe:
            self._lose(now)
            work = self._queue.popleft()
        return work

    def _lose(self, now: int) -> None:
        self._dropped += 1
        self._patience.lost(now)

    def _give_up(self) -> None:
        with self._changed:
            self._failed = True
            self._queue.clear()
            self._changed.notify_all()
        self._last_frame = None
        self.busy_since = None

    def _encode(self, work: Work) -> None:
        encoder = self._encoder
        if encoder is None or not encoder.takes(work.frame, self._slots):
            if encoder is not None:
                self._send(encoder.finish(), encoder)
            encoder = self._open(work.frame, encoder.candidate if encoder else 0)
        if work.keyframe:
            encoder = self._more_threads(encoder, work.frame)
        wanted, self._wanted_bitrate = self._wanted_bitrate, None
        if wanted is not None and not encoder.set_bitrate(wanted):
            self._send(encoder.finish(), encoder)
            self.spec = msgspec.structs.replace(self.spec, bitrate=wanted)
            encoder = self._open(work.frame, encoder.candidate)
        self._send(encoder.encode(work), encoder)

    def _more_threads(self, encoder: PictureEncoder, frame: VideoFrame) -> PictureEncoder:
        """At a key frame: where one thread more would keep up, and one less hardly does, open the encoder anew."""
        threads = encoder.threads
        if not self._load.heavy(time.monotonic_ns()) or self.spec.thread_count >= 0 or not 0 < threads < MOST_THREADS:
            return encoder
        self._threads = min(MOST_THREADS, threads * 2)
        self._send(encoder.finish(), encoder)
        return self._open(frame, encoder.candidate)

    def _encode_anew(self, work: Work, reason: str) -> bool:
        """After a fault: the next encoder of the list, or the same one opened anew; False when there is none left."""
        failed = self._encoder
        self._encoder = None
        if failed is None:
            self._fault(reason, self.spec.id, False)
            return False
        names = failed.names
        following = failed.candidate + 1 if failed.candidate + 1 < len(names) else failed.candidate
        self._fault(f"{failed.name}: {reason}; going on with {names[following]}", self.spec.id, False)
        try:
            encoder = self._open(work.frame, following)
            self._send(encoder.encode(work._replace(keyframe=True)), encoder)
        except (FFmpegError, KilnError, ValueError) as error:
            self._fault(str(error), self.spec.id, True)
            return False
        return True

    def _open(self, frame: VideoFrame, first: int) -> PictureEncoder:
        slots = self._slots
        assert slots is not None
        spec = self.spec
        names = spec.encoders or candidates(spec.codec, spec.modules)
        reasons = []
        for index in range(first, len(names)):
            try:
                self._encoder = PictureEncoder(names, index, spec, slots, frame, self._threads)
            except WorkerFault as fault:
                reasons.append(str(fault))
                continue
            if reasons:
                self._fault(f"{'; '.join(reasons)}; using {names[index]}", spec.id, False)
            self._tell_no_effect(names[index])
            return self._encoder
        raise WorkerFault("; ".join(reasons))

    def _tell_no_effect(self, encoder: str) -> None:
        text = no_effect(encoder, self.spec)
        if text and text not in self._told:
            self._told.add(text)
            self._fault(text, self.spec.id, False)

    def _send(self, packets: list[Packet[Any]], encoder: PictureEncoder) -> None:
        for packet in packets:
            track = encoder.announcement(packet)
            if track is not None:
                self._outbox.track(track)
            keyframe = packet.is_keyframe or self.spec.kind == "image"
            payload = encoder.canonical.payload(packet)
            assert packet.pts is not None
            dts = packet.pts if packet.dts is None else packet.dts
            duration = encoder.duration_at(packet.pts, self._skip)
            if self._outbox.packet(self.spec.id, packet.pts, dts, duration, keyframe, payload):
                self._made += 1
                self._bytes += packet.size

    def _finish(self) -> None:
        if self._encoder is None:
            return
        try:
            self._send(self._encoder.finish(), self._encoder)
        except FFmpegError as error:
            self._fault(f"{self._encoder.name}: {error}", self.spec.id, False)
