"""A stream, a disk worker and a recorder, without the rest of the box."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import msgspec
import trio

from appliance.media.clock import Clock
from appliance.media.contracts import Context, Directory, OutputStream, Source
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.tasks import Record, Task
from appliance.media.track import Codec, Track
from appliance.net.egress import Egress
from appliance.publishers.record import RecordRunner
from appliance.settings import models
from appliance.storage.client import DiskClient
from tests.publishers.llhls.media import encoded

Sample = tuple[Fraction, bytes]


def clip(video: Codec = Codec.H264, audio: Codec | None = Codec.AAC) -> tuple[list[Track], list[Packet]]:
    """Two seconds: pictures with B-frames, a key frame each 0.4 s, and sound; in the order of decoding, from zero."""
    tracks: list[Track] = []
    packets: list[Packet] = []
    for number, codec in enumerate((video, audio), 1):
        if codec is None:
            continue
        source, frames = encoded(codec, 60 if codec is video else 92)
        track = msgspec.structs.replace(source, id=number)
        first = frames[0].pts
        tracks.append(track)
        packets += [
            msgspec.structs.replace(frame, track=track, pts=frame.pts - first, dts=frame.dts - first)
            for frame in frames
        ]
    return tracks, sorted(packets, key=lambda packet: Fraction(packet.dts, packet.track.timescale))


def repeated(packets: Sequence[Packet], times: int, seconds: Fraction = Fraction(2)) -> Iterator[Packet]:
    """``packets`` over and over, each round ``seconds`` later."""
    for turn in range(times):
        for packet in packets:
            later = int(turn * seconds * packet.track.timescale)
            yield msgspec.structs.replace(packet, pts=packet.pts + later, dts=packet.dts + later)


@dataclass
class Wall:
    """A wall clock that can be stepped; durations stay true."""

    offset: int = 0

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: time.time_ns() + self.offset)


class OneApplication:
    """The part of a directory that the recorder asks."""

    def __init__(self, file: models.FilePublisher | None) -> None:
        self.settings = models.Application(name="app", type="live", publishers=models.Publishers(file=file))

    def application(self, vhost: str, app: str) -> object | None:
        return self.settings if (vhost, app) == ("default", "app") else None


@dataclass
class Studio:
    root: Path
    disk: DiskClient
    runner: RecordRunner
    stream: Stream
    output: OutputStream
    nursery: trio.Nursery
    told: list[str]
    stop: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)

    async def record(self, task: Record) -> None:
        await self.runner.run(task, self.output, self.stop, lambda: None)
        self.done.set()

    def start(self, **wanted: Any) -> Record:
        task = record(**wanted)
        self.stop, self.done = trio.Event(), trio.Event()
        self.runner.check(task, self.output)
        self.nursery.start_soon(self.record, task)
        return task

    async def feed(self, packets: Sequence[Packet] | Iterator[Packet]) -> None:
        """As fast as the recorder takes them."""
        for number, packet in enumerate(packets):
            self.stream.publish(packet)
            if number % 20 == 0:
                await trio.lowlevel.checkpoint()

    async def finish(self) -> None:
        self.stop.set()
        with trio.fail_after(10):
            await self.done.wait()

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file() and ".kiln" not in path.parts)


def record(**wanted: Any) -> Record:
    return Record(**{"id": "r1", "vhost": "default", "app": "app", "stream": "stream", **wanted})


@asynccontextmanager
async def studio(
    root: Path, tracks: Sequence[Track], *, settings: models.FilePublisher | None = None, clock: Clock | None = None,
    **options: Any,
) -> AsyncIterator[Studio]:  # fmt: skip
    told: list[str] = []
    clock = clock or Clock()
    disk = DiskClient(root, clock=clock, told=lambda topic, text: told.append(f"{topic}: {text}"), **options)
    directory = cast(Directory, OneApplication(settings or models.FilePublisher()))
    changes: list[Task] = []
    async with trio.open_nursery() as nursery:
        context = Context(
            directory=directory, clock=clock, nursery=nursery, reserve=_no_numbers, egress=Egress(), media_root=root
        )
        stream = Stream("default/app/stream", tracks, clock=clock)
        output = OutputStream(vhost="default", app="app", name="stream", stream=stream,
                              application=None, playlists=[], source=Source("Rtmp"))  # fmt: skip
        nursery.start_soon(disk.run, lambda: None)
        yield Studio(root, disk, RecordRunner(context, disk, changes.append), stream, output, nursery, told)
        nursery.cancel_scope.cancel()


async def _no_numbers(key: str, count: int) -> int:
    raise AssertionError("the recorder reserves no numbers")


def found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


async def until(condition: Callable[[], object], within: float = 10) -> None:
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


def demuxed(path: Path) -> list[list[Sample]]:
    """(time shown, payload) of each packet, a list for each track in the order of the file; that of the timed metadata
    only where there is some."""
    with av.open(str(path), "r") as container:
        samples: list[list[Sample]] = [[] for _ in container.streams]
        for packet in container.demux():
            if packet.size and packet.pts is not None and packet.time_base is not None:
                samples[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
        return [each for each, stream in zip(samples, container.streams, strict=True) if each or stream.type != "data"]


def decoded(path: Path) -> int:
    """How many pictures a decoder makes of it."""
    with av.open(str(path), "r") as container:
        return sum(1 for _ in container.decode(video=0))
