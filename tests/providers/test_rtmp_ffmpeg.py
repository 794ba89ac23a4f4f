"""Real ffmpeg publishes to the real provider: every frame arrives, as it is in the file."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import av
import pytest
import trio

from appliance.net.listener import Listener
from appliance.providers.rtmp import RtmpProvider
from tests.kit.ffmpeg import BASE
from tests.kit.recording_directory import RecordedInput, RecordingDirectory, application, provider_context

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-bf", "2")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=30", "-tag:v", "hvc1")
AV1 = ("-c:v", "libsvtav1", "-preset", "10", "-g", "30")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30", "-lag-in-frames", "0")
AAC = ("-c:a", "aac")
OPUS = ("-c:a", "libopus")


@asynccontextmanager
async def serving(directory: RecordingDirectory) -> AsyncIterator[RtmpProvider]:
    async with provider_context(directory) as context:
        provider = RtmpProvider(context, [Listener.tcp("127.0.0.1", 0)])
        await context.nursery.start(provider.run, lambda: None)
        yield provider


async def encode(path: Path, *options: str, seconds: float = 2.0, size: str = "320x180", start: float = 0) -> Path:
    picture = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30"]
    tone = ["-f", "lavfi", "-i", "sine=sample_rate=48000"]
    offset = ["-output_ts_offset", str(start)] if start else []
    options = ("-t", str(seconds), "-pix_fmt", "yuv420p", *options, *offset)
    await trio.run_process([*BASE, "-y", *picture, *tone, *options, str(path)], stderr=subprocess.DEVNULL)
    return path


async def publish(path: Path, url: str, *options: str) -> None:
    await trio.run_process([*BASE, *options, "-i", str(path), "-map", "0", "-c", "copy", "-f", "flv", url])


def packets(path: Path, kind: str) -> list[bytes]:
    """The packets of a file, as they are in it."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size]


def without_parameter_sets(payload: bytes, dropped: frozenset[int], shift: int, mask: int) -> bytes:
    """A length-prefixed access unit without the NAL units of types that a canonical payload leaves out."""
    kept, position = b"", 0
    while position < len(payload):
        end = position + 4 + int.from_bytes(payload[position : position + 4], "big")
        if payload[position + 4] >> shift & mask not in dropped:
            kept += payload[position:end]
        position = end
    return kept


def canonical(path: Path, codec: str) -> list[bytes]:
    match codec:
        case "H264":
            return [without_parameter_sets(each, frozenset({7, 8, 9, 12}), 0, 31) for each in packets(path, "video")]
        case "H265":
            return [
                without_parameter_sets(each, frozenset({32, 33, 34, 35, 38}), 1, 63) for each in packets(path, "video")
            ]
        case "AV1":
            return [each.removeprefix(b"\x12\0") for each in packets(path, "video")]
    return packets(path, "video")


@pytest.mark.parametrize(
    ("suffix", "video", "codecs"),
    [
        ("mp4", (*X264, *AAC), ("H264", "AAC")),
        ("mp4", (*X265, *AAC), ("H265", "AAC")),
        ("mkv", (*AV1, *AAC), ("AV1", "AAC")),
        ("mkv", (*VP9, *OPUS), ("VP9", "OPUS")),
        ("mp4", (*X264, *OPUS), ("H264", "OPUS")),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) and len(value) == 2 else "",
)
async def test_every_frame_arrives(
    suffix: str, video: tuple[str, ...], codecs: tuple[str, str], tmp_path: Path
) -> None:
    path = await encode(tmp_path / f"a.{suffix}", *video)
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        await publish(path, f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam")
        live = await directory.opened()
        await live.wait_closed()
        assert provider.counters.protocol_errors == 0
    assert live.label == "default/app/cam"
    assert tuple(track.codec for track in live.prepared) == codecs
    assert [track.id for track in live.prepared] == [0, 1]
    pictures, sounds = live.of("Video"), live.of("Audio")
    assert [sent.payload for sent in sounds] == packets(path, "audio")
    assert [sent.payload for sent in pictures] == canonical(path, codecs[0])
    assert len(pictures) == 60
    track = live.prepared[0]
    assert (track.width, track.height, round(track.frame_rate)) == (320, 180, 30)
    shown = sorted(sent.pts for sent in pictures)
    assert shown == pytest.approx([shown[0] + 3000 * index for index in range(60)], abs=91)
    assert abs(shown[0] / 90_000 - sounds[0].pts / 48_000) < 0.05


async def test_several_publishers_at_once_do_not_mix(tmp_path: Path) -> None:
    paths = [
        await encode(tmp_path / f"{size}.mp4", *X264, *AAC, size=size) for size in ("320x180", "256x144", "192x108")
    ]
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        async with trio.open_nursery() as nursery:
            for index, path in enumerate(paths):
                url = f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam{index}"
                nursery.start_soon(publish, path, url, "-re")
        by_name = {live.label: live for live in directory.inputs}
        for index, path in enumerate(paths):
            live = by_name[f"default/app/cam{index}"]
            await live.wait_closed()
            assert [sent.payload for sent in live.of("Video")] == canonical(path, "H264")
            assert [sent.payload for sent in live.of("Audio")] == packets(path, "audio")


async def test_a_second_publisher_of_the_same_name_is_refused_and_the_first_loses_nothing(tmp_path: Path) -> None:
    path = await encode(tmp_path / "a.mp4", *X264, *AAC)
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        url = f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, path, url, "-re")
            live = await directory.opened()
            await live.wait(lambda it: len(it.sent) > 10)
            refused = await trio.run_process(
                [*BASE, "-i", str(path), "-c", "copy", "-f", "flv", url], check=False, capture_stderr=True
            )
        await live.wait_closed()
        assert refused.returncode != 0
        assert b"is live" in refused.stderr
        assert provider.counters.refused == 1
    assert [sent.payload for sent in live.of("Video")] == canonical(path, "H264")
    assert len(directory.inputs) == 1


async def test_a_wrong_key_ends_ffmpeg_with_the_reason(tmp_path: Path) -> None:
    path = await encode(tmp_path / "a.mp4", *X264, *AAC, seconds=0.5)
    directory = RecordingDirectory({("default", "app"): application(publish_key="right")})
    async with serving(directory) as provider:
        url = f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam"
        refused = await trio.run_process(
            [*BASE, "-i", str(path), "-c", "copy", "-f", "flv", f"{url}?key=wrong"], check=False, capture_stderr=True
        )
        assert refused.returncode != 0
        assert b"publish key" in refused.stderr
        await publish(path, f"{url}?key=right")
        assert (await directory.opened()).label == "default/app/cam"


async def test_a_killed_publisher_is_gone_at_once_and_can_come_back(tmp_path: Path) -> None:
    path = await encode(tmp_path / "a.mp4", *X264, *AAC, seconds=4)
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        url = f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam"
        async with trio.open_nursery() as nursery:
            arguments = [*BASE, "-re", "-i", str(path), "-c", "copy", "-f", "flv", url]
            process = await nursery.start(partial(trio.run_process, arguments, check=False))
            first = await directory.opened()
            await first.wait(lambda it: len(it.sent) > 20)
            process.kill()
            await first.wait_closed(2)
        await publish(path, url)
        second = await directory.opened(2)
        await second.wait_closed()
    assert len(second.of("Video")) == 120


async def test_another_size_in_mid_stream_is_the_next_generation_of_the_track(tmp_path: Path) -> None:
    first = await encode(tmp_path / "1.flv", *X264, *AAC, size="320x180", seconds=1)
    second = await encode(tmp_path / "2.flv", *X264, *AAC, size="256x144", seconds=1)
    listing = tmp_path / "list.txt"
    listing.write_text(f"file '{first}'\nfile '{second}'\n")
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        await publish(listing, f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam", "-f", "concat", "-safe", "0")
        live = await directory.opened()
        await live.wait_closed()
    pictures = live.of("Video")
    tracks: list[tuple[int, int, int, int]] = []
    for sent in pictures:
        seen = (sent.track.id, sent.track.generation, sent.track.width, sent.track.height)
        if not tracks or tracks[-1] != seen:
            tracks.append(seen)
    assert tracks == [(0, 0, 320, 180), (0, 1, 256, 144)]
    assert len(pictures) == 60
    assert pictures[30].keyframe
    assert [sent.payload for sent in pictures] == canonical(first, "H264") + canonical(second, "H264")


async def test_timestamps_beyond_24_bits_arrive_as_they_are(tmp_path: Path) -> None:
    start = 0xFFFFFF / 1000 - 1
    path = await encode(tmp_path / "a.flv", *X264, *AAC, start=start)
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        await publish(path, f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam", "-copyts")
        live = await directory.opened()
        await live.wait_closed()
    pictures = live.of("Video")
    assert [sent.payload for sent in pictures] == canonical(path, "H264")
    assert pictures[0].dts < 0xFFFFFF * 90 < pictures[-1].dts
    assert all(2000 < after.dts - before.dts < 4000 for before, after in itertools.pairwise(pictures))


async def test_a_player_is_told_that_nothing_is_played_here() -> None:
    """A playing ffmpeg also checks the digests of our handshake, which a publishing one does not."""
    async with serving(RecordingDirectory()) as provider:
        url = f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam"
        player = await trio.run_process([*BASE, "-i", url, "-f", "null", "-"], check=False, capture_stderr=True)
    assert player.returncode != 0
    assert b"Nothing is played over RTMP here" in player.stderr


@pytest.mark.parametrize(("options", "media"), [(("-an",), ["Video"]), (("-vn",), ["Audio"])])
async def test_one_track_alone_is_on_air_within_a_second(
    options: tuple[str, ...], media: list[str], tmp_path: Path
) -> None:
    path = await encode(tmp_path / "a.mp4", *X264, *AAC)
    directory = RecordingDirectory()

    def on_air(live: RecordedInput) -> bool:
        return bool(live.prepared)

    async with serving(directory) as provider, trio.open_nursery() as nursery:
        url = f"rtmp://127.0.0.1:{provider.ports[0]}/app/cam"
        arguments = [*BASE, "-re", "-i", str(path), "-c", "copy", *options, "-f", "flv", url]
        nursery.start_soon(trio.run_process, arguments)
        live = await directory.opened()
        opened = trio.current_time()
        await live.wait(on_air)
        assert live.prepared_at - opened < 1
        assert [track.media for track in live.prepared] == media
        await live.wait_closed()
