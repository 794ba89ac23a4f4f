"""The hub: one source publishes, bounded readers follow, and a slow reader never slows the source."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import trio

from appliance.media.clock import Clock
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track

log = logging.getLogger("kiln.stream")

#: Limits of the cached group of pictures that a new reader starts with.
GOP_PACKETS = 4096
GOP_BYTES = 24 * 1024 * 1024
#: Limits of a reader's ring.
RING_PACKETS = 2048
RING_BYTES = 32 * 1024 * 1024

Sink = Callable[[Packet], None]


class Reader:
    """A bounded view of one stream, read by one task: ``async for packets in reader``.

    Each round gives every packet that has come since the last one (never an empty list). When the ring is full
    the reader loses everything up to the next key frame of the reference track; ``dropped`` counts what it lost and
    ``lapses`` how often that happened. The iteration ends when the stream is closed and the ring is empty.
    """

    __slots__ = ("_closed", "_parked", "_ring", "_ring_bytes", "_skipping", "_stream", "dropped", "lapses", "max_bytes",
                 "max_packets", "name", "_logged_at")  # fmt: skip

    def __init__(self, stream: Stream, name: str, max_packets: int, max_bytes: int) -> None:
        self.name = name
        self.max_packets = max_packets
        self.max_bytes = max_bytes
        self.dropped = 0
        self.lapses = 0
        self._stream = stream
        self._ring: deque[Packet] = deque()
        self._ring_bytes = 0
        self._skipping = False
        self._closed = False
        self._parked: trio.lowlevel.Task | None = None
        self._logged_at = 0

    def offer(self, packet: Packet) -> None:
        """Called by the hub for each packet; never blocks."""
        size = len(packet.payload)
        if self._skipping:
            if not self._stream.starts_gop(packet):
                self.dropped += 1
                return
            self._skipping = False
        elif len(self._ring) >= self.max_packets or self._ring_bytes + size > self.max_bytes:
            self._lapse(packet)
            return
        self._ring.append(packet)
        self._ring_bytes += size
        task = self._parked
        if task is not None:
            self._parked = None
            trio.lowlevel.reschedule(task)

    def _lapse(self, packet: Packet) -> None:
        self.lapses += 1
        self.dropped += len(self._ring) + 1
        self._ring.clear()
        self._ring_bytes = 0
        self._skipping = True
        now = self._stream.clock.monotonic()
        if now - self._logged_at >= 1_000_000_000:
            self._logged_at = now
            log.warning("reader too slow stream=%s reader=%s dropped=%d lapses=%d", self._stream.label, self.name,
                        self.dropped, self.lapses)  # fmt: skip
        if self._stream.starts_gop(packet):
            self._skipping = False
            self.dropped -= 1
            self._ring.append(packet)
            self._ring_bytes = len(packet.payload)

    def preload(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self._ring.append(packet)
            self._ring_bytes += len(packet.payload)

    def end(self) -> None:
        """No packet comes any more; what is in the ring can still be read."""
        self._closed = True
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    def close(self) -> None:
        """Leave the stream."""
        self._stream.remove(self)
        self._ring.clear()
        self._ring_bytes = 0
        self.end()

    @property
    def pending(self) -> int:
        return len(self._ring)

    async def receive(self) -> list[Packet]:
        """All waiting packets, at least one; an empty list when the stream has ended."""
        if not self._ring and not self._closed:
            self._parked = trio.lowlevel.current_task()

            def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                self._parked = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint()
        packets = list(self._ring)
        self._ring.clear()
        self._ring_bytes = 0
        return packets

    def __aiter__(self) -> AsyncIterator[list[Packet]]:
        return self

    async def __anext__(self) -> list[Packet]:
        packets = await self.receive()
        if not packets:
            raise StopAsyncIteration
        return packets


class Stream:
    """Tracks, and a hub. ``label`` is ``vhost/app/name``; ``epoch`` the CLOCK_MONOTONIC nanosecond of timestamp zero.

    ``publish`` never blocks and never awaits. A new reader starts at the last key frame of the reference track
    (the first video track, else the first audio track).
    """

    def __init__(self, label: str, tracks: Sequence[Track], *, clock: Clock | None = None, epoch: int | None = None) -> None:
        self.label = label
        self.clock = clock or Clock()
        self.epoch = self.clock.monotonic() if epoch is None else epoch
        self.created_wall = self.clock.wall()
        self.tracks: dict[int, Track] = {track.id: track for track in tracks}
        self.closed = False
        self.packets = 0
        self.bytes = 0
        self._sinks: list[Sink] = []
        self._readers: list[Reader] = []
        self._ended = trio.Event()
        self._gop: list[Packet] = []
        self._gop_bytes = 0
        self._reference = _reference_track(tracks)

    @property
    def name(self) -> str:
        return self.label.rpartition("/")[2]

    @property
    def raw(self) -> bool:
        """A raw input: its packets never come through the hub (a worker holds the frames)."""
        return any(track.codec is Codec.RAW for track in self.tracks.values())

    def starts_gop(self, packet: Packet) -> bool:
        return packet.keyframe and packet.track.id == self._reference

    def publish(self, packet: Packet) -> None:
        """Hand ``packet`` to every reader and sink."""
        self.packets += 1
        size = len(packet.payload)
        self.bytes += size
        track = packet.track
        if self.tracks.get(track.id) is not track:
            self.tracks[track.id] = track
        if packet.keyframe and track.id == self._reference:
            self._gop = [packet]
            self._gop_bytes = size
        elif self._gop:
            if len(self._gop) < GOP_PACKETS and self._gop_bytes + size <= GOP_BYTES:
                self._gop.append(packet)
                self._gop_bytes += size
            else:
                # Too long to hand to newcomers: they start at the next key frame.
                self._gop = []
        for sink in self._sinks:
            sink(packet)

    def add_sink(self, sink: Sink) -> None:
        """Call ``sink`` for each packet from now on, in the publisher's own turn: it must be quick and never raise."""
        self._sinks.append(sink)

    def remove_sink(self, sink: Sink) -> None:
        if sink in self._sinks:
            self._sinks.remove(sink)

    def reader(self, name: str, *, max_packets: int = RING_PACKETS, max_bytes: int = RING_BYTES) -> Reader:
        """A new reader that starts at the last key frame. Close it when done."""
        reader = Reader(self, name, max_packets, max_bytes)
        reader.preload(self._gop)
        if self.closed:
            reader.end()
            return reader
        self._readers.append(reader)
        self._sinks.append(reader.offer)
        return reader

    def remove(self, reader: Reader) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
            self._sinks.remove(reader.offer)

    @property
    def readers(self) -> tuple[Reader, ...]:
        return tuple(self._readers)

    def close(self) -> None:
        """The source is over: readers end after what they hold."""
        if self.closed:
            return
        self.closed = True
        for reader in self._readers:
            reader.end()
        self._readers = []
        self._sinks = []
        self._gop = []
        self._ended.set()

    async def wait_closed(self) -> None:
        await self._ended.wait()


def _reference_track(tracks: Sequence[Track]) -> int:
    for media in (MediaType.VIDEO, MediaType.AUDIO):
        for track in tracks:
            if track.media is media and track.codec not in (Codec.JPEG, Codec.PNG, Codec.WEBP):
                return track.id
    return tracks[0].id if tracks else -1
