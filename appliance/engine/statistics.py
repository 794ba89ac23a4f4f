"""What goes in and out, and to how many: of each stream, application, virtual host, and of the whole box.

Nothing is counted here packet by packet: hubs, publishers and tasks count it, and once a second it is added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from appliance.engine.directory import Directory
from appliance.engine.input_stream import InputStream
from appliance.engine.tasks.board import TaskBoard
from appliance.media.clock import Clock
from appliance.media.contracts import OutputStream, Progress, Publisher
from appliance.media.stream import Reader
from appliance.media.tasks import Push, Record, TaskState

#: A window of throughput (s).
EVERY = 1.0
#: Names of publishers whose connections are shown under another one.
SHOWN_AS = {"hls": "hlsv3"}
CONNECTIONS = ("file", "hlsv3", "llhls", "ovt", "push", "srt", "thumbnail", "webrtc")


class Meter:
    """One object of catalogue 3.10. Bytes are counted in both directions; a window is the last second that is over.
    Times are nanoseconds since 1970."""

    __slots__ = (
        "bytes_in", "bytes_out", "connections", "created", "last_in", "last_out", "marked_in", "marked_out",
        "max_in", "max_out", "most", "most_at", "received", "sent", "updated",
    )  # fmt: skip

    def __init__(self, now: int) -> None:
        self.created = self.updated = self.received = self.sent = self.most_at = now
        self.bytes_in = self.bytes_out = 0
        self.marked_in = self.marked_out = 0
        self.last_in = self.last_out = self.max_in = self.max_out = 0
        self.connections: dict[str, int] = dict.fromkeys(CONNECTIONS, 0)
        self.most = 0

    @property
    def total_connections(self) -> int:
        return sum(self.connections.values())

    def add(self, came: int, received: int, went: int, sent: int) -> None:
        """Bytes that came and went, the last ones at these times."""
        if came:
            self.bytes_in += came
            self.received = max(self.received, received)
        if went:
            self.bytes_out += went
            self.sent = max(self.sent, sent)
        if came or went:
            self.updated = max(self.updated, received if came else sent)

    def close_window(self, seconds: float) -> None:
        """A window of ``seconds`` is over; figures are bytes a second."""
        self.last_in = round((self.bytes_in - self.marked_in) / seconds)
        self.last_out = round((self.bytes_out - self.marked_out) / seconds)
        self.marked_in, self.marked_out = self.bytes_in, self.bytes_out
        self.max_in = max(self.max_in, self.last_in * 8)
        self.max_out = max(self.max_out, self.last_out * 8)

    def count(self, connections: Mapping[str, int], now: int) -> None:
        self.connections = {name: connections.get(name, 0) for name in CONNECTIONS}
        total = self.total_connections
        if total > self.most:
            self.most, self.most_at = total, now


@dataclass(slots=True)
class _Seen:
    """What has been added up of one input already; ``sent`` by output name, or task."""

    meter: Meter
    received: int = 0
    sent: dict[object, int] = field(default_factory=dict)


@dataclass(slots=True)
class Queue:
    """One ring between a hub and its reader. Rates are packets a second, ``waiting`` µs on average."""

    id: int
    taken: int
    dropped: int
    came_rate: int = 0
    taken_rate: int = 0
    peak: int = 0
    waiting: int = 0


class Statistics:
    """``run`` adds up once a second. Everything else looks at what was added up."""

    def __init__(
        self, clock: Clock, directory: Directory, tasks: TaskBoard, publishers: Sequence[Publisher]
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._tasks = tasks
        self._publishers = publishers
        self.server = Meter(clock.wall())
        self._vhosts: dict[str, Meter] = {}
        self._apps: dict[tuple[str, str], Meter] = {}
        self._streams: dict[InputStream, _Seen] = {}
        self._queues: dict[int, tuple[Reader, Queue]] = {}
        self._serial = 100
        self._window_began = clock.monotonic()

    def vhost(self, name: str) -> Meter:
        meter = self._vhosts.get(name)
        if meter is None:
            meter = self._vhosts[name] = Meter(self._clock.wall())
        return meter

    def app(self, vhost: str, app: str) -> Meter:
        meter = self._apps.get((vhost, app))
        if meter is None:
            meter = self._apps[vhost, app] = Meter(self._clock.wall())
        return meter

    def stream(self, stream: InputStream) -> Meter:
        return self._seen(stream).meter

    def _seen(self, stream: InputStream) -> _Seen:
        seen = self._streams.get(stream)
        if seen is None:
            seen = self._streams[stream] = _Seen(Meter(stream.created_wall))
        return seen

    async def run(self, progress: Progress) -> None:
        while True:
            progress()
            self.update()
            self.close_window()
            await trio.sleep(EVERY)

    def in_use(self, stream: InputStream) -> bool:
        """Whether anybody gets an output of ``stream``."""
        outputs = list(_outputs(stream))
        return any(
            any(self._viewers(output).values()) or self._tasks.running(output) for output in outputs
        )

    # Adding up

    def update(self) -> None:
        """Bring the totals up to now."""
        live = [
            stream
            for vhost in self._directory.vhosts.values()
            for application in vhost.applications.values()
            for stream in application.inputs.values()
            if stream.prepared
        ]
        for stream in live:
            self._seen(stream)
        for stream, seen in list(self._streams.items()):
            self._add_up(stream, seen)
            if stream.closed:
                del self._streams[stream]
        self._count_connections(live)

    def close_window(self) -> None:
        now = self._clock.monotonic()
        seconds = (now - self._window_began) / 1e9
        if seconds < EVERY / 2:
            return
        self._window_began = now
        for meter in self._meters():
            meter.close_window(seconds)
        self._look_at_queues(seconds)
        vhosts = self._directory.vhosts
        self._vhosts = {name: meter for name, meter in self._vhosts.items() if name in vhosts}
        self._apps = {
            (vhost, app): meter
            for (vhost, app), meter in self._apps.items()
            if vhost in vhosts and app in vhosts[vhost].applications
        }

    def _meters(self) -> Iterator[Meter]:
        yield self.server
        yield from self._vhosts.values()
        yield from self._apps.values()
        for seen in self._streams.values():
            yield seen.meter

    def _add_up(self, stream: InputStream, seen: _Seen) -> None:
        came = stream.stream.bytes - seen.received
        seen.received += came
        went = sum(self._sent_since(stream, seen))
        if not (came or went):
            return
        now = self._clock.wall()
        received = now - max(0, self._clock.monotonic() - stream.last_packet)
        for meter in (seen.meter, self.app(stream.vhost, stream.app), self.vhost(stream.vhost), self.server):
            meter.add(came, received, went, now)

    def _sent_since(self, stream: InputStream, seen: _Seen) -> Iterator[int]:
        for output in _outputs(stream):
            pushes = [task for task in self._tasks.running(output) if isinstance(task, Push)]
            counters: list[tuple[object, int]] = [(output.traffic, output.traffic.sent_bytes)]
            counters += [(task.label, task.total_sent_bytes) for task in pushes]
            for key, total in counters:
                # A push that was begun before brings its count along.
                before = seen.sent.get(key, total if isinstance(key, str) else 0)
                seen.sent[key] = total
                yield max(0, total - before)

    def _count_connections(self, live: Sequence[InputStream]) -> None:
        now = self._clock.wall()
        sums: dict[Meter, dict[str, int]] = {}
        for meter in self._meters():
            sums[meter] = {}
        for stream in live:
            for output in _outputs(stream):
                counts = self._viewers(output)
                for task in self._tasks.running(output):
                    if isinstance(task, Record):
                        counts["file"] = counts.get("file", 0) + 1
                    elif isinstance(task, Push) and task.state is TaskState.STARTED:
                        counts["push"] = counts.get("push", 0) + 1
                above = (self.app(stream.vhost, stream.app), self.vhost(stream.vhost), self.server)
                for meter in (self._streams[stream].meter, *above):
                    known = sums.setdefault(meter, {})
                    for name, number in counts.items():
                        known[name] = known.get(name, 0) + number
        for meter, counts in sums.items():
            meter.count(counts, now)

    def _viewers(self, output: OutputStream) -> dict[str, int]:
        found = {}
        for publisher in self._publishers:
            viewers: Callable[[str, str, str], int] | None = getattr(publisher, "viewers", None)
            if viewers is not None:
                name = SHOWN_AS.get(publisher.name, publisher.name)
                found[name] = viewers(output.vhost, output.app, output.name)
        return found

    # Rings between hubs and readers

    def queues(self) -> Iterator[tuple[str, Reader, Queue]]:
        """``(urn, ring, figures)`` of each ring there is now."""
        for urn, reader in self._readers():
            yield urn, reader, self._queue(reader)

    def _readers(self) -> Iterator[tuple[str, Reader]]:
        for stream in list(self._streams):
            if stream.closed:
                continue
            place = f"v=#{stream.vhost}#{stream.app}"
            for reader in stream.stream.readers:
                yield f"mngq:{place}:s={stream.name}:p=trs:n={reader.name}", reader
            for output in _outputs(stream):
                for reader in output.stream.readers:
                    yield f"mngq:{place}:s={output.name}:p=pub:n={reader.name}", reader

    def _queue(self, reader: Reader) -> Queue:
        known = self._queues.get(id(reader))
        if known is None or known[0] is not reader:
            self._serial += 1
            known = self._queues[id(reader)] = reader, Queue(self._serial, reader.taken, reader.dropped)
        return known[1]

    def _look_at_queues(self, seconds: float) -> None:
        present = {id(reader): reader for _, reader in self._readers()}
        self._queues = {key: each for key, each in self._queues.items() if present.get(key) is each[0]}
        for reader in present.values():
            queue = self._queue(reader)
            taken = reader.taken - queue.taken
            queue.taken_rate = round(taken / seconds)
            queue.came_rate = round((taken + reader.dropped - queue.dropped) / seconds)
            queue.taken, queue.dropped = reader.taken, reader.dropped
            queue.peak = max(queue.peak, reader.peak, reader.pending)
            # Little's law, of what waits just now.
            queue.waiting = round(reader.pending * 1_000_000 * seconds / taken) if taken else 0


def _outputs(stream: InputStream) -> Iterator[OutputStream]:
    for each in stream.outputs.by_name.values() if stream.outputs is not None else ():
        if each.output is not None:
            yield each.output
