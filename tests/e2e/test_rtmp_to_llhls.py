"""A real encoder sends, a reader of LL-HLS gets exactly that."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import pytest
import trio

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import B_FRAMES, HD, LONG, SMALL, SourceSpec
from tests.kit.frames import Frame
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient

PART = Fraction(1, 2)
MILLISECOND = Fraction(1, 1000)


async def deliver(kiln: KilnProcess, spec: SourceSpec, name: str, *, hints: bool = True) -> LlhlsClient:
    """Publish the whole file and read the stream to its end."""
    client = LlhlsClient(kiln.hls(name), hints=hints)
    with ffmpeg.publish(ffmpeg.source(spec), kiln.rtmp(name)) as publisher:
        with trio.fail_after(spec.seconds + 15):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await trio.to_thread.run_sync(publisher.wait, spec.seconds + 10)
                # What the last frames made is delivered within two parts.
                await trio.sleep(2 * float(PART))
                nursery.cancel_scope.cancel()
        assert publisher.process.returncode == 0, publisher.said()
    return client


def audio_ahead(video: list[Frame], audio: list[Frame]) -> Fraction:
    """How much later the first picture is shown than the first sound is heard."""
    return video[0].pts - audio[0].pts


@pytest.mark.parametrize("spec", [HD, B_FRAMES], ids=lambda spec: spec.name)
async def test_every_frame_arrives_unaltered_and_in_time(kiln: KilnProcess, spec: SourceSpec) -> None:
    client = await deliver(kiln, spec, f"frames{spec.name}")
    sent_video, sent_audio = (frames.of_file(ffmpeg.source(spec), kind) for kind in ("video", "audio"))
    video, audio = client.video.frames(), client.audio.frames()

    first_video = frames.run_in(video, sent_video)
    first_audio = frames.run_in(audio, sent_audio)
    assert first_video == 0
    assert len(video) >= len(sent_video) - PART * spec.rate, "more than the last unfinished part is missing"
    assert len(audio) + first_audio >= len(sent_audio) - PART / Fraction(1024, 48000) - 1

    start = video[0].pts
    for got, sent in zip(video, sent_video, strict=False):
        assert abs((got.pts - start) - (sent.pts - sent_video[0].pts)) <= 2 * MILLISECOND
        assert got.keyframe == sent.keyframe
    assert frames.longest_step(audio) <= Fraction(1024, 48000) + 2 * MILLISECOND
    assert frames.shortest_step(audio) >= Fraction(1024, 48000) - 2 * MILLISECOND

    offset = audio_ahead(video, audio) - audio_ahead(sent_video[first_video:], sent_audio[first_audio:])
    assert abs(offset) <= 20 * MILLISECOND
    assert client.video.missed == client.audio.missed == 0


async def test_every_frame_decodes(kiln: KilnProcess) -> None:
    client = await deliver(kiln, SMALL, "decodes", hints=False)
    for track in (client.video, client.audio):
        (run,) = track.runs()
        assert frames.decoded_count(run, track.kind) == len(track.frames())


async def test_parts_say_the_truth(kiln: KilnProcess) -> None:
    """Durations and INDEPENDENT of the playlist are those of the fragments, a segment is the bytes of its parts."""
    client = await deliver(kiln, SMALL, "truth")
    for track in (client.video, client.audio):
        listed = {part.uri: part for playlist in track.playlists for s in playlist.segments for part in s.parts}
        independent = {
            (segment.msn, index): part.independent
            for playlist in track.playlists
            for segment in playlist.segments
            for index, part in enumerate(segment.parts)
        }
        assert listed
        starts = []
        for chunk in track.chunks:
            held = track.chunk_frames(chunk)
            assert held, f"part {chunk.msn}.{chunk.part} is empty"
            starts.append(held[0].dts)
            if chunk.part >= 0:
                assert independent[chunk.msn, chunk.part] == held[0].keyframe
        for chunk, start, end in zip(track.chunks, starts, starts[1:], strict=False):
            assert abs(Fraction(chunk.duration) - (end - start)) <= 2 * MILLISECOND


async def test_ffmpeg_plays_it(kiln: KilnProcess, tmp_path: Path) -> None:
    """An independent player that knows no parts takes the URL as it is."""
    taken = tmp_path / "taken.mp4"
    with ffmpeg.publish(ffmpeg.source(LONG), kiln.rtmp("played")):
        client = LlhlsClient(kiln.hls("played"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            await client.wait(lambda: bool(client.tracks) and client.video.delivered_seconds > 1, 15)
            nursery.cancel_scope.cancel()
        arguments = ["-i", kiln.hls("played"), "-t", "8", "-c", "copy", "-y", str(taken)]
        done = await trio.to_thread.run_sync(lambda: ffmpeg.run(arguments, timeout=40))
    assert done.returncode == 0, done.stderr.decode()
    video, audio = frames.of_file(taken, "video"), frames.of_file(taken, "audio")
    assert len(video) >= 8 * 30 - 1
    frames.run_in(video, frames.of_file(ffmpeg.source(LONG), "video"))
    frames.run_in(audio[1:-1], frames.of_file(ffmpeg.source(LONG), "audio"))
    assert frames.longest_step(video) <= Fraction(1, 30) + 2 * MILLISECOND


async def test_the_pattern_moves_and_sounds(kiln: KilnProcess) -> None:
    client = LlhlsClient(kiln.hls("pattern"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.wait(lambda: len(client.tracks) == 2, 10)
        await client.wait_seconds(5, within=10)
        nursery.cancel_scope.cancel()
    video, audio = client.video.frames(), client.audio.frames()
    assert len(video) >= 5 * 30
    assert frames.longest_step(video) <= Fraction(1, 30) + MILLISECOND
    assert frames.shortest_step(video) >= Fraction(1, 30) - MILLISECOND
    assert frames.longest_step(audio) <= Fraction(1024, 44100) + MILLISECOND
    assert abs(audio_ahead(video, audio)) <= PART
    pictures = {bytes(picture) for picture in luma(client.video.runs()[-1])}
    assert len(pictures) > 100, "the picture stands still"
    loudest = [loudness(channel) for channel in sound(client.audio.runs()[-1])]
    assert len(loudest) == 2
    assert min(loudest) > 0.001, "a channel is silent"


def luma(run: bytes) -> list[bytes]:
    with av.open(io.BytesIO(run), mode="r") as container:
        return [bytes(frame.planes[0]) for frame in container.decode(video=0)]


def sound(run: bytes) -> list[list[float]]:
    """Samples (-1 to 1) of each channel of the first seconds."""
    channels: list[list[float]] = []
    with av.open(io.BytesIO(run), mode="r") as container:
        for index, frame in enumerate(container.decode(audio=0)):
            if index > 100:
                break
            planes = [memoryview(bytes(plane)).cast("f")[: frame.samples].tolist() for plane in frame.planes]
            channels = channels or [[] for _ in planes]
            for channel, plane in zip(channels, planes, strict=True):
                channel += plane
    return channels


def loudness(samples: list[float]) -> float:
    return sum(sample * sample for sample in samples) / max(1, len(samples))
