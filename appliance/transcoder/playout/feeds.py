"""Where the frames of one item come from: a file that is read ahead, or a live stream that is listened to."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from appliance.errors import KilnError, Unavailable
from appliance.media.clock import NANOSECONDS
from appliance.media.stream import Stream
from appliance.media.track import Codec, Track
from appliance.storage.media_root import resolve
from appliance.transcoder.demux import Demuxers, OpenedFile, frame_ns
from appliance.transcoder.demux_messages import Kind, unpack_track

log = logging.getLogger("kiln.channel")

#: How far a file is read ahead of what is on the air (ns), and what that may take (bytes).
READ_AHEAD = 2_000_000_000
READ_AHEAD_BYTES = 48 * 1024 * 1024
#: So much of a file (ns) is worth beginning with.
SHORTEST_REST = 500_000_000
#: How long a live stream may take to give a key frame (s).
KEY_FRAME_WITHIN = 10.0
PICTURES = frozenset({Codec.H264, Codec.H265})
SOUNDS = frozenset({Codec.AAC, Codec.OPUS, Codec.MP3})


class Unit(msgspec.Struct, frozen=True, gc=False):
    """One frame; times in ns of its source."""

    track: Track
    pts: int
    dts: int
    duration: int
    keyframe: bool
    payload: bytes


class Feed:
    """``queues`` by track id hold what has come and is not on the air yet. ``done``: nothing comes any more, for the
    reason ``fault`` ("": it was the end)."""

    def __init__(self, tracks: list[Track]) -> None:
        self.video = next((track for track in tracks if track.is_video and track.codec in PICTURES), None)
        self.audios = [track for track in tracks if track.is_audio and track.codec in SOUNDS]
        used = [*([self.video] if self.video else ()), *self.audios]
        self.queues: dict[int, deque[Unit]] = {track.id: deque() for track in used}
        self.done = False
        self.fault = ""
        self.changed = trio.Event()
        self._scope = trio.CancelScope()
        self._filling = False

    def queue(self, *, video: bool, index: int) -> deque[Unit] | None:
        """The frames of the picture or of the sound of that number; None when there is no such track."""
        track = self.video if video else self.audios[index] if index < len(self.audios) else None
        return None if track is None else self.queues[track.id]

    def _add(
        self, track: Track, pts: int, dts: int, duration: int, keyframe: bool, payload: bytes, epoch: int = 0
    ) -> None:
        queue = self.queues.get(track.id)
        if queue is None:
            return
        scale = track.timescale
        length = duration * NANOSECONDS // scale or frame_ns(track)
        if track.codec in (Codec.AAC, Codec.MP3):
            # Files tell a shorter one for the last; a decoder gives it whole.
            length = max(length, frame_ns(track))
        queue.append(
            Unit(track, epoch + pts * NANOSECONDS // scale, epoch + dts * NANOSECONDS // scale, length, keyframe,
                 payload)
        )  # fmt: skip

    def _end(self, fault: str = "") -> None:
        self.done = True
        self.fault = fault
        self._wake()

    def _wake(self) -> None:
        event, self.changed = self.changed, trio.Event()
        event.set()

    @property
    def main(self) -> deque[Unit] | None:
        """The queue of the track that leads."""
        return self.queue(video=self.video is not None, index=0)

    @property
    def startable(self) -> bool:
        """Whether there is a frame to begin with."""
        return any(unit.keyframe for unit in self.main or ())

    async def fill(self) -> None:
        """Fill the queues until the source ends or `close`; what goes wrong with it is its ``fault``."""
        if self._scope.cancel_called:
            return
        self._filling = True
        with self._scope:
            try:
                await self._fill()
            except Exception as error:
                # One item is lost by it, not the channel.
                log.exception("feed broken %s", type(self).__name__)
                self._end(f"internal error: {error!r}")

    async def _fill(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """It is not wanted any more."""
        self._scope.cancel()
        if not self._filling:
            self._let_go()

    def _let_go(self) -> None:
        """Give the source back."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """Give the source up: what has come is what there is."""
        self._end(reason)
        self.close()


class FileFeed(Feed):
    """Reads as far ahead as ``READ_AHEAD``, more where the file is badly interleaved."""

    def __init__(self, opened: OpenedFile) -> None:
        super().__init__(opened.tracks)
        self._opened = opened
        self._tracks = {track.id: track for track in opened.tracks}
        self._taken = trio.Event()

    @classmethod
    async def open(cls, demuxers: Demuxers, root: Path, place: str, start: int) -> FileFeed:
        """Raises BadRequest (a path that leads elsewhere), Unavailable."""
        path = resolve(root, place)
        opened = await demuxers.open(root, path, start)
        if start and 0 < opened.duration <= start + SHORTEST_REST:
            # The item is longer than its file, which goes round meanwhile.
            rest = opened.duration - SHORTEST_REST
            opened.close()
            opened = await demuxers.open(root, path, start % rest if rest > 0 else 0)
        return cls(opened)

    def taken(self) -> None:
        """Something was taken out of the queues."""
        self._taken.set()

    def _full(self) -> bool:
        held = 0
        ahead = []
        for queue in self.queues.values():
            ahead.append(queue[-1].dts - queue[0].dts if queue else 0)
            held += len(queue)
        if not ahead or min(ahead) < READ_AHEAD:
            return held > 0 and self._held_bytes() > READ_AHEAD_BYTES
        return True

    def _held_bytes(self) -> int:
        return sum(len(unit.payload) for queue in self.queues.values() for unit in queue)

    async def _fill(self) -> None:
        try:
            since = 0
            while (frame := await self._opened.read()) is not None:
                if frame.kind is Kind.TRACK:
                    self._tracks[frame.track] = unpack_track(frame.payload)
                    continue
                self._add(
                    self._tracks[frame.track], frame.pts, frame.dts, frame.duration, frame.keyframe, frame.payload
                )
                since += 1
                if since >= 16:
                    since = 0
                    self._wake()
                    await trio.lowlevel.checkpoint()
                    while self._full():
                        self._taken = trio.Event()
                        await self._taken.wait()
            self._end()
        except KilnError as error:
            self._end(str(error))
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._opened.close()

    def fail(self, reason: str) -> None:
        self._opened.hung = True
        super().fail(reason)


class LiveFeed(Feed):
    """Times are CLOCK_MONOTONIC ns: those of all streams of this box compare."""

    def __init__(self, stream: Stream, label: str) -> None:
        super().__init__(sorted(stream.tracks.values(), key=lambda track: track.id))
        self._stream = stream
        self._label = label
        self._reader = stream.reader(f"channel {label}")
        self.last = stream.clock.monotonic()

    @classmethod
    async def join(cls, find: Callable[[str, str, str], Stream | None], place: str, label: str) -> LiveFeed:
        """Raises Unavailable: there is no such stream."""
        parts = place.split("/")
        stream = find(*parts) if len(parts) == 3 else None
        if stream is None or stream.closed:
            raise Unavailable(f"stream {place} is not on the air")
        await trio.lowlevel.checkpoint()
        return cls(stream, label)

    def trim(self) -> None:
        """While it waits for its turn: keep what a start at the newest key frame needs."""
        main = self.main
        if not main:
            return
        newest = next((unit for unit in reversed(main) if unit.keyframe), None)
        if newest is None:
            return
        for queue in self.queues.values():
            while queue and queue[0] is not newest and queue[0].dts < newest.dts:
                queue.popleft()

    async def _fill(self) -> None:
        epoch = self._stream.epoch
        try:
            async for packets in self._reader:
                self.last = self._stream.clock.monotonic()
                for packet in packets:
                    self._add(packet.track, packet.pts, packet.dts, packet.duration, packet.keyframe, packet.payload,
                              epoch)  # fmt: skip
                self._wake()
            self._end(f"stream {self._label} is over")
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._reader.close()
