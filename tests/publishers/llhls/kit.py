"""A publisher under test: synthetic packets in real time (or a virtual clock's), answers through the ASGI app."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import httpx
import trio

from appliance.media.clock import NANOSECONDS, Clock
from appliance.media.contracts import Context, Input, OutputStream, Playlist, Source
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec, MediaType, Track
from appliance.net.egress import Egress
from appliance.publishers.llhls.live import Live
from appliance.publishers.llhls.publisher import LlhlsPublisher
from appliance.settings.models import Application, CrossDomains, LLHlsPublisher, Publishers

#: A configuration record of each codec that is well formed, if not that of a real picture.
AVCC = bytes.fromhex("0164001effe100196764001eacd940a02ff9610000030001000003003c8f162d9601000568ebecb22c")
AAC_LC_48K_STEREO = bytes.fromhex("1190")


def video_track(track_id: int = 0, **changes: object) -> Track:
    values: dict[str, object] = {
        "id": track_id, "media": MediaType.VIDEO, "codec": Codec.H264, "timescale": 90000, "codec_config": AVCC,
        "width": 1280, "height": 720, "frame_rate": 30.0, "variant": "video",
    }  # fmt: skip
    return Track(**values | changes)  # type: ignore[arg-type]


def audio_track(track_id: int = 1, **changes: object) -> Track:
    values: dict[str, object] = {
        "id": track_id, "media": MediaType.AUDIO, "codec": Codec.AAC, "timescale": 48000,
        "codec_config": AAC_LC_48K_STEREO, "sample_rate": 48000, "channels": 2, "variant": "audio",
    }  # fmt: skip
    return Track(**values | changes)  # type: ignore[arg-type]


@dataclass
class Feed:
    """Frames of some tracks, in the order of their decode times.

    ``gop`` in frames; ``known_durations`` false leaves ``duration`` 0, as RTMP does. Payloads name what they are.
    """

    tracks: Sequence[Track]
    gop: int = 30
    frame_rate: float = 30.0
    size: int = 2000
    known_durations: bool = False
    frames_per_audio: int = 1024
    #: Ticks that pts is behind dts, for each track id.
    reorder: dict[int, int] = field(default_factory=dict)
    frame: dict[int, int] = field(default_factory=dict)

    def packets(self, seconds: float) -> Iterator[tuple[float, Packet]]:
        """For that long, with the second at which each one would come from a live source."""
        start = {track.id: self.frame.get(track.id, 0) for track in self.tracks}
        while True:
            due = min(self.tracks, key=self._due)
            number = self.frame.get(due.id, 0)
            at = self._time(due, number)
            if at >= self._time(due, start[due.id]) + seconds:
                return
            self.frame[due.id] = number + 1
            yield at, self._packet(due, number)

    def _due(self, track: Track) -> tuple[float, bool]:
        return self._time(track, self.frame.get(track.id, 0)), not track.is_video

    def _time(self, track: Track, number: int) -> float:
        return number / self.frame_rate if track.is_video else number * self.frames_per_audio / track.timescale

    def _packet(self, track: Track, number: int) -> Packet:
        dts = round(self._time(track, number) * track.timescale)
        following = round(self._time(track, number + 1) * track.timescale)
        keyframe = not track.is_video or number % self.gop == 0
        name = f"{track.id}:{number}:".encode()
        size = self.size if track.is_video else 200
        payload = struct.pack(">I", size) + name + bytes(size - len(name))
        duration = following - dts if self.known_durations else 0
        return Packet(track, dts + self.reorder.get(track.id, 0), dts, duration, keyframe, payload)


class FakeDirectory:
    """One virtual host, one application, and whatever streams the test has."""

    def __init__(self, application: Application) -> None:
        self.settings = application
        self.hosts = {"*": "default"}
        self.outputs: dict[str, Stream] = {}

    def vhost_for_host(self, host: str) -> str | None:
        return next((vhost for pattern, vhost in self.hosts.items() if fnmatchcase(host, pattern)), None)

    def application(self, vhost: str, app: str) -> object | None:
        return self.settings if (vhost, app) == ("default", self.settings.name) else None

    def open_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> Input:
        raise AssertionError("publishers open no inputs")

    def check_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> None:
        raise AssertionError("publishers open no inputs")

    def output(self, vhost: str, app: str, name: str) -> Stream | None:
        return self.outputs.get(name) if vhost == "default" else None

    def input(self, vhost: str, app: str, name: str) -> Stream | None:
        return None

    def arriving(self, vhost: str, app: str) -> object | None:
        return self.application(vhost, app)

    def wanted(self, vhost: str, app: str, name: str, query: str = "") -> bool:
        return False


class Numbers:
    """The store's part: numbers never given before, by key."""

    def __init__(self) -> None:
        self.next: dict[str, int] = {}
        self.broken = False

    async def reserve(self, key: str, count: int) -> int:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise OSError("disk is gone")
        first = self.next.get(key, 0)
        self.next[key] = first + count
        return first


@dataclass
class WallClock:
    """Trio's time as both clocks; ``ahead`` is what the wall clock was set by."""

    start: int = 1_770_000_000 * NANOSECONDS
    ahead: int = 0

    def clock(self) -> Clock:
        return Clock(
            monotonic=lambda: int(trio.current_time() * NANOSECONDS),
            wall=lambda: self.start + self.ahead + int(trio.current_time() * NANOSECONDS),
        )


def settings(**llhls: object) -> Application:
    values: dict[str, object] = {
        "segment_duration": 2.0, "segment_count": 5, "chunk_duration": 0.5, "cross_domains": CrossDomains(urls=("*",)),
    }  # fmt: skip
    publisher = LLHlsPublisher(**values | llhls)  # type: ignore[arg-type]
    return Application(name="app", type="live", publishers=Publishers(llhls=publisher))


@dataclass
class Station:
    """The publisher, its surroundings, and a client."""

    publisher: LlhlsPublisher
    context: Context
    directory: FakeDirectory
    application: Application
    wall: WallClock
    numbers: Numbers
    nursery: trio.Nursery
    client: httpx.AsyncClient

    def start(
        self, tracks: Sequence[Track], name: str = "cam", playlists: Sequence[Playlist] = ()
    ) -> Stream:
        """Put a stream on the air."""
        stream = Stream(f"default/app/{name}", tracks, clock=self.context.clock)
        output = OutputStream("default", "app", name, stream, self.application, list(playlists), Source("Test"))
        self.nursery.start_soon(self.publisher.run, output, lambda: None)
        return stream

    def live(self, name: str = "cam") -> Live:
        live = self.publisher.live("default", "app", name)
        assert live is not None
        return live

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)


@asynccontextmanager
async def station(**llhls: object) -> AsyncIterator[Station]:
    application = settings(**llhls)
    wall = WallClock()
    numbers = Numbers()
    async with trio.open_nursery() as nursery:
        directory = FakeDirectory(application)
        context = Context(directory, wall.clock(), nursery, numbers.reserve, Egress())
        publisher = LlhlsPublisher(context)
        transport = httpx.ASGITransport(app=publisher.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://box/app/cam/", timeout=None) as client:
            yield Station(publisher, context, directory, application, wall, numbers, nursery, client)
        nursery.cancel_scope.cancel()


async def play(stream: Stream, feed: Feed, seconds: float) -> None:
    """Publish ``feed`` at the pace of a live source."""
    began = trio.current_time()
    first = None
    for at, packet in feed.packets(seconds):
        first = at if first is None else first
        await trio.sleep_until(began + at - first)
        stream.publish(packet)
