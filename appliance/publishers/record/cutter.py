"""Which packet goes into which file: files begin at key frames, and no frame is missing or doubled between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from appliance.media.clock import NANOSECONDS, rescale
from appliance.media.events import EVENT_TRACK
from appliance.media.packet import Packet
from appliance.media.track import Track

#: A crash loses at most this, and what is on its way to the disk.
FRAGMENT_NS = NANOSECONDS // 2
FRAGMENT_BYTES = 4 << 20
#: How long the file before waits for tracks that are behind.
STRAGGLERS_NS = 2 * NANOSECONDS


class Part:
    """One file as it is filled. ``start``: (ticks, timescale) in the stream of what is shown at ``offset`` in it.

    Packets in ``ready`` have times of the file and their durations; the newest of each track waits in ``newest`` for
    the one behind it.
    """

    def __init__(self, tracks: Mapping[int, Track], start: tuple[int, int], zero: tuple[int, int]) -> None:
        self.tracks = dict(tracks)
        self.start = start
        self.ready: list[Packet] = []
        self.behind = set(tracks)
        self.elapsed_ns = 0
        #: Decoding time of the first packet, in the stream.
        self.began_ns = 0
        self.lead = (0, 1)
        self._zero = zero
        self._bases = {track.id: rescale(zero[0], zero[1], track.timescale) for track in tracks.values()}
        self._newest: dict[int, Packet] = {}
        self._ready_bytes = 0
        self._since = 0
        self._durations: dict[int, int] = {}
        self._first_ns: int | None = None

    def add(self, packet: Packet) -> None:
        track = packet.track
        base = self._bases[track.id]
        ours = self.tracks[track.id]
        moved = Packet(
            ours, packet.pts - base, packet.dts - base, packet.duration, packet.keyframe, packet.payload
        )
        before = self._newest.get(track.id)
        if before is not None:
            self._settle(before, moved.dts - before.dts)
        elif track.is_video and -moved.dts * self.lead[1] > self.lead[0] * track.timescale:
            self.lead = (-moved.dts, track.timescale)
        self._newest[track.id] = moved
        shown = moved.dts * NANOSECONDS // track.timescale
        if self._first_ns is None:
            self.began_ns = packet.dts * NANOSECONDS // track.timescale
            self._first_ns = shown
            self._since = shown
        self.elapsed_ns = max(self.elapsed_ns, shown - self._first_ns)

    def add_event(self, packet: Packet) -> None:
        """``packet`` of EVENT_TRACK; one from before the file is at its start."""
        base = rescale(*self._zero, packet.track.timescale)
        begin = rescale(*self.start, packet.track.timescale)
        time = max(packet.pts, begin) - base
        self.ready.append(Packet(packet.track, time, time, 0, False, packet.payload))

    def _settle(self, packet: Packet, duration: int) -> None:
        duration = max(0, duration)
        self._durations[packet.track.id] = duration
        self.ready.append(
            Packet(packet.track, packet.pts, packet.dts, duration, packet.keyframe, packet.payload)
        )
        self._ready_bytes += len(packet.payload)

    @property
    def due(self) -> bool:
        """There is a fragment's worth."""
        if self._ready_bytes > FRAGMENT_BYTES:
            return True
        return self._first_ns is not None and self.elapsed_ns + self._first_ns - self._since >= FRAGMENT_NS

    def take(self) -> list[Packet]:
        ready, self.ready = self.ready, []
        self._ready_bytes = 0
        self._since = self.elapsed_ns + (self._first_ns or 0)
        ready.sort(key=_decoded)
        return ready

    def end(self) -> list[Packet]:
        """What is left: the newest packets last as long as those before them did."""
        for track_id, packet in self._newest.items():
            self._settle(packet, packet.duration or self._durations.get(track_id, 0))
        self._newest.clear()
        return self.take()

    @property
    def elapsed_ms(self) -> int:
        return self.elapsed_ns // 1_000_000


def _decoded(packet: Packet) -> float:
    return packet.dts / packet.track.timescale


#: What the recorder has to do next: ("write", part, packets) or ("close", part, the last packets).
Action = tuple[str, Part, list[Packet]]


class Cutter:
    """``tracks`` are what is recorded of the stream. ``due(elapsed_ns)`` says at a key frame whether the next file
    begins there, when the current one has that much. With ``continuous`` the times of a file go on where those of the
    one before ended. With ``events`` timed metadata goes into the file that is begun last."""

    def __init__(
        self, tracks: Sequence[Track], due: Callable[[int], bool], *, continuous: bool = False, events: bool = False
    ) -> None:  # fmt: skip
        self._events = events
        self._tracks = {track.id: track for track in tracks}
        self._due = due
        self._continuous = continuous
        videos = [track for track in tracks if track.is_video]
        self._reference = (videos or list(tracks))[0].id
        self._anywhere = not videos
        self._zero: tuple[int, int] | None = None
        self._before: Part | None = None
        self._current: Part | None = None
        self._changed = False
        #: Packets that no file could take: before the first key frame of a changed codec.
        self.skipped = 0

    @property
    def current(self) -> Part | None:
        return self._current

    def add(self, packet: Packet) -> Iterator[Action]:
        """Actions in order; all of them are to be carried out."""
        track = packet.track
        known = self._tracks.get(track.id)
        if known is None:
            if self._events and track is EVENT_TRACK and packet.payload and self._current is not None:
                self._current.add_event(packet)
            return
        if known is not track:
            self._tracks[track.id] = track
            self._changed = self._changed or not same_coding(known, track)
        starts = track.id == self._reference and (packet.keyframe or self._anywhere)
        current = self._current
        if current is None:
            if not starts:
                return
            current = self._begin(packet)
        elif starts and (self._changed or self._due(_since(packet, current))):
            if self._before is not None:
                yield "close", self._before, self._before.end()
            self._before, current = current, self._begin(packet)
            if self._anywhere and len(self._tracks) == 1:
                self._before.behind.clear()
        yield from self._route(packet, current)

    def _begin(self, packet: Packet) -> Part:
        start = (packet.pts, packet.track.timescale)
        if self._zero is None or not self._continuous:
            self._zero = start
        self._changed = False
        self._current = Part(self._tracks, start, self._zero)
        return self._current

    def _route(self, packet: Packet, current: Part) -> Iterator[Action]:
        track = packet.track
        before = self._before
        if before is not None:
            if track.id in before.behind and self._is_of_before(packet, current):
                if same_coding(before.tracks[track.id], track):
                    before.add(packet)
                    if before.due:
                        yield "write", before, before.take()
                else:
                    self.skipped += 1
                return
            before.behind.discard(track.id)
            late = packet.dts * NANOSECONDS // track.timescale - current.start[0] * NANOSECONDS // current.start[1]
            if not before.behind or late > STRAGGLERS_NS:
                yield "close", before, before.end()
                self._before = None
        if not same_coding(current.tracks[track.id], track):
            # The file can't describe it any more: the next one can, from the next key frame on.
            self.skipped += 1
            return
        current.add(packet)
        if current.due:
            yield "write", current, current.take()

    def _is_of_before(self, packet: Packet, current: Part) -> bool:
        track = packet.track
        if track.id == self._reference:
            return False
        ticks, scale = current.start
        earlier = packet.pts * scale < ticks * track.timescale
        # Another picture track changes over at a key frame of its own.
        return earlier or (track.is_video and not packet.keyframe)

    def end(self) -> Iterator[Action]:
        """The stream is over, or the task."""
        for part in (self._before, self._current):
            if part is not None:
                yield "close", part, part.end()
        self._before = self._current = None


def _since(packet: Packet, part: Part) -> int:
    ticks, scale = part.start
    return packet.pts * NANOSECONDS // packet.track.timescale - ticks * NANOSECONDS // scale


def same_coding(one: Track, other: Track) -> bool:
    """A file can go on with the other."""
    return one is other or (
        (one.codec, one.codec_config, one.timescale, one.width, one.height, one.sample_rate, one.channels)
        == (other.codec, other.codec_config, other.timescale, other.width, other.height, other.sample_rate,
            other.channels)
    )  # fmt: skip
