"""An output stream that plays a file in real time, and far ends that keep what they get."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import msgspec
import trio

from appliance.media.clock import Clock
from appliance.media.codecs import aac, h264
from appliance.media.contracts import Context, OutputStream, Source
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.tasks import Push, TaskState
from appliance.media.track import Track
from appliance.net.egress import Egress
from appliance.publishers.push import PushRunner
from appliance.settings.models import Application, Publishers
from appliance.settings.models.publishers import PushPublisher
from tests.kit.recording_directory import RecordingDirectory

LOOPBACK = Egress(["127.0.0.0/8", "::1"])


def packets_of(path: Path) -> tuple[list[Track], list[Packet]]:
    """The tracks and packets of a file with H.264 and AAC, in the order of their decoding times from zero on."""
    tracks: dict[int, Track] = {}
    packets: list[Packet] = []
    with av.open(str(path)) as container:
        for stream in container.streams:
            extra = stream.codec_context.extradata or b""
            if stream.type == "video":
                track = h264.track_from_config(0, extra)
                tracks[stream.index] = msgspec.structs.replace(track, variant="video")
            else:
                track = aac.track_from_config(1, extra)
                tracks[stream.index] = msgspec.structs.replace(track, variant="audio")
        for packet in container.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            track = tracks[packet.stream.index]
            pts, dts = (round(time * packet.time_base * track.timescale) for time in (packet.pts, packet.dts))
            packets.append(Packet(track, pts, dts, 0, packet.is_keyframe, bytes(packet)))
    packets.sort(key=lambda packet: packet.dts / packet.track.timescale)
    shift = max(0.0, -packets[0].dts / packets[0].track.timescale)
    return list(tracks.values()), [later(packet, shift) for packet in packets]


def later(packet: Packet, seconds: float) -> Packet:
    ticks = round(seconds * packet.track.timescale)
    return msgspec.structs.replace(packet, pts=packet.pts + ticks, dts=packet.dts + ticks)


@dataclass
class Programme:
    """``play`` publishes the file's packets at ``speed`` times real time; ``video`` counts pictures from the start."""

    output: OutputStream
    packets: Sequence[Packet]
    speed: float = 1.0
    video: int = 0
    played: list[Packet] = field(default_factory=list)

    async def play(self, seconds: float, *, begin: float = 0.0) -> None:
        began = trio.current_time()
        for packet in self.packets:
            time = packet.dts / packet.track.timescale
            if time >= seconds:
                break
            due = began + time / self.speed
            if due > trio.current_time():
                await trio.sleep_until(due)
            self.publish(later(packet, begin))

    def publish(self, packet: Packet) -> None:
        self.played.append(packet)
        self.video += packet.track.is_video
        self.output.stream.publish(packet)


def programme(path: Path, *, speed: float = 1.0, connect_ms: int = -1, send_ms: int = -1) -> Programme:
    tracks, packets = packets_of(path)
    push = PushPublisher(connection_timeout=connect_ms, send_timeout=send_ms)
    application = Application(name="app", type="live", publishers=Publishers(push=push))
    output = OutputStream("tv", "app", "cam", Stream("tv/app/cam", tracks), application, [], Source("Rtmp"))
    return Programme(output, packets, speed)


def push(url: str, *, protocol: str = "", key: str = "", id: str = "p", **more: object) -> Push:
    scheme = url.partition("://")[0]
    named = protocol or {"rtmps": "rtmp", "udp": "mpegts", "tcp": "mpegts"}.get(scheme, scheme)
    return Push(id=id, vhost="tv", app="app", stream="cam", protocol=named, urls=(url,), stream_key=key, **more)  # type: ignore[arg-type]


@dataclass
class Pusher:
    """Carries out tasks on one output stream."""

    runner: PushRunner
    output: OutputStream
    nursery: trio.Nursery
    states: list[tuple[str, TaskState, str]] = field(default_factory=list)
    stop: trio.Event = field(default_factory=trio.Event)
    _left: int = 0
    _ended: trio.Event = field(default_factory=trio.Event)

    def start(self, *tasks: Push) -> None:
        for task in tasks:
            self._left += 1
            self.nursery.start_soon(self._run, task)

    async def _run(self, task: Push) -> None:
        await self.runner.run(task, self.output, self.stop, lambda: None)
        self._left -= 1
        if not self._left:
            self._ended.set()

    async def end(self) -> None:
        self.stop.set()
        await self.ended()

    async def ended(self) -> None:
        with trio.fail_after(5):
            await self._ended.wait()


@asynccontextmanager
async def pusher(output: OutputStream, egress: Egress = LOOPBACK) -> AsyncIterator[Pusher]:
    async def reserve(key: str, count: int) -> int:
        raise AssertionError("no numbers are reserved here")

    async with trio.open_nursery() as nursery:
        context = Context(
            directory=RecordingDirectory(), clock=Clock(), nursery=nursery, reserve=reserve, egress=egress
        )
        found: list[tuple[str, TaskState, str]] = []
        runner = PushRunner(context, lambda task: found.append((task.id, task.state, task.error)))
        yield Pusher(runner, output, nursery, found)
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for ``condition``. Raises trio.TooSlowError."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.02)


@contextlib.contextmanager
def free_udp_port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
