"""A player of LL-HLS without a screen: it follows live playlists part by part and keeps every byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import trio

from tests.kit import frames, m3u8
from tests.kit.frames import Frame


@dataclass(slots=True)
class Chunk:
    """One part (or a whole segment, when the playlist listed no parts of it): ``part`` is -1 for a segment.

    ``asked`` and ``got`` are trio's times of the request and of the last byte.
    """

    msn: int
    part: int
    init: str
    duration: float
    discontinuity: bool
    asked: float
    got: float
    data: bytes


@dataclass(slots=True)
class _Fetched:
    asked: float
    got: float
    data: bytes


class StreamGone(Exception):
    """The server answers 404 for a playlist that was there."""


@dataclass
class Track:
    """What one media playlist has delivered so far."""

    url: str
    kind: str
    inits: dict[str, bytes] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    playlists: list[m3u8.MediaPlaylist] = field(default_factory=list)
    #: Answers 503: the server held a request as long as it may and had nothing to say.
    held_back: int = 0
    #: Segments that the server says it has no media for.
    gaps: int = 0
    #: Segments that left the playlist before they were fetched: the reader fell behind, or the server took them back.
    missed: int = 0

    @property
    def delivered_seconds(self) -> float:
        return sum(chunk.duration for chunk in self.chunks)

    def runs(self) -> list[bytes]:
        """One playable MP4 for each stretch that has the same init section and no discontinuity."""
        found: list[bytearray] = []
        init = None
        for chunk in self.chunks:
            if chunk.init != init or chunk.discontinuity or not found:
                found.append(bytearray(self.inits[chunk.init]))
                init = chunk.init
            found[-1] += chunk.data
        return [bytes(run) for run in found]

    def frames(self) -> list[Frame]:
        """All frames in order. An MP4 a run: times are those in the fragments, whatever the run."""
        return [frame for run in self.runs() for frame in frames.of_bytes(run, self.kind)]

    def chunk_frames(self, chunk: Chunk) -> list[Frame]:
        return frames.of_bytes(self.inits[chunk.init] + chunk.data, self.kind)


class LlhlsClient:
    """Plays ``url`` (a multivariant playlist): the first variant, or that of ``variant``, and its audio.

    ``await run()`` returns at ENDLIST or when the stream is gone; cancel it to stop. Tracks are there as soon as the
    multivariant playlist has come.
    """

    def __init__(self, url: str, *, variant: int = 0, hints: bool = True, verify: bool = True) -> None:
        self.url = url
        self.variant = variant
        self.hints = hints
        self.master: m3u8.MasterPlaylist | None = None
        self.master_at = 0.0
        #: The connection broke: the server is no more.
        self.cut_off = False
        self.tracks: list[Track] = []
        self._http = httpx.AsyncClient(timeout=30, trust_env=False, verify=verify)
        self._grown = trio.Event()
        #: Announced parts that came before a playlist listed them.
        self._hinted: dict[str, _Fetched] = {}

    def track(self, kind: str) -> Track:
        return next(track for track in self.tracks if track.kind == kind)

    @property
    def video(self) -> Track:
        return self.track("video")

    @property
    def audio(self) -> Track:
        return self.track("audio")

    async def run(self, *, wait: float = 15) -> None:
        """Wait up to ``wait`` seconds for the stream to exist, then follow it to its end."""
        async with self._http:
            await self._open(wait)
            try:
                async with trio.open_nursery() as nursery:
                    for track in self.tracks:
                        nursery.start_soon(self._follow, track)
            except* httpx.TransportError:
                # The server went away under us.
                self.cut_off = True

    async def _open(self, wait: float) -> None:
        with trio.fail_after(wait):
            while True:
                try:
                    answer = await self._http.get(self.url)
                except httpx.TransportError:
                    await trio.sleep(0.02)
                    continue
                if answer.status_code == 200:
                    break
                await trio.sleep(0.02)
        self.master_at = trio.current_time()
        self.master = m3u8.parse_master(self.url, answer.text)
        chosen = self.master.variants[self.variant]
        codecs = chosen.attributes.get("CODECS", "")
        has_video = "RESOLUTION" in chosen.attributes or any(
            codec.startswith(("avc", "hvc", "hev", "av01", "vp0")) for codec in codecs.split(",")
        )
        self.tracks.append(Track(chosen.uri, "video" if has_video else "audio"))
        group = chosen.attributes.get("AUDIO")
        for media in self.master.media:
            if has_video and group and media.attributes.get("GROUP-ID") == group:
                self.tracks.append(Track(media.uri, "audio"))
                break

    async def _follow(self, track: Track) -> None:
        playlist = await self._playlist(track, None)
        position = (playlist.media_sequence, 0)
        try:
            while True:
                position = await self._take(track, playlist, position)
                if playlist.ended:
                    return
                if self.hints and playlist.hint:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._take_hint, track, playlist)
                        fresh = await self._playlist(track, position)
                else:
                    fresh = await self._playlist(track, position)
                playlist = fresh
        except StreamGone:
            return

    async def _playlist(self, track: Track, position: tuple[int, int] | None) -> m3u8.MediaPlaylist:
        query = {} if position is None else {"_HLS_msn": str(position[0]), "_HLS_part": str(position[1])}
        while (answer := await self._http.get(track.url, params=query)).status_code == 503:
            track.held_back += 1
        if answer.status_code == 404:
            raise StreamGone
        if answer.status_code != 200:
            raise AssertionError(f"{answer.status_code} for {answer.url}: {answer.text[:200]}")
        playlist = m3u8.parse_media(track.url, answer.text)
        track.playlists.append(playlist)
        return playlist

    async def _take(self, track: Track, playlist: m3u8.MediaPlaylist, position: tuple[int, int]) -> tuple[int, int]:
        """Fetch what the playlist has from ``position`` on; the position after it."""
        for segment in playlist.segments:
            if segment.msn < position[0]:
                continue
            if segment.msn > position[0]:
                track.missed += segment.msn - position[0]
                position = (segment.msn, 0)
            if segment.gap:
                track.gaps += 1
                position = (segment.msn + 1, 0)
                continue
            if segment.map not in track.inits:
                track.inits[segment.map] = (await self._get(segment.map, track)).data
            if not segment.parts and position[1] == 0:
                await self._chunk(track, segment, -1, segment.uri, segment.duration)
            for index in range(position[1], len(segment.parts)):
                part = segment.parts[index]
                await self._chunk(track, segment, index, part.uri, part.duration)
                position = (segment.msn, index + 1)
            if segment.uri:
                position = (segment.msn + 1, 0)
        return position

    async def _chunk(self, track: Track, segment: m3u8.Segment, part: int, uri: str, duration: float) -> None:
        fetched = self._hinted.pop(uri, None) or await self._get(uri, track)
        fresh = segment.discontinuity and part <= 0
        track.chunks.append(
            Chunk(segment.msn, part, segment.map, duration, fresh, fetched.asked, fetched.got, fetched.data)
        )
        self._grown.set()
        self._grown = trio.Event()

    async def _take_hint(self, track: Track, playlist: m3u8.MediaPlaylist) -> None:
        """Ask for the part that is announced; it comes when it is ready. A withdrawn one is a 404, which is allowed."""
        if playlist.hint in self._hinted:
            return
        fetched = await self._try(playlist.hint)
        if fetched is not None:
            self._hinted[playlist.hint] = fetched

    async def _get(self, uri: str, track: Track) -> _Fetched:
        """What the playlist lists is there, unless the whole stream is gone."""
        fetched = await self._try(uri)
        if fetched is None:
            if (await self._http.get(track.url, params={"_HLS_legacy": "YES"})).status_code == 404:
                raise StreamGone
            raise AssertionError(f"404 for {uri}, which the playlist lists")
        return fetched

    async def _try(self, uri: str) -> _Fetched | None:
        asked = trio.current_time()
        answer = await self._http.get(uri)
        if answer.status_code in (404, 503):
            return None
        if answer.status_code != 200:
            raise AssertionError(f"{answer.status_code} for {uri}")
        return _Fetched(asked, trio.current_time(), answer.content)

    async def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Until ``condition`` holds, looked at with each chunk. Raises trio.TooSlowError after ``seconds``."""
        with trio.fail_after(seconds):
            while not condition():
                await self._grown.wait()

    async def wait_seconds(self, media: float, *, within: float) -> None:
        """Until every track has delivered ``media`` more seconds than now."""
        marks = {id(track): track.delivered_seconds + media for track in self.tracks}

        def enough() -> bool:
            return bool(self.tracks) and all(
                track.delivered_seconds >= marks.get(id(track), media) for track in self.tracks
            )

        await self.wait(enough, within)
