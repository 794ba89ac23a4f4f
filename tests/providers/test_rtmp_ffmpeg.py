"""Real ffmpeg publishes to the real provider: every frame arrives, as it is in the file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import trio

from appliance.net.listener import Listener
from appliance.providers.rtmp import RtmpProvider
from tests.kit.ffmpeg import BASE
from tests.kit.recording_directory import RecordingDirectory, provider_context


@asynccontextmanager
async def serving(directory: RecordingDirectory) -> AsyncIterator[RtmpProvider]:
    async with provider_context(directory) as context:
        provider = RtmpProvider(context, [Listener.tcp("127.0.0.1", 0)])
        await context.nursery.start(provider.run, lambda: None)
        yield provider


async def encode(path: Path, *arguments: str, seconds: float = 2.0, size: str = "320x180") -> Path:
    source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30", "-f", "lavfi", "-i", "sine=sample_rate=48000"]
    await trio.run_process([*BASE, "-y", *source, "-t", str(seconds), "-pix_fmt", "yuv420p", *arguments, str(path)])
    return path


async def publish(path: Path, url: str, *options: str) -> None:
    await trio.run_process([*BASE, *options, "-i", str(path), "-map", "0", "-c", "copy", "-f", "flv", url])


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size]


H264_AAC = ["-c:v", "libx264", "-g", "30", "-bf", "2", "-c:a", "aac"]


async def test_every_frame_of_h264_and_aac_arrives(tmp_path: Path) -> None:
    path = await encode(tmp_path / "a.mp4", *H264_AAC)
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        await publish(path, f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam")
        live = await directory.opened()
        await live.wait_closed()
    assert live.label == "default/app/cam"
    assert live.source.kind == "Rtmp"
    assert [(track.codec, track.id) for track in live.prepared] == [("H264", 0), ("AAC", 1)]
    assert [sent.payload for sent in live.of("Audio")] == packets(path, "audio")
    assert len(live.of("Video")) == len(packets(path, "video")) == 60
