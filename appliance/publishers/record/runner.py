"""Recording: carries a Record task out on one life of its output stream."""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Iterable

import trio

from appliance.errors import BadRequest, NotFound
from appliance.media.clock import NANOSECONDS
from appliance.media.contracts import Context, OutputStream, Progress
from appliance.media.packet import Packet
from appliance.media.tasks import Record, TaskChanged, TaskState
from appliance.media.track import Track
from appliance.publishers.record.cutter import Action, Cutter, Part
from appliance.publishers.record.paths import Places
from appliance.publishers.record.schedule import Due, parse_schedule
from appliance.publishers.record.writers import Writer, container_of, holds, holds_events, make_writer
from appliance.settings import models
from appliance.storage.client import DiskClient, DiskFault, RecordedFile
from appliance.storage.entry import Entry

log = logging.getLogger("kiln.record")

#: What may gather while the disk is busy: a minute of 6 Mbit/s.
RING_PACKETS = 16384
RING_BYTES = 48 << 20
#: Packets that are held until they are on the disk, for the next file if this one fails.
MOST_HELD = 8192
#: The cutter keeps the newest packet of each track: the disk has so much less than the time that is told.
HELD_BACK_NS = 200_000_000
#: Between two tries of a disk that refuses.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
LOOK_SECONDS = 0.5
#: A wall clock that is off by less was only adjusted.
STEP_MS = 100
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_LATE = "the disk does not answer"
_SLOW = "the disk is too slow"
#: After so long without another loss, what was lost is no fault of now any more.
FORGIVEN_NS = 30_000_000_000


class RecordRunner:
    """``disk`` is the client of the media root's worker; ``changed`` is told of files and faults."""

    def __init__(self, context: Context, disk: DiskClient, changed: TaskChanged) -> None:
        self.context = context
        self.disk = disk
        self.changed = changed

    def check(self, task: Record, output: OutputStream | None) -> None:
        if task.interval > 0 and task.schedule:
            raise BadRequest("[Interval] and [Schedule] cannot be used at the same time")
        if task.schedule:
            parse_schedule(task.schedule)
        places = self.places(task, "0" * 16)
        container_of(places.file(0, 0))
        places.info(0, 0)
        if output is not None:
            recordable(task, places.pattern, output.stream.tracks.values())

    async def run(self, task: Record, output: OutputStream, stop: trio.Event, progress: Progress) -> None:
        session = Session(self, task, output, stop)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.watch, progress)
            await session.run()
            nursery.cancel_scope.cancel()

    def places(self, task: Record, transaction: str) -> Places:
        """Raises NotFound, BadRequest."""
        settings = self.context.directory.application(task.vhost, task.app)
        publisher = settings.publishers.file if isinstance(settings, models.Application) else None
        if publisher is None:
            raise NotFound(f"Could not find application: [{task.vhost}/{task.app}]")
        return Places(self.context.media_root, publisher, task, transaction)


def recordable(task: Record, path: str, tracks: Iterable[Track]) -> list[Track]:
    """The tracks that ``task`` records into ``path``. Raises BadRequest when there is none, or one that it names can't
    be held by the container."""
    chosen = task.chosen(tracks)
    held = [track for track in chosen if holds(path, track)]
    refused = [track for track in chosen if track not in held]
    named = bool(task.track_ids or task.variant_names)
    if refused and (named or not held):
        what = ", ".join(f"{track.variant or track.id} ({track.codec})" for track in refused)
        raise BadRequest(f"A file of this kind can't hold {what}: {path}")
    if not held:
        raise BadRequest("The stream has no track of those names")
    return held


def _decoded_ns(packet: Packet) -> int:
    return packet.dts * NANOSECONDS // packet.track.timescale


class _File:
    """One file under way: ``part`` is filled by the cutter, ``writer`` makes its bytes, ``sink`` takes them."""

    __slots__ = ("entry", "monotonic", "sink", "writer")

    def __init__(self, writer: Writer, sink: RecordedFile, entry: Entry, monotonic: int) -> None:
        self.writer = writer
        self.sink = sink
        self.entry = entry
        self.monotonic = monotonic


class Session:
    """One life of a task: from the stream's next key frame until ``stop`` or the end of the stream."""

    def __init__(self, runner: RecordRunner, task: Record, output: OutputStream, stop: trio.Event) -> None:
        self._disk = runner.disk
        self._changed = runner.changed
        self._clock = runner.context.clock
        self._task = task
        self._stream = output.stream
        self._stop = stop
        self._waiting = trio.CancelScope()
        self._transaction = "".join(secrets.choice(_LETTERS) for _ in range(16))
        self._places = runner.places(task, self._transaction)
        self._tracks = recordable(task, self._places.pattern, output.stream.tracks.values())
        self._schedule = Due(parse_schedule(task.schedule), self._clock.wall()) if task.schedule else None
        self._reader = output.stream.reader(f"record:{task.id}", max_packets=RING_PACKETS, max_bytes=RING_BYTES)
        self._files: dict[Part, _File] = {}
        self._bytes_before = task.total_bytes
        self._time_before = task.total_time
        self._reference = next((track for track in self._tracks if track.is_video), self._tracks[0]).id
        self._inbox: deque[Packet] = deque()
        self._unsafe: deque[list[Packet]] = deque()
        self._held = 0
        self._lapses = 0
        self._lapsed_at = 0
        self._over = False

    async def run(self) -> None:
        task = self._task
        task.state = TaskState.RECORDING
        task.error = ""
        task.bytes = task.time = 0
        self._changed(task)
        pause = FIRST_PAUSE
        try:
            while not self._over:
                cutter = self._cutter()
                try:
                    await self._record(cutter)
                except DiskFault as fault:
                    began = any(file.sink.bytes for file in self._files.values())
                    pause = FIRST_PAUSE if began else pause
                    self._say(f"the disk: {fault}")
                    self._drop_files()
                    await self._sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._reader.close()
            self._drop_files()
            task.finished = self._clock.wall()
            self._changed(task)

    async def watch(self, progress: Progress) -> None:
        """Tell of a disk that is late, while the recording waits for it; end waiting when the task is to stop."""
        while True:
            progress()
            for part, file in self._files.items():
                self._count(part, file)
            if self._disk.late and not self._task.error:
                self._say(_LATE)
            elif not self._disk.late and self._task.error == _LATE:
                self._say("")
            with trio.move_on_after(LOOK_SECONDS):
                await self._stop.wait()
                self._waiting.cancel()
                await trio.sleep_forever()

    # Packets to files

    def _cutter(self) -> Cutter:
        tracks = [self._stream.tracks.get(track.id, track) for track in self._tracks]
        return Cutter(
            tracks, self._is_due, continuous=self._task.segmentation_rule == "continuity",
            events=holds_events(self._places.pattern),
        )  # fmt: skip

    def _is_due(self, elapsed_ns: int) -> bool:
        if self._schedule is not None:
            return self._schedule(self._clock.wall())
        # Half a millisecond: times are rounded.
        return self._task.interval > 0 and elapsed_ns + 500_000 >= self._task.interval * 1_000_000

    async def _record(self, cutter: Cutter) -> None:
        # After a fault: what the disk may not have, from a key frame on.
        self._inbox.extendleft(reversed([packet for gop in self._unsafe for packet in gop]))
        self._unsafe.clear()
        self._held = 0
        while True:
            while self._inbox:
                packet = self._inbox.popleft()
                self._remember(packet)
                for action in cutter.add(packet):
                    await self._act(action, last=False)
            self._note_lapses()
            packets = await self._receive()
            self._inbox.extend(packets)
            if not packets:
                self._over = True
                for action in cutter.end():
                    await self._act(action, last=True)
                return

    def _remember(self, packet: Packet) -> None:
        """Hold groups of pictures until they are on the disk."""
        unsafe = self._unsafe
        if packet.track.id == self._reference and (packet.keyframe or packet.track.is_audio):
            safe = min((part.began_ns + file.sink.safe_ms * 1_000_000 for part, file in self._files.items()), default=0)
            while len(unsafe) > 1 and _decoded_ns(unsafe[1][0]) <= safe - HELD_BACK_NS:
                self._held -= len(unsafe.popleft())
            unsafe.append([])
        if unsafe and self._held < MOST_HELD:
            unsafe[-1].append(packet)
            self._held += 1

    async def _receive(self) -> list[Packet]:
        """Empty at the end of the stream, or of the task when all that came before has been read."""
        if not self._stop.is_set():
            with trio.CancelScope() as self._waiting:
                return await self._reader.receive()
        await trio.lowlevel.checkpoint()
        packets: list[Packet] = []
        if self._reader.pending:
            packets = await self._reader.receive()
        self._reader.close()
        return packets

    async def _act(self, action: Action, *, last: bool) -> None:
        what, part, packets = action
        file = self._files.get(part)
        if packets:
            if file is None:
                file = self._files[part] = await self._open(part)
            await file.sink.write(file.writer.fragment(packets), part.elapsed_ms)
            self._count(part, file)
        if what == "close" and file is not None:
            await self._close(part, file, last)

    async def _open(self, part: Part) -> _File:
        task = self._task
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        target = self._places.file(task.sequence, wall)
        writer = make_writer(target, list(part.tracks.values()), part.lead)
        folder = target.rpartition("/")[0]
        key = "".join(secrets.choice(_LETTERS) for _ in range(32))
        entry = Entry(
            id=key, temporary=f"{folder}/tmp_{key}" if folder else f"tmp_{key}", target=target,
            container=container_of(target), root_path=self._places.root_path, info=self._places.info(0, wall),
            vhost=task.vhost, app=task.app, stream=task.stream, task=task.id, transaction=self._transaction,
            metadata=task.metadata, sequence=task.sequence, created=task.created, started=wall,
        )  # fmt: skip
        sink = await self._disk.open(entry, writer.head())
        if task.error:
            log.info("recording goes on stream=%s task=%s", self._stream.label, task.id)
        task.error = ""
        task.started = wall
        task.output_file = self._places.shown(target)
        task.output_info = self._places.shown(entry.info)
        task.bytes = task.time = 0
        self._changed(task)
        log.info("recording stream=%s task=%s path=%s", self._stream.label, task.id, target)
        return _File(writer, sink, entry, monotonic)

    async def _close(self, part: Part, file: _File, last: bool) -> None:
        task = self._task
        wall = self._clock.wall()
        steady = (self._clock.monotonic() - file.monotonic) // 1_000_000
        offset = (wall - file.entry.started) // 1_000_000 - steady
        # The file is on its way: what happens to it now happens in the worker.
        del self._files[part]
        entry = await file.sink.finish(wall, last, offset if abs(offset) >= STEP_MS else 0)
        task.bytes, task.time = entry.bytes, entry.ms
        self._bytes_before += entry.bytes
        self._time_before += entry.ms
        task.total_bytes, task.total_time = self._bytes_before, self._time_before
        task.output_file = entry.shown_path
        task.finished = wall
        task.sequence += 1
        self._changed(task)
        log.info("recorded stream=%s task=%s path=%s bytes=%d ms=%d", self._stream.label, task.id, entry.path,
                 entry.bytes, entry.ms)  # fmt: skip

    def _count(self, part: Part, file: _File) -> None:
        task = self._task
        task.bytes, task.time = file.sink.bytes, part.elapsed_ms
        task.total_bytes = self._bytes_before + task.bytes
        task.total_time = self._time_before + task.time

    # Faults

    def _say(self, error: str) -> None:
        if error != self._task.error:
            self._task.error = error
            if error:
                log.error("recording stream=%s task=%s fault=%r", self._stream.label, self._task.id, error)
            self._changed(self._task)

    def _note_lapses(self) -> None:
        now = self._clock.monotonic()
        if self._reader.lapses > self._lapses:
            self._lapses = self._reader.lapses
            self._lapsed_at = now
            self._say(f"{_SLOW}: {self._reader.dropped} frames were not recorded")
        elif self._task.error.startswith(_SLOW) and now - self._lapsed_at > FORGIVEN_NS:
            self._say("")

    def _drop_files(self) -> None:
        """The worker, or the next one, finishes what they have."""
        wall = self._clock.wall()
        for file in self._files.values():
            file.sink.leave(wall)
            self._bytes_before += file.sink.bytes
            self._task.sequence += 1
        self._files.clear()
        self._time_before = self._task.total_time

    async def _sleep(self, seconds: float) -> None:
        """Less when the task is to stop: then it is over."""
        with trio.move_on_after(seconds):
            await self._stop.wait()
            self._over = True



