"""The hub: one source publishes, bounded readers follow, and a slow reader never slows the source."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

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
#: So many packets in a row of other tracks, and a reader that waits for a key frame of the reference track gets them:
#: sound goes on when the picture is gone (about 5 s of it).
LONELY_PACKETS = 250

Sink = Callable[[Packet], None]


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """What may be asked of a stream: a key frame in all its pictures, at one time, not before ``since`` ms of it."""

    since: int = 0


#: Whether it will be done.
Upstream = Callable[[KeyFrame], bool]


class Reader:
    """A bounded view of one stream, read by one task: ``async for packets in reader``.

    Each round gives every packet that has come since the last one (never an empty list). When the ring is full
    the reader loses what is before the newest key frame of the reference track in it, or, when there is none or little
    would be won, everything up to the next one; ``dropped`` counts what it lost and ``lapses`` how often that happened;
    ``taken`` what it read, ``peak`` the most that waited for one round.
    The iteration ends when the stream is closed and the ring is empty.

    ``wake_at``: a time of the stream in seconds. Packets decoded before it gather without waking the task; a video key
    frame and a ring that is half full always wake it; 0 wakes it for each packet. A task that can do nothing before
    that time saves most of its cost so.
    """

    __slots__ = (
        "_closed", "_logged_at", "_others", "_parked", "_ring", "_ring_bytes", "_skipping", "_stream", "dropped",
        "lapses", "max_bytes", "max_packets", "name", "peak", "taken", "wake_at",
    )  # fmt: skip

    def __init__(self, stream: Stream, name: str, max_packets: int, max_bytes: int) -> None:
        self.name = name
        self.max_packets = max_packets
        self.max_bytes = max_bytes
        self.dropped = 0
        self.lapses = 0
        self.taken = 0
        self.peak = 0
        self.wake_at = 0.0
        self._stream = stream
        self._ring: deque[Packet] = deque()
        self._ring_bytes = 0
        self._skipping = True
        self._others = LONELY_PACKETS
        self._closed = False
        self._parked: trio.lowlevel.Task | None = None
        self._logged_at = -1_000_000_000

    def offer(self, packet: Packet) -> None:
        """Called by the hub for each packet; never blocks."""
        size = len(packet.payload)
        if self._skipping and not self._stop_skipping(packet):
            return
        if len(self._ring) >= self.max_packets or self._ring_bytes + size > self.max_bytes:
            self._lapse(packet)
            if self._skipping:
                return
        self._ring.append(packet)
        self._ring_bytes += size
        task = self._parked
        if task is not None:
            track = packet.track
            if (
                packet.dts >= self.wake_at * track.timescale
                or (packet.keyframe and track.is_video)
                or len(self._ring) * 2 > self.max_packets
                or self._ring_bytes * 2 > self.max_bytes
            ):
                self._parked = None
                trio.lowlevel.reschedule(task)

    def _stop_skipping(self, packet: Packet) -> bool:
        """Whether ``packet`` is wanted although the reader waits for a key frame."""
        if self._stream.starts_gop(packet):
            self._skipping = False
            return True
        if packet.track.id == self._stream.reference:
            self._others = 0
        elif self._others >= LONELY_PACKETS:
            return True
        else:
            self._others += 1
        if self.lapses:
            self.dropped += 1
        return False

    def _lapse(self, packet: Packet) -> None:
        """The ring is full: make room for ``packet``, or skip it and what follows up to a key frame."""
        self.lapses += 1
        waiting = len(self._ring)
        self._keep_newest_gop()
        self.dropped += waiting - len(self._ring)
        if not self._ring and not self._stream.starts_gop(packet):
            self._skipping = True
            self._others = 0
            self.dropped += 1
        now = self._stream.clock.monotonic()
        if now - self._logged_at >= 1_000_000_000:
            self._logged_at = now
            log.warning("reader too slow stream=%s reader=%s dropped=%d lapses=%d", self._stream.label, self.name,
                        self.dropped, self.lapses)  # fmt: skip

    def _keep_newest_gop(self) -> None:
        """Drop what is before the newest key frame in the ring; all of it when that frees less than half."""
        kept: list[Packet] = []
        size = 0
        for packet in reversed(self._ring):
            kept.append(packet)
            size += len(packet.payload)
            if len(kept) * 2 > self.max_packets or size * 2 > self.max_bytes:
                break
            if self._stream.starts_gop(packet):
                self._ring = deque(reversed(kept))
                self._ring_bytes = size
                return
        self._ring.clear()
        self._ring_bytes = 0

    def preload(self, packets: Sequence[Packet]) -> None:
        """Begin with ``packets`` (from a key frame on), unless they are more than the ring may hold."""
        size = sum(len(packet.payload) for packet in packets)
        if packets and len(packets) <= self.max_packets and size <= self.max_bytes:
            self._ring.extend(packets)
            self._ring_bytes = size
            self._skipping = False
        elif self._stream.packets:
            self._others = 0

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
        if self._ring or self._closed:
            await trio.lowlevel.checkpoint()
        # Between being woken and running, the ring may have overflowed and be empty again.
        while not self._ring and not self._closed:
            await self._park()
        packets = list(self._ring)
        self._ring.clear()
        self._ring_bytes = 0
        count = len(packets)
        self.taken += count
        if count > self.peak:
            self.peak = count
        return packets

    async def _park(self) -> None:
        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

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

    def __init__(
        self, label: str, tracks: Sequence[Track], *, clock: Clock | None = None, epoch: int | None = None
    ) -> None:
        self.label = label
        self.clock = clock or Clock()
        self.epoch = self.clock.monotonic() if epoch is None else epoch
        self.created_wall = self.clock.wall()
        self.tracks: dict[int, Track] = {track.id: track for track in tracks}
        self.closed = False
        self.packets = 0
        self.bytes = 0
        #: Takes the requests; None where nobody can do anything.
        self.upstream: Upstream | None = None
        self._sinks: list[Sink] = []
        self._readers: list[Reader] = []
        self._ended = trio.Event()
        self._gop: list[Packet] = []
        self._gop_bytes = 0
        reference = _reference_track(tracks)
        #: Id of the track whose key frames readers start at; -1 when there is no track.
        self.reference = -1 if reference is None else reference.id
        # Any packet of sound is a fine place to start.
        self._starts_anywhere = reference is not None and reference.is_audio

    @property
    def name(self) -> str:
        return self.label.rpartition("/")[2]

    @property
    def raw(self) -> bool:
        """A raw input: its packets never come through the hub (a worker holds the frames)."""
        return any(track.codec is Codec.RAW for track in self.tracks.values())

    def starts_gop(self, packet: Packet) -> bool:
        """Whether a reader may start at ``packet``."""
        return (packet.keyframe or self._starts_anywhere) and packet.track.id == self.reference

    def publish(self, packet: Packet) -> None:
        """Hand ``packet`` to every reader and sink. Nothing happens once the stream is closed."""
        if self.closed:
            return
        self.packets += 1
        size = len(packet.payload)
        self.bytes += size
        track = packet.track
        if self.tracks.get(track.id) is not track:
            self.tracks[track.id] = track
        if track.id == self.reference and (packet.keyframe or self._starts_anywhere):
            # What other tracks gave of the same time and later, and earlier than this, belongs to it.
            self._gop = [packet, *self._not_before(packet)]
            self._gop_bytes = sum(len(each.payload) for each in self._gop)
        elif self._gop:
            if len(self._gop) < GOP_PACKETS and self._gop_bytes + size <= GOP_BYTES:
                self._gop.append(packet)
                self._gop_bytes += size
            else:
                # Too long to hand to newcomers: they start at the next key frame.
                self._gop = []
        for sink in self._sinks:
            sink(packet)

    def inject(self, packet: Packet) -> None:
        """Hand out ``packet`` in its turn without listing its track or counting it: an event among the media."""
        if self.closed:
            return
        if self._gop and len(self._gop) < GOP_PACKETS:
            self._gop.append(packet)
        for sink in self._sinks:
            sink(packet)

    def request(self, what: KeyFrame) -> bool:
        """Ask those that make the stream; whether they will do it. They may be asked too often: then it is no."""
        return not self.closed and self.upstream is not None and self.upstream(what)

    def _not_before(self, key: Packet) -> list[Packet]:
        time, scale = key.dts, key.track.timescale
        return [
            each for each in self._gop
            if each.track.id != self.reference and each.dts * scale >= time * each.track.timescale
        ]  # fmt: skip

    def add_sink(self, sink: Sink) -> None:
        """Call ``sink`` for what has come since the last key frame and for each packet from now on.

        It runs in the publisher's own turn: it must be quick and never raise.
        """
        for packet in self._gop:
            sink(packet)
        if not self.closed:
            # Lists are replaced, never changed: a sink may add and remove sinks while packets are handed out.
            self._sinks = [*self._sinks, sink]

    def remove_sink(self, sink: Sink) -> None:
        self._sinks = [other for other in self._sinks if other != sink]

    def reader(self, name: str, *, max_packets: int = RING_PACKETS, max_bytes: int = RING_BYTES) -> Reader:
        """A new reader that starts at the last key frame. Close it when done."""
        reader = Reader(self, name, max_packets, max_bytes)
        reader.preload(self._gop)
        if self.closed:
            reader.end()
            return reader
        self._readers.append(reader)
        self._sinks = [*self._sinks, reader.offer]
        return reader

    def remove(self, reader: Reader) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
            self.remove_sink(reader.offer)

    @property
    def readers(self) -> tuple[Reader, ...]:
        return tuple(self._readers)

    def close(self) -> None:
        """The source is over: readers end after what they hold."""
        if self.closed:
            return
        self.closed = True
        readers, self._readers, self._sinks = self._readers, [], []
        for reader in readers:
            reader.end()
        self._gop = []
        self._ended.set()

    async def wait_closed(self) -> None:
        await self._ended.wait()


def _reference_track(tracks: Sequence[Track]) -> Track | None:
    for media in (MediaType.VIDEO, MediaType.AUDIO):
        for track in tracks:
            if track.media is media and track.codec not in (Codec.JPEG, Codec.PNG, Codec.WEBP):
                return track
    return tracks[0] if tracks else None
