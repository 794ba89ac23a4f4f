"""A player that follows every rendition of a live stream and keeps all it is given, with the moment it came."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx
import trio

from tests.conformance.llhls.mp4 import TEXT, Init, Sample, parse_fragments, parse_init, parse_text
from tests.conformance.llhls.playlist import Master, MediaPlaylist, parse_master, parse_media


@dataclass
class Answer:
    """``asked``, ``began`` (first byte of the body, or the end without one) and ``ended`` are trio's time."""

    url: str
    status: int
    headers: httpx.Headers
    body: bytes
    asked: float
    began: float
    ended: float

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def took(self) -> float:
        return self.ended - self.asked


class Player:
    """Requests, timed. Give it any ``httpx.AsyncClient``; its ``base_url`` is not used."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, url: str, **headers: str) -> Answer:
        asked = trio.current_time()
        async with self.http.stream("GET", url, headers={"accept-encoding": "identity"} | headers) as response:
            began = -1.0
            body = bytearray()
            async for chunk in response.aiter_bytes():
                began = began if began >= 0 else trio.current_time()
                body += chunk
            ended = trio.current_time()
        return Answer(url, response.status_code, response.headers, bytes(body), asked, max(began, asked), ended)

    async def playlist(self, url: str, query: str = "") -> MediaPlaylist:
        answer = await self.get(with_query(url, query))
        if answer.status != 200:
            raise AssertionError(f"{answer.status} for {answer.url}: {answer.text.strip()}")
        return parse_media(url, answer.text)


def with_query(url: str, query: str) -> str:
    return url if not query else f"{url}{'&' if '?' in url else '?'}{query}"


@dataclass
class Seen:
    """One playlist, and when it came."""

    at: float
    playlist: MediaPlaylist


@dataclass
class FetchedPart:
    msn: int
    index: int
    uri: str
    tagged: float
    independent: bool
    init: Init
    samples: list[Sample]
    size: int
    headers: httpx.Headers

    @property
    def duration(self) -> float:
        """By its own boxes."""
        return sum(sample.duration for sample in self.samples) / self.init.timescale


@dataclass
class Rendition:
    url: str
    seen: list[Seen] = field(default_factory=list)
    parts: dict[tuple[int, int], FetchedPart] = field(default_factory=dict)
    inits: dict[str, Init] = field(default_factory=dict)

    @property
    def latest(self) -> MediaPlaylist:
        return self.seen[-1].playlist

    @property
    def video(self) -> bool:
        return any(init.handler == "vide" for init in self.inits.values())

    @property
    def text(self) -> bool:
        """Subtitles: each part is a document of its own, of the cues of its time."""
        return TEXT in self.inits.values()

    def appeared(self) -> dict[tuple[int, int], float]:
        """When each part was first listed, without those of the first playlist."""
        found: dict[tuple[int, int], float] = {}
        known = {(one.msn, index) for one in self.seen[0].playlist.segments for index in range(len(one.parts))}
        for seen in self.seen[1:]:
            for segment in seen.playlist.segments:
                for index in range(len(segment.parts)):
                    if (segment.msn, index) not in known:
                        found.setdefault((segment.msn, index), seen.at)
        return found


@dataclass
class Observation:
    master: Master
    renditions: list[Rendition]

    @property
    def target_duration(self) -> int:
        return self.renditions[0].latest.target_duration


async def observe(master_url: str, http: httpx.AsyncClient, seconds: float) -> Observation:
    """Follow all renditions for that long. Raises AssertionError when something listed can't be had."""
    player = Player(http)
    answer = await player.get(master_url)
    if answer.status != 200:
        raise AssertionError(f"{answer.status} for {master_url}: {answer.text.strip()}")
    master = parse_master(master_url, answer.text)
    observation = Observation(master, [Rendition(url) for url in master.renditions])
    until = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for rendition in observation.renditions:
            nursery.start_soon(_follow, rendition, player, until)
    return observation


async def _follow(rendition: Rendition, player: Player, until: float) -> None:
    query = ""
    fetched = trio.CapacityLimiter(4)
    async with trio.open_nursery() as nursery:
        while trio.current_time() < until:
            playlist = await player.playlist(rendition.url, query)
            rendition.seen.append(Seen(trio.current_time(), playlist))
            for segment in playlist.segments:
                for index, part in enumerate(segment.parts):
                    if (segment.msn, index) not in rendition.parts:
                        rendition.parts[segment.msn, index] = None  # type: ignore[assignment]
                        nursery.start_soon(_fetch, rendition, player, segment.msn, index, part, segment.map, fetched)
            if playlist.ended:
                return
            msn, index = playlist.next
            query = f"_HLS_msn={msn}&_HLS_part={index}"


async def _fetch(
    rendition: Rendition, player: Player, msn: int, index: int, part: object, map_url: str, limit: trio.CapacityLimiter
) -> None:
    async with limit:
        if map_url not in rendition.inits:
            rendition.inits[map_url] = parse_init((await player.get(map_url)).body) if map_url else TEXT
        answer = await player.get(part.uri)  # type: ignore[attr-defined]
    if answer.status != 200:
        raise AssertionError(f"{answer.status} for {answer.url}, which is listed")
    init = rendition.inits[map_url]
    if init is TEXT:
        samples = parse_text(answer.body, part.duration)  # type: ignore[attr-defined]
    else:
        (samples,) = parse_fragments(init, answer.body)
    rendition.parts[msn, index] = FetchedPart(
        msn, index, answer.url, part.duration, part.independent, init, samples, len(answer.body), answer.headers  # type: ignore[attr-defined]
    )  # fmt: skip
