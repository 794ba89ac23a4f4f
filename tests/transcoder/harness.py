"""A transcoder with a sink that remembers, real compressed input in real time, and decoders for what comes out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import trio
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from appliance.media.clock import Clock, rescale
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder import sources
from appliance.transcoder.client import Transcoder
from appliance.transcoder.pool import WorkerPool
from appliance.transcoder.spec import RenditionSpec
from tests.kit import ffmpeg

DECODERS = {
    Codec.H264: "h264", Codec.H265: "hevc", Codec.VP8: "vp8", Codec.VP9: "vp9", Codec.AV1: "libdav1d",
    Codec.AAC: "aac", Codec.OPUS: "libopus", Codec.JPEG: "mjpeg", Codec.PNG: "png", Codec.WEBP: "webp",
}  # fmt: skip


class Recorder:
    """A TranscodeSink that keeps everything, with the monotonic time at which it came."""

    def __init__(self) -> None:
        self.tracks: dict[int, list[Track]] = {}
        self.packets: dict[int, list[Packet]] = {}
        self.at: dict[int, list[float]] = {}
        self.faults: list[str] = []
        self._changed = trio.Event()

    def track(self, track: Track) -> None:
        self.tracks.setdefault(track.id, []).append(track)
        self._wake()

    def packet(self, packet: Packet) -> None:
        assert packet.track is self.tracks[packet.track.id][-1]
        self.packets.setdefault(packet.track.id, []).append(packet)
        self.at.setdefault(packet.track.id, []).append(time.monotonic())
        self._wake()

    def fault(self, text: str) -> None:
        self.faults.append(text)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        with trio.fail_after(seconds):
            while not condition():
                await self._changed.wait()

    async def have(self, id: int, count: int, seconds: float = 15) -> list[Packet]:
        await self.until(lambda: len(self.packets.get(id, ())) >= count, seconds)
        return self.packets[id]

    async def more(self, id: int, count: int, seconds: float = 15) -> list[Packet]:
        """``count`` packets from now on."""
        before = len(self.packets.get(id, ()))
        await self.have(id, before + count, seconds)
        return self.packets[id][before:]

    def keys(self, id: int) -> list[int]:
        return [packet.pts for packet in self.packets.get(id, []) if packet.keyframe]


@asynccontextmanager
async def transcoding(
    renditions: Sequence[RenditionSpec], *, source_url: str | None = None, stream: Stream | None = None,
    pool: WorkerPool | None = None, decoder_threads: int = 0,
) -> AsyncIterator[tuple[Transcoder, Recorder]]:  # fmt: skip
    """A running transcoder; it and its worker are gone afterwards."""
    recorder = Recorder()
    own = pool or WorkerPool(size=0)
    epoch = stream.epoch if stream else time.monotonic_ns()
    transcoder = Transcoder(
        own, label="test/app/stream", epoch=epoch, clock=Clock(), source_url=source_url, input_stream=stream,
        renditions=renditions, sink=recorder, decoder_threads=decoder_threads,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transcoder.run, lambda: None)
        try:
            yield transcoder, recorder
        finally:
            nursery.cancel_scope.cancel()
    if pool is None:
        await own.close()


def own_encodes(url: str) -> list[RenditionSpec]:
    source = sources.parse(url)
    return [source.own_encode(track, output_id=track.id, variant=track.variant) for track in source.tracks()]


def h264(id: int, **settings: Any) -> RenditionSpec:
    wanted: dict[str, Any] = {"bitrate": 300_000, "preset": "ultrafast", "profile": "baseline"} | settings
    return RenditionSpec(id=id, input_id=0, kind="video", codec=Codec.H264, variant=f"v{id}", **wanted)


def aac(id: int, **settings: Any) -> RenditionSpec:
    wanted: dict[str, Any] = {"bitrate": 96_000} | settings
    return RenditionSpec(id=id, input_id=1, kind="audio", codec=Codec.AAC, variant=f"a{id}", **wanted)


def decode(packets: Sequence[Packet]) -> list[VideoFrame | AudioFrame]:
    """All frames of these packets of one track, in order; pts in the track's timescale."""
    frames: list[VideoFrame | AudioFrame] = []
    context: Any = None
    track: Track | None = None
    for packet in packets:
        if packet.track is not track:
            if context is not None:
                frames += context.decode(None)
            track = packet.track
            context = av.CodecContext.create(DECODERS[track.codec], "r")
            if track.codec_config and track.codec not in (Codec.VP9,):
                context.extradata = track.codec_config
            context.thread_count = 1
            if track.is_audio:
                context.sample_rate = track.sample_rate
        coded = av.Packet(packet.payload)
        coded.pts, coded.dts = packet.pts, packet.dts
        coded.time_base = Fraction(1, packet.track.timescale)
        frames += context.decode(coded)
    if context is not None:
        frames += context.decode(None)
    return frames


def mark_is_white(frame: VideoFrame) -> bool:
    """Whether the pattern's flash is lit in this picture."""
    side = max(4, min(frame.width, frame.height) // 8 // 2 * 2)
    plane = frame.planes[0]
    x, y = frame.width - 2 * side + side // 2, frame.height - 2 * side + side // 2
    return memoryview(plane)[y * plane.line_size + x] > 128


def beep_starts(frames: Sequence[AudioFrame], rate: int) -> list[float]:
    """Seconds at which the pattern's loud beep begins, by the frames' times."""
    starts = []
    quiet_until = -1.0
    for frame in frames:
        assert frame.pts is not None
        samples = memoryview(frame.planes[0]).cast("f")
        for index in range(frame.samples):
            if abs(samples[index]) > 0.3:
                at = (frame.pts + index) / rate
                if at > quiet_until:
                    starts.append(at)
                quiet_until = at + 0.2
    return starts


class FileInput:
    """A file's packets, over and over, as a compressed input stream in real time."""

    def __init__(self, spec: ffmpeg.SourceSpec = ffmpeg.SMALL) -> None:
        tracks: dict[int, Track] = {}
        self._items: list[tuple[float, Track, Packet]] = []
        with av.open(str(ffmpeg.source(spec))) as container:
            for number, stream in enumerate(container.streams):
                tracks[stream.index] = _input_track(number, stream)
            for coded in container.demux():
                if coded.dts is None or coded.pts is None:
                    continue
                track = tracks[coded.stream_index]
                base = coded.time_base
                pts, dts = (round(value * base * track.timescale) for value in (coded.pts, coded.dts))
                packet = Packet(track, pts, dts, 0, coded.is_keyframe or track.is_audio, bytes(coded))
                self._items.append((dts / track.timescale, track, packet))
        self._items.sort(key=lambda item: item[0])
        self.seconds = spec.seconds
        self.tracks = [tracks[index] for index in sorted(tracks)]
        self.stream = Stream("test/app/in", self.tracks)
        self.mangle: Callable[[Packet], Packet | None] = lambda packet: packet

    async def play(self, seconds: float = 1e9, *, speed: float = 1.0, close: bool = False) -> None:
        """Publish in real time (dts 0 now) for so many seconds of media."""
        begin = trio.current_time()
        turn = 0
        while True:
            shift = turn * self.seconds
            for at, track, packet in self._items:
                if at + shift >= seconds:
                    if close:
                        self.stream.close()
                    return
                await trio.sleep_until(begin + max(0.0, at + shift) / speed)
                ticks = round(shift * track.timescale)
                moved = self.mangle(Packet(track, packet.pts + ticks, packet.dts + ticks, 0, packet.keyframe,
                                           packet.payload))  # fmt: skip
                if moved is not None:
                    self.stream.publish(moved)
            turn += 1


def _input_track(number: int, stream: Any) -> Track:
    context = stream.codec_context
    codec = {"h264": Codec.H264, "hevc": Codec.H265, "aac": Codec.AAC}[context.codec.canonical_name]
    if stream.type == "audio":
        return Track(id=number, media=MediaType.AUDIO, codec=codec, timescale=context.sample_rate,
                     codec_config=bytes(context.extradata), sample_rate=context.sample_rate, channels=2)  # fmt: skip
    return Track(
        id=number, media=MediaType.VIDEO, codec=codec, timescale=90000, codec_config=bytes(context.extradata),
        width=context.width, height=context.height, frame_rate=float(stream.average_rate),
    )  # fmt: skip


def seconds_of(packet: Packet) -> float:
    return packet.pts / packet.track.timescale


def steps(packets: Sequence[Packet]) -> set[int]:
    """Distances between neighbours' decoding times, in ticks of the track."""
    return {later.dts - earlier.dts for earlier, later in pairwise(packets)}


def gaps(packets: Sequence[Packet]) -> set[int]:
    """The same in 90 kHz ticks."""
    return {rescale(step, packets[0].track.timescale, 90000) for step in steps(packets)}
