"""Carries out pushes: connects, tries again, counts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from appliance.errors import BadRequest, KilnError, NotBuilt
from appliance.media.contracts import Context, Egress, OutputStream, Progress
from appliance.media.events import EVENT_TRACK
from appliance.media.packet import Packet
from appliance.media.stream import Reader, Stream
from appliance.media.tasks import Push, Task, TaskChanged, TaskState
from appliance.media.track import Track
from appliance.net.egress import AddressRefused
from appliance.publishers.push.backoff import REFUSED_CAP, Backoff
from appliance.publishers.push.choice import choose
from appliance.publishers.push.destination import Destination, destination
from appliance.publishers.push.rtmp import RtmpTarget
from appliance.publishers.push.session import deliver
from appliance.publishers.push.target import Refused, Target
from appliance.publishers.push.transport_stream import SrtTarget, TcpTarget, UdpTarget, check_options
from appliance.settings import models

log = logging.getLogger("kiln.push")

CONNECT_MS: Final = 5000
SEND_MS: Final = 2000
#: What waits for a slow target at most.
RING_PACKETS: Final = 2048
RING_BYTES: Final = 16 * 1024 * 1024

Open = Callable[[Destination, Sequence[Track], Egress, float, float], Awaitable[Target]]
_OPEN: Final[dict[str, Open]] = {
    "rtmp": RtmpTarget.open, "rtmps": RtmpTarget.open, "udp": UdpTarget.open, "tcp": TcpTarget.open,
    "srt": SrtTarget.open,
}  # fmt: skip


def _nobody(task: Task) -> None:
    """Nobody wants to be told."""


class PushRunner:
    """See ``appliance.media.tasks.TaskRunner``. ``changed`` is told of each connection made, lost and refused."""

    def __init__(self, context: Context, changed: TaskChanged | None = None) -> None:
        self._context = context
        self._changed = changed or _nobody

    def check(self, task: Push, output: OutputStream | None) -> None:
        """Raises BadRequest for a URL or its options and, when ``output`` is there, NotFound and BadRequest for its
        tracks."""
        self._destinations(task)
        if output is not None:
            choose(task, output.stream.tracks.values())

    async def run(self, task: Push, output: OutputStream, stop: trio.Event, progress: Progress) -> None:
        destinations = self._destinations(task)
        tracks = choose(task, output.stream.tracks.values())
        for where in destinations:
            if ignored := check_options(where):
                log.warning("options of the URL have no effect stream=%s task=%s options=%s", output.label, task.id,
                            ",".join(ignored))  # fmt: skip
        life = _Life(self._context, self._changed, task, output, tracks, destinations, progress)
        with life.relayed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(life.end_with_source)
                hopeless = await life.run(stop)
                nursery.cancel_scope.cancel()
        if hopeless is not None:
            raise hopeless

    def _destinations(self, task: Push) -> list[Destination]:
        if not task.urls:
            raise BadRequest("Could not parse url")
        found = [destination(task, url, self._context.egress) for url in task.urls]
        for where in found:
            check_options(where)
        return found


class _Life:
    """A push over one life of its output stream."""

    def __init__(
        self, context: Context, changed: TaskChanged, task: Push, output: OutputStream, tracks: Sequence[Track],
        destinations: Sequence[Destination], progress: Progress,
    ) -> None:  # fmt: skip
        self.context = context
        self.changed = changed
        self.task = task
        self.output = output
        self.tracks = tracks
        self.destinations = destinations
        self.progress = progress
        # The hub of the chosen tracks alone: what waits and what is dropped is then of these.
        self.relay = Stream(output.label, tracks, clock=output.stream.clock, epoch=output.stream.epoch)
        self._ids = frozenset(track.id for track in tracks)
        #: Timed metadata goes along where there is a place for it.
        self._events = task.protocol != "rtmp"
        push = output.application.publishers.push if isinstance(output.application, models.Application) else None
        self.connect_within = _seconds(push.connection_timeout if push else -1, CONNECT_MS)
        self.send_within = _seconds(push.send_timeout if push else -1, SEND_MS)

    # The relay.

    @contextmanager
    def relayed(self) -> Iterator[None]:
        self.output.stream.add_sink(self._pass_on)
        try:
            yield
        finally:
            self.output.stream.remove_sink(self._pass_on)
            self.relay.close()

    def _pass_on(self, packet: Packet) -> None:
        if packet.track.id in self._ids:
            self.relay.publish(packet)
        elif self._events and packet.track is EVENT_TRACK and packet.payload:
            self.relay.inject(packet)

    async def end_with_source(self) -> None:
        await self.output.stream.wait_closed()
        self.relay.close()

    # Connections.

    async def run(self, stop: trio.Event) -> KilnError | None:
        """Until ``stop`` is set or the stream ends: each URL in turn, then a pause. What no retry mends is returned."""
        backoff = Backoff()
        while True:
            for where, url in zip(self.destinations, self.task.urls, strict=True):
                began = trio.current_time()
                fault = await self._connect_and_deliver(where, url, stop)
                if fault is None or stop.is_set() or self.relay.closed:
                    self._note_end()
                    return None
                was_on = self.task.state is TaskState.STARTED
                if isinstance(fault, BadRequest) and not isinstance(fault, AddressRefused):
                    return fault
                self._note_fault(where, fault)
                if was_on:
                    backoff.stood(trio.current_time() - began)
                    break
            pause = REFUSED_CAP if isinstance(fault, NotBuilt) else backoff.next(refused=isinstance(fault, Refused))
            await self._wait(pause, stop)
            if stop.is_set() or self.relay.closed:
                self._note_end()
                return None

    async def _connect_and_deliver(self, where: Destination, url: str, stop: trio.Event) -> KilnError | None:
        """Why the connection was lost or never made; None when the stream or the task is over."""
        self.progress()
        target: Target | None = None
        try:
            target = await self._open(where, stop)
            if target is None:
                return None
            self._note_start(url)
            reader = self.relay.reader(f"push:{self.task.id}", max_packets=RING_PACKETS, max_bytes=RING_BYTES)
            try:
                await deliver(target, reader, stop, _Counter(self, target, reader).note)
            finally:
                reader.close()
        except KilnError as error:
            return error
        finally:
            if target is not None:
                target.close()
        return None

    async def _open(self, where: Destination, stop: trio.Event) -> Target | None:
        """None when ``stop`` is set or the stream ends first."""
        opened: list[Target] = []
        faults: list[KilnError] = []
        try:
            async with trio.open_nursery() as nursery:

                async def give_up(event: Callable[[], Awaitable[None]]) -> None:
                    await event()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(give_up, stop.wait)
                nursery.start_soon(give_up, self.relay.wait_closed)
                try:
                    opened.append(
                        await _OPEN[where.kind](
                            where, self._tracks_now(), self.context.egress, self.connect_within, self.send_within
                        )
                    )
                except KilnError as error:
                    faults.append(error)
                nursery.cancel_scope.cancel()
        except BaseException:
            for target in opened:
                target.close()
            raise
        if faults:
            raise faults[0]
        return opened[0] if opened else None

    def _tracks_now(self) -> list[Track]:
        """The newest generation of each."""
        return [self.relay.tracks.get(track.id, track) for track in self.tracks]

    async def _wait(self, seconds: float, stop: trio.Event) -> None:
        if stop.is_set() or self.relay.closed:
            return
        self.task.retry_at = self.context.clock.monotonic() + int(seconds * 1e9)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:

                async def end_with_stream() -> None:
                    await self.relay.wait_closed()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(end_with_stream)
                await stop.wait()
                nursery.cancel_scope.cancel()
        self.task.retry_at = 0

    # What people see.

    def _note_start(self, url: str) -> None:
        task = self.task
        task.state = TaskState.STARTED
        task.url_in_use = url
        task.error = ""
        task.sequence += 1
        task.started = self.context.clock.wall()
        task.finished = 0
        task.sent_bytes = task.sent_time = 0
        log.info("push started stream=%s task=%s to=%s", self.output.label, task.id, self._shown(url))
        self.changed(task)

    def _note_fault(self, where: Destination, fault: KilnError) -> None:
        task = self.task
        task.state = TaskState.READY
        task.finished = self.context.clock.wall()
        text = where.redacted(str(fault))
        news = text != task.error
        task.error = text
        if news:
            log.warning("push failed stream=%s task=%s to=%s reason=%s", self.output.label, task.id, where.url.shown,
                        text)  # fmt: skip
        self.changed(task)

    def _note_end(self) -> None:
        self.task.finished = self.context.clock.wall()
        log.info("push ended stream=%s task=%s bytes=%d", self.output.label, self.task.id, self.task.sent_bytes)
        self.changed(self.task)

    def _shown(self, url: str) -> str:
        return self.destinations[self.task.urls.index(url)].url.shown


class _Counter:
    """Writes what a connection did into its task."""

    __slots__ = ("_begin", "_life", "_lost", "_reader", "_sent", "_target")

    def __init__(self, life: _Life, target: Target, reader: Reader) -> None:
        self._life = life
        self._target = target
        self._reader = reader
        self._sent = 0
        self._lost = 0
        self._begin: float | None = None

    def note(self, last: Packet, left_out: int) -> None:
        """After a batch that ended with ``last`` and of which ``left_out`` frames were too old to send."""
        life = self._life
        task = life.task
        life.progress()
        sent = self._target.sent
        task.sent_bytes = sent
        task.total_sent_bytes += sent - self._sent
        life.output.traffic.sent_bytes += sent - self._sent
        self._sent = sent
        lost = self._reader.dropped
        task.dropped += left_out + lost - self._lost
        self._lost = lost
        time = last.dts / last.track.timescale
        if self._begin is None:
            self._begin = time
        ms = max(task.sent_time, int((time - self._begin) * 1000))
        task.total_sent_time += ms - task.sent_time
        task.sent_time = ms


def _seconds(milliseconds: int, default: int) -> float:
    return (milliseconds if milliseconds > 0 else default) / 1000
