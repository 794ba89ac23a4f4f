"""Following one media playlist: reload it when it is time, fetch what is new, in order (RFC 8216 6.3.3, 6.3.4)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

import trio

from appliance.errors import BadRequest, RemoteProtocolError, Unavailable
from appliance.media.track import Track
from appliance.net.quiet_log import QuietLog
from appliance.protocols.m3u8 import Map, MediaPlaylist, Segment
from appliance.providers.hls.fetch import MOST_INIT, Fetcher
from appliance.providers.hls.lane import Batch, Entry, Lane
from appliance.providers.hls.names import TrackNames
from appliance.providers.hls.segments import AnyFrame, SegmentReader

log = logging.getLogger("kiln.hls")

#: A live playlist is begun so many target durations before its end (RFC 8216 6.3.3), and left behind beyond so many.
BEHIND: Final = 3
FAR_BEHIND: Final = 8
#: What may wait to be played: so many target durations and seconds; bytes.
AHEAD: Final = (1.5, 2.0)
MOST_WAITING: Final = 24 * 1024 * 1024
#: Pauses (s) before a request is tried again; after the last try a segment is left out.
PAUSES: Final = (0.25, 0.5, 1.0)
MOST_LOST: Final = 3
#: A playlist that does not change for so many target durations is dead.
STALE: Final = 4
#: How far the times of a segment may be off (s) before its clock has jumped.
JUMP: Final = 1.0


class Follower:
    """``index`` tells apart the playlists of one stream; ``skip_audio``: the sound comes from another one."""

    def __init__(
        self, fetcher: Fetcher, url: str, lane: Lane, names: TrackNames, index: int, label: str, timeout: float,
        *, skip_audio: bool = False,
    ) -> None:  # fmt: skip
        self._fetcher = fetcher
        self._url = url
        self._lane = lane
        self._names = names
        self._index = index
        self._label = label
        self._timeout = timeout
        self._skip_audio = skip_audio
        self._quiet = QuietLog(log)
        self._reader = SegmentReader()
        self._waiting: deque[Segment] = deque()
        self._base = url
        self._target = 1.0
        self._last = -1
        self._ended = False
        self._begun = False
        self._gap = False
        self._lost = 0
        self._map: Map | None = None
        self._map_base = ""
        self._epoch = -1
        self._shift = 0.0
        self._expected: float | None = None

    async def run(self, first: tuple[str, MediaPlaylist] | None = None) -> None:
        """Until the playlist's end has been fetched. Raises BadRequest, Unavailable, RemoteProtocolError."""
        began = changed = trio.current_time()
        base, playlist = first or await self._load(retries=1)
        fresh = self._take(base, playlist)
        while self._waiting or not self._ended:
            now = trio.current_time()
            due = began + (self._target if fresh else self._target / 2)
            if not self._ended and now >= due:
                began = now
                fresh = self._take(*await self._load(retries=len(PAUSES)))
                if fresh:
                    changed = now
                elif now - changed > max(STALE * self._target, self._timeout):
                    raise Unavailable(f"the playlist has not changed for {now - changed:.0f} s")
            elif self._waiting and self._has_room():
                await self._segment(self._waiting.popleft())
            else:
                with trio.move_on_at(float("inf") if self._ended else due):
                    await self._lane.signal.wait()
        self._lane.end()

    def _has_room(self) -> bool:
        lane = self._lane
        return lane.ahead < AHEAD[0] * self._target + AHEAD[1] and lane.size < MOST_WAITING

    # The playlist

    async def _load(self, retries: int) -> tuple[str, MediaPlaylist]:
        for number in range(retries + 1):
            try:
                base, playlist = await self._fetcher.playlist(self._url, self._timeout + self._target)
            except Unavailable as error:
                if number == retries:
                    raise
                self._tell("playlist", error)
                await trio.sleep(PAUSES[min(number, len(PAUSES) - 1)])
                continue
            if not isinstance(playlist, MediaPlaylist):
                raise RemoteProtocolError("the playlists are nested: a variant is a master playlist itself")
            return base, playlist
        raise AssertionError("unreachable")

    def _take(self, base: str, playlist: MediaPlaylist) -> bool:
        """Whether there is something new in it."""
        self._base, self._target = base, playlist.target
        segments = playlist.segments
        fresh = playlist.ended and not self._ended
        self._ended = playlist.ended
        if not segments:
            return fresh
        if not self._begun:
            self._begun = True
            self._wait_for(segments if playlist.ended else _edge(segments, playlist.target))
            return True
        if segments[-1].number < self._last:
            # The server began to count again.
            self._tell("restart", "the media sequence went back")
            self._gap = True
            self._waiting.clear()
            self._wait_for(segments if playlist.ended else _edge(segments, playlist.target))
            return True
        new = [segment for segment in segments if segment.number > self._last]
        if new and new[0].number > self._last + 1:
            self._tell("gap", f"{new[0].number - self._last - 1} segments were gone before they could be fetched")
            self._gap = True
        self._wait_for(new)
        if not self._ended and sum(segment.duration for segment in self._waiting) > FAR_BEHIND * self._target:
            self._tell("behind", "too far behind, what lies between is left out")
            self._waiting = deque(_edge(list(self._waiting), self._target))
            self._gap = True
        return bool(new) or fresh

    def _wait_for(self, segments: Iterable[Segment]) -> None:
        self._waiting += segments
        if self._waiting:
            self._last = self._waiting[-1].number

    # Segments

    async def _segment(self, segment: Segment) -> None:
        if segment.gap:
            self._gap = True
            return
        try:
            data = await self._fetched(segment)
        except Unavailable as error:
            self._lost += 1
            if self._lost >= MOST_LOST or not self._lane.started:
                raise
            self._tell("segment", error)
            self._gap = True
            return
        self._lost = 0
        frames = await self._reader.read(data)
        if not self._lane.started:
            self._start()
        batch = self._batch(segment, frames)
        if batch.entries:
            self._gap = False
            self._lane.add(batch)

    async def _fetched(self, segment: Segment) -> bytes:
        within = self._timeout + 2 * self._target
        for number, pause in enumerate(PAUSES):
            try:
                await self._change_map(segment, within)
                return await self._fetcher.media(
                    self._base, segment.uri, segment.range, segment.key, segment.number, within
                )
            except Unavailable as error:
                if number == len(PAUSES) - 1:
                    raise
                self._tell("segment", error)
                await trio.sleep(pause)
        raise AssertionError("unreachable")

    async def _change_map(self, segment: Segment, within: float) -> None:
        found = segment.map
        if segment.epoch == self._epoch and found == self._map:
            return
        init = None
        if found is not None:
            init = await self._fetcher.media(
                self._base, found.uri, found.range, found.key, segment.number, within, MOST_INIT
            )
        self._reader.begin(init)
        if segment.epoch != self._epoch:
            self._shift, self._expected = 0.0, None
        self._map, self._epoch = found, segment.epoch

    def _start(self) -> None:
        tracks = self._wanted(self._reader.tracks)
        if not tracks:
            lacking = "; ".join(self._reader.unsupported) or "no track that can be carried in its first segment"
            raise BadRequest(f"the playlist has {lacking}")
        for reason in self._reader.unsupported:
            log.warning("not carried stream=%s reason=%r", self._label, reason)
        self._lane.tracks = [self._names.of(self._index, track, tracks) for track in tracks]
        self._lane.started = True

    def _wanted(self, tracks: Iterable[Track]) -> list[Track]:
        return [track for track in tracks if not (self._skip_audio and track.is_audio)]

    def _batch(self, segment: Segment, frames: list[AnyFrame]) -> Batch:
        """Raises Unavailable when a codec changed."""
        known = self._wanted(self._reader.tracks)
        frames = [frame for frame in frames if not (self._skip_audio and frame.track.is_audio)]
        times = [frame.dts / frame.track.timescale for frame in frames]
        first = min(times, default=0.0)
        self._follow_clock(first, segment.duration, bool(frames))
        size = 0
        entries = []
        for frame, seconds in zip(frames, times, strict=True):
            track = self._names.of(self._index, frame.track, known)
            size += len(frame.payload)
            entries.append(Entry(seconds + self._shift, self._shift, track, *frame[1:]))
        entries.sort(key=lambda entry: entry.seconds)
        return Batch(segment.epoch, segment.duration, deque(entries), size, self._gap)

    def _follow_clock(self, first: float, duration: float, any_frames: bool) -> None:
        """A clock that jumps without a word of it in the playlist: the lane's axis goes on."""
        if not any_frames:
            return
        at, expected = first + self._shift, self._expected
        if expected is not None:
            most = max(JUMP, self._target / 2)
            ahead = FAR_BEHIND * self._target if self._gap else most
            if not -most <= at - expected <= ahead:
                self._tell("jump", f"the clock of the segments jumped by {at - expected:.1f} s")
                self._shift += expected - at
                at = expected
        self._expected = at + duration

    def _tell(self, key: str, reason: object) -> None:
        self._quiet.log(logging.WARNING, key, "hls stream=%s reason=%r", self._label, str(reason))


def _edge(segments: list[Segment], target: float) -> list[Segment]:
    """Those from three target durations before the end on, at least one."""
    left, first = BEHIND * target, len(segments) - 1
    for number in range(len(segments) - 1, -1, -1):
        left -= segments[number].duration
        if left < -0.5:
            break
        first = number
    return segments[first:]
