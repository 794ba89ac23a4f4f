"""The engine's side of a codec worker: feeds it, takes what it makes, and replaces it when it fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec
import trio

from appliance.errors import KilnError, RemoteProtocolError, WorkerFault
from appliance.logs import RateLimited
from appliance.media.clock import NANOSECONDS, Clock
from appliance.media.contracts import Progress
from appliance.media.packet import Packet
from appliance.media.stream import Reader, Stream
from appliance.media.track import Track
from appliance.transcoder import messages
from appliance.transcoder.fallback import Fallback
from appliance.transcoder.feeder import Feeder
from appliance.transcoder.messages import Frame, MediaFrame, MediaReceiver, RenditionStats
from appliance.transcoder.pool import Worker, WorkerPool
from appliance.transcoder.spec import Kind, RenditionSpec

#: A worker is asked for a key frame so often at most (ns).
KEY_FRAMES_EVERY = 500_000_000

log = logging.getLogger("kiln.transcoder")

#: Deadlines for progress, judged only with input pending: the first sign of a new worker, and every later one.
FIRST_DEADLINE = 10.0
DEADLINE = 2.0
WATCH_EVERY = 0.1
#: Waits before the next worker after 1, 2, 3 … faults within `FAULT_WINDOW` seconds.
BACKOFF = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
FAULT_WINDOW = 60.0
#: The longest wait after a worker that had given something: staying on the air comes before sparing the processor.
LONGEST_ON_AIR = 0.5
#: How long a worker may take to finish when the input has ended.
FINISH_SECONDS = 2.0
#: Bounds of what the reader holds for a worker that does not read.
INPUT_PACKETS = 1024
INPUT_BYTES = 16 * 1024 * 1024
MOST_DECODER_THREADS = 64


class TranscodeSink(Protocol):
    """Where the results go. Called in the transcoder's own task: quick, and never raising."""

    def track(self, track: Track) -> None:
        """A new track, or the next generation of one whose codec configuration changed."""

    def packet(self, packet: Packet) -> None:
        """The next packet of a track announced before; decoding times of a track only grow."""

    def fault(self, text: str) -> None:
        """Something went wrong (and is being dealt with)."""


class TranscoderStats(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over all workers so far, but ``cpu_seconds``, ``rss_bytes`` and ``renditions``, which are this worker's.

    ``packets_in`` sent to workers; ``packets_dropped`` before a worker, because it was too slow; ``packets_out`` given
    to the sink; ``stale`` made but not given on, because they lay before what was already out. ``queue``: packets on
    their way to the worker or waiting in it. ``frames_dropped``: raw frames lost before the encoders, all renditions
    and the source together. ``fps``: of the first video rendition, over the last second or so.
    """

    pid: int = 0
    restarts: int = 0
    packets_in: int = 0
    packets_out: int = 0
    packets_dropped: int = 0
    stale: int = 0
    queue: int = 0
    source_frames: int = 0
    decode_errors: int = 0
    frames_dropped: int = 0
    fps: float = 0.0
    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    renditions: tuple[RenditionStats, ...] = ()


class Transcoder:
    """Makes the renditions of one input, in one worker process.

    ``source_url``: a raw source the worker opens itself; else ``input_stream`` gives compressed packets. ``epoch`` is
    the CLOCK_MONOTONIC nanosecond of timestamp zero, of the input and of what comes out. ``decoder_threads`` for each
    video track of compressed input, 0 to 64; 0 lets the picture size decide.
    """

    def __init__(
        self, pool: WorkerPool, *, label: str, epoch: int, clock: Clock, source_url: str | None = None,
        input_stream: Stream | None = None, renditions: Sequence[RenditionSpec], sink: TranscodeSink,
        decoder_threads: int = 0,
    ) -> None:  # fmt: skip
        if (source_url is None) == (input_stream is None):
            raise ValueError("either source_url or input_stream")
        if not 0 <= decoder_threads <= MOST_DECODER_THREADS:
            raise ValueError(f"decoder_threads is 0 to {MOST_DECODER_THREADS}")
        self.label = label
        self.restarts = 0
        self.last_fault = ""
        self._pool = pool
        self._epoch = epoch
        self._clock = clock
        self._source_url = source_url
        self._decoder_threads = decoder_threads
        self._input = input_stream
        self._specs = {spec.id: spec for spec in renditions}
        self._sink = sink
        self._life: _Life | None = None
        self._outputs: dict[int, _Output] = {}
        self._left_out: frozenset[Kind] = frozenset()
        self._faults: deque[int] = deque(maxlen=len(BACKOFF))
        self._lived = TranscoderStats()
        self._stale = 0
        self._packets_out = 0
        self._stopping = False
        #: The last request for a key frame: from which time of the stream, and when it was made (monotonic ns).
        self._key_frame_asked: tuple[int, int] | None = None
        self.reports = RateLimited(log)
        self._fallback = Fallback(label)
        # The rendition whose encoder ended the worker, when the worker could still say so.
        self._suspect: int | None = None

    async def run(self, progress: Progress) -> None:
        """Until the input stream ends (a raw source never does) or it is cancelled. Worker faults don't end it."""
        while not self._stopping or self._input is not None:
            given = self._packets_out
            fault = await self._live(progress)
            if fault is None or (self._stopping and self._input is None):
                return
            self.restarts += 1
            self.last_fault = fault
            in_use = [(id, output.encoder) for id, output in self._outputs.items()]
            self._fallback.worker_lost(self._suspect, in_use, self._clock.monotonic() / NANOSECONDS)
            self._suspect = None
            delay = self._backoff()
            if self._packets_out > given:
                delay = min(delay, LONGEST_ON_AIR)
            log.error("codec worker failed stream=%s fault=%r restarts=%d wait=%.1f", self.label, fault, self.restarts,
                      delay)  # fmt: skip
            self._sink.fault(fault)
            progress()
            await trio.sleep(delay)
            progress()

    def _backoff(self) -> float:
        now = self._clock.monotonic()
        self._faults.append(now)
        recent = sum(1 for at in self._faults if now - at < FAULT_WINDOW * NANOSECONDS)
        return BACKOFF[min(recent, len(BACKOFF)) - 1]

    async def _live(self, progress: Progress) -> str | None:
        """One worker's life: why it failed, or None when the input has ended."""
        worker = None
        life = None
        fault: str | None = None
        try:
            worker = await self._pool.take()
            life = self._life = _Life(self, worker, progress)
            await life.run()
        except* (WorkerFault, RemoteProtocolError, OSError) as group:
            fault = _first_message(group)
        finally:
            self._life = None
            if life is not None:
                self._lived = life.total()
            if worker is not None:
                worker.kill()
                await worker.reap()
        return fault

    # What the engine asks for

    def stop(self) -> None:
        """End a raw source: the worker encodes what it has, then `run` returns."""
        self._stopping = True
        if self._life is not None:
            self._life.stop()

    def set_renditions(self, specs: Sequence[RenditionSpec]) -> None:
        """From now on make these. Renditions whose spec did not change run on without a gap."""
        self._specs = {spec.id: spec for spec in specs}
        for id in [id for id in self._outputs if id not in self._specs]:
            del self._outputs[id]
        self._tell(messages.SetRenditions(self._effective()))
        for id, output in self._outputs.items():
            output.spec = self._specs[id]

    def leave_out(self, kinds: Collection[Kind]) -> None:
        """Make none of these for now. What has not come yet is made first: outputs wait for each of their tracks."""
        wanted = frozenset(kinds)
        if wanted != self._left_out:
            self._left_out = wanted
            self._tell(messages.SetRenditions(self._effective()))

    def _effective(self) -> list[RenditionSpec]:
        """What a worker is asked for: the wishes, less what is left out, less hardware that keeps failing."""
        now = self._clock.monotonic() / NANOSECONDS
        return [self._fallback.effective(spec, now) for spec in self._asked()]

    def _asked(self) -> list[RenditionSpec]:
        left_out, known = self._left_out, self._outputs
        return [spec for spec in self._specs.values() if spec.kind not in left_out or spec.id not in known]

    def request_key_frame(self, since: int = 0) -> bool:
        """A key frame in all renditions, at the same time, not before ``since`` ms of the stream. False when no worker
        could be told, or it has just been asked for another one."""
        now = self._clock.monotonic()
        if self._key_frame_asked is not None and now - self._key_frame_asked[1] < KEY_FRAMES_EVERY:
            return self._key_frame_asked[0] == since
        if not self._tell(messages.ForceKeyFrame(since)):
            return False
        self._key_frame_asked = since, now
        return True

    def request_bitrate(self, id: int, bitrate: int) -> bool:
        """Encode track ``id`` with ``bitrate`` bit/s from now on; False when no worker could be told."""
        spec = self._specs.get(id)
        if spec is None or bitrate <= 0:
            return False
        self._specs[id] = msgspec.structs.replace(spec, bitrate=bitrate)
        return self._tell(messages.SetBitrate(id, bitrate))

    def _tell(self, message: messages.ToWorker) -> bool:
        if self._life is None:
            return False
        try:
            self._life.worker.tell(message)
        except WorkerFault as fault:
            # The life's own tasks find out by themselves; a new worker is configured with the new wishes.
            log.warning("codec worker not told stream=%s fault=%s", self.label, fault)
            return False
        return True

    @property
    def worker_pid(self) -> int | None:
        return self._life.worker.pid if self._life else None

    @property
    def renditions(self) -> tuple[RenditionSpec, ...]:
        return tuple(self._specs.values())

    @property
    def stats(self) -> TranscoderStats:
        total = self._life.total() if self._life else self._lived
        return msgspec.structs.replace(
            total, restarts=self.restarts, stale=self._stale, packets_out=self._packets_out,
            pid=self._life.worker.pid if self._life else 0,
        )  # fmt: skip

    # What the worker makes

    def _received(self, frame: MediaFrame) -> None:
        if frame.kind is Frame.TRACK:
            self._announced(frame)
            return
        output = self._outputs.get(frame.track)
        if output is None or frame.kind is not Frame.PACKET:
            # A rendition taken away meanwhile; its last packets are on the way still.
            self._stale += 1
            return
        packet = output.packet(frame)
        if packet is None:
            self._stale += 1
            return
        self._packets_out += 1
        self._sink.packet(packet)

    def _announced(self, frame: MediaFrame) -> None:
        encoded = messages.unpack_encoded_track(frame.payload)
        spec = self._specs.get(encoded.id)
        if spec is None:
            return
        output = self._outputs.get(encoded.id)
        generation = 0
        if output is not None:
            track = encoded.as_track(spec, output.track.generation)
            output.encoder = encoded.encoder
            if _same_decoder(track, output.track):
                output.wait_key = True
                return
            generation = output.track.generation + 1
        track = encoded.as_track(spec, generation)
        log.info("encoding stream=%s track=%d variant=%s codec=%s encoder=%s generation=%d", self.label, track.id,
                 track.variant, track.codec, encoded.encoder, generation)  # fmt: skip
        if output is None:
            self._outputs[encoded.id] = _Output(spec, track, encoded.encoder)
        else:
            output.spec, output.track, output.wait_key = spec, track, True
        self._sink.track(track)

    @property
    def newest_out(self) -> int:
        """Time (ns of the stream) of the newest packet given to the sink."""
        return max((o.last_dts * NANOSECONDS // o.track.timescale for o in self._outputs.values()), default=0)


class _Output:
    """One output track's timeline, which outlives workers."""

    __slots__ = ("encoder", "last_dts", "spec", "track", "wait_key")

    def __init__(self, spec: RenditionSpec, track: Track, encoder: str) -> None:
        self.spec = spec
        self.encoder = encoder
        self.track = track
        self.last_dts = -1
        self.wait_key = True

    def packet(self, frame: MediaFrame) -> Packet | None:
        if frame.dts <= self.last_dts or frame.pts < frame.dts:
            # What depends on this one can't be decoded either.
            self.wait_key = True
            return None
        if self.wait_key:
            if not frame.keyframe:
                return None
            self.wait_key = False
        self.last_dts = frame.dts
        return Packet(self.track, frame.pts, frame.dts, frame.duration, frame.keyframe, frame.payload)


def _same_decoder(one: Track, other: Track) -> bool:
    """Whether a decoder set up for one plays the other."""
    return (
        one.codec is other.codec
        and one.codec_config == other.codec_config
        and (one.width, one.height) == (other.width, other.height)
        and (one.sample_rate, one.channels) == (other.sample_rate, other.channels)
        and one.variant == other.variant
    )


class _Life:
    """One worker at work."""

    def __init__(self, owner: Transcoder, worker: Worker, progress: Progress) -> None:
        self.worker = worker
        self._owner = owner
        self._progress = progress
        self._clock = owner._clock
        self._before = owner._lived
        self._sent = 0
        self._sent_bytes = 0
        self._dropped = 0
        self._lapses = 0
        self._reader_dropped = 0
        self._consumed = messages.Progress(0, 0, 0, 0)
        self._stats: messages.Stats | None = None
        self._fps = 0.0
        self._fps_from: tuple[int, int] | None = None
        self._alive_at = self._clock.monotonic()
        self._first = True
        self._finishing = False
        self._all_consumed = trio.Event()
        self._stopped = trio.Event()
        self._output_ended = trio.Event()

    async def run(self) -> None:
        """Until the input ends. Raises what ends the worker, in a group."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear)
            nursery.start_soon(self._watch)
            if self._owner._input is None:
                self._configure(0)
                nursery.start_soon(self._take)
                await self._stopped.wait()
                self._finishing = True
                with trio.move_on_after(FINISH_SECONDS):
                    self.worker.tell(messages.Stop())
                    await self._output_ended.wait()
            else:
                reader = self._owner._input.reader("transcoder", max_packets=INPUT_PACKETS, max_bytes=INPUT_BYTES)
                try:
                    nursery.start_soon(self._take)
                    await self._feed(reader)
                    await self._finish()
                finally:
                    reader.close()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        self._stopped.set()

    def _configure(self, emit_from: int) -> None:
        owner = self._owner
        self.worker.tell(
            messages.Configure(
                label=owner.label,
                epoch=owner._epoch,
                source_url=owner._source_url,
                renditions=owner._effective(),
                emit_from=emit_from,
                decoder_threads=owner._decoder_threads,
            )
        )

    async def _hear(self) -> None:
        while True:
            try:
                heard = await self.worker.hear()
            except WorkerFault:
                if self._finishing:
                    return
                raise
            for message in heard:
                match message:
                    case messages.Progress():
                        self._consumed = message
                        self._see_whether_consumed()
                        self._shows_life()
                    case messages.Stats():
                        self._counted(message)
                    case messages.Fault():
                        self._fault(message)
                    case messages.Ready():
                        self._alive_at = self._clock.monotonic()

    def _see_whether_consumed(self) -> None:
        if self._finishing and self._sent <= self._consumed.consumed_packets:
            self._all_consumed.set()

    def _fault(self, fault: messages.Fault) -> None:
        where = "" if fault.id is None else f"track {fault.id}: "
        if fault.fatal:
            self._owner._suspect = fault.id
            raise WorkerFault(where + fault.text)
        self._owner.reports(logging.WARNING, "codec worker reports stream=%s fault=%r", self._owner.label,
                            where + fault.text)  # fmt: skip
        self._owner._sink.fault(where + fault.text)

    def _shows_life(self) -> None:
        self._alive_at = self._clock.monotonic()
        self._first = False
        self._progress()

    def _counted(self, stats: messages.Stats) -> None:
        self._stats = stats
        made = next((r.frames_out for r in stats.renditions), 0)
        now = self._clock.monotonic()
        if self._fps_from is not None and now > self._fps_from[0]:
            self._fps = max(0, made - self._fps_from[1]) * NANOSECONDS / (now - self._fps_from[0])
        self._fps_from = (now, made)

    async def _watch(self) -> None:
        """Progress is judged only while there is input to work on."""
        pending_before = False
        while True:
            await trio.sleep(WATCH_EVERY)
            pending = self._pending
            if not pending:
                self._progress()
            if not pending or not pending_before:
                self._alive_at = max(self._alive_at, self._clock.monotonic() - int(WATCH_EVERY * NANOSECONDS))
            pending_before = pending
            idle = (self._clock.monotonic() - self._alive_at) / NANOSECONDS
            if pending and idle > (FIRST_DEADLINE if self._first else DEADLINE):
                raise WorkerFault(f"codec worker {self.worker.pid} made no progress for {idle:.1f} s")

    @property
    def _pending(self) -> bool:
        return self._owner._source_url is not None or self._sent > self._consumed.consumed_packets

    async def _take(self) -> None:
        receiver = MediaReceiver()
        media = self.worker.media
        received = self._owner._received
        while data := await media.recv(256 * 1024):
            for frame in receiver.receive_data(data):
                received(frame)
            self._shows_life()
        self._output_ended.set()
        if not self._finishing:
            # Who it was that ended shows on the control socket, with the reason.
            await trio.sleep(1.0)
            raise WorkerFault(f"codec worker {self.worker.pid} closed its output")

    async def _finish(self) -> None:
        """The input has ended: let the worker encode what it has."""
        self._finishing = True
        self._see_whether_consumed()
        self.worker.media.shutdown(trio.socket.SHUT_WR)
        with trio.move_on_after(FINISH_SECONDS):
            await self._all_consumed.wait()
            self.worker.tell(messages.Stop())
            await self._output_ended.wait()

    async def _feed(self, reader: Reader) -> None:
        owner = self._owner
        assert owner._input is not None
        feeder = Feeder(owner._input)
        configured = False
        async for packets in reader:
            if not configured:
                configured = True
                newest = max(p.dts * NANOSECONDS // p.track.timescale for p in packets)
                self._configure(newest if owner._outputs else 0)
            wanted = {spec.input_id for spec in owner._specs.values()}
            if reader.lapses != self._lapses:
                self._lapses = reader.lapses
                feeder.lapse()
            room = messages.INPUT_CREDIT_BYTES - (self._sent_bytes - self._consumed.consumed_bytes)
            data = feeder.pack(packets, wanted, room, self._consumed.consumed_ns if self._sent else None)
            self._sent += feeder.sent
            self._sent_bytes += feeder.sent_bytes
            self._dropped += feeder.dropped
            self._reader_dropped = reader.dropped
            while data:
                data = data[await self.worker.media.send(data) :]

    def total(self) -> TranscoderStats:
        """The sums with this life's in them."""
        before, stats = self._before, self._stats
        renditions = tuple(stats.renditions) if stats else ()
        frames_dropped = sum(r.dropped for r in renditions if r.encoder) + (stats.source_dropped if stats else 0)
        return TranscoderStats(
            packets_in=before.packets_in + self._sent,
            packets_dropped=before.packets_dropped + self._dropped + self._reader_dropped,
            queue=self._sent - self._consumed.consumed_packets,
            source_frames=before.source_frames + (stats.source_frames if stats else 0),
            decode_errors=before.decode_errors + (stats.decode_errors if stats else 0),
            frames_dropped=before.frames_dropped + frames_dropped,
            fps=self._fps,
            cpu_seconds=stats.cpu_seconds if stats else 0.0,
            rss_bytes=stats.rss_bytes if stats else 0,
            renditions=renditions,
        )


def _first_message(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, KilnError) else f"{type(error).__name__}: {error}"
