"""A real encoder sends, a reader of LL-HLS gets exactly that."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pytest
import trio

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import B_FRAMES, HD, LONG, SourceSpec
from tests.kit.frames import Frame
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient

PART = Fraction(1, 2)
AAC_FRAME = Fraction(1024, 48000)
MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True)
class Delivery:
    """A file that was published as a whole, and what a viewer of the whole stream got."""

    spec: SourceSpec
    client: LlhlsClient

    def sent(self, kind: str) -> list[Frame]:
        return frames.of_file(ffmpeg.source(self.spec), kind)


@pytest.fixture(scope="module", params=[pytest.param(HD, marks=pytest.mark.long), B_FRAMES], ids=lambda spec: spec.name)
def delivery(kiln: KilnProcess, request: pytest.FixtureRequest) -> Delivery:
    return Delivery(request.param, trio.run(deliver, kiln, request.param))


async def deliver(kiln: KilnProcess, spec: SourceSpec) -> LlhlsClient:
    """Publish the whole file and read the stream to its end."""
    name = f"whole{spec.name}"
    client = LlhlsClient(kiln.hls(name))
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


def test_every_frame_arrives_unaltered(delivery: Delivery) -> None:
    video, audio = delivery.client.video.frames(), delivery.client.audio.frames()
    sent_video, sent_audio = delivery.sent("video"), delivery.sent("audio")
    assert frames.run_in(video, sent_video) == 0
    first_audio = frames.run_in(audio, sent_audio)
    assert len(video) >= len(sent_video) - PART * delivery.spec.rate, "more than the last unfinished part is missing"
    assert len(audio) + first_audio >= len(sent_audio) - PART / AAC_FRAME - 1
    assert delivery.client.video.missed == delivery.client.audio.missed == 0


def test_presentation_times_run_on(delivery: Delivery) -> None:
    video, audio = delivery.client.video.frames(), delivery.client.audio.frames()
    sent = delivery.sent("video")
    for frame, original in zip(video, sent, strict=False):
        assert abs((frame.pts - video[0].pts) - (original.pts - sent[0].pts)) <= 2 * MILLISECOND
        assert frame.keyframe == original.keyframe
    assert frames.longest_step(audio) <= AAC_FRAME + 2 * MILLISECOND
    assert frames.shortest_step(audio) >= AAC_FRAME - 2 * MILLISECOND


def test_sound_stays_with_the_picture(delivery: Delivery) -> None:
    video, audio = delivery.client.video.frames(), delivery.client.audio.frames()
    sent_video, sent_audio = delivery.sent("video"), delivery.sent("audio")
    original = audio_ahead(sent_video, sent_audio[frames.run_in(audio, sent_audio) :])
    assert abs(audio_ahead(video, audio) - original) <= 20 * MILLISECOND


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_every_frame_decodes(delivery: Delivery, kind: str) -> None:
    track = delivery.client.track(kind)
    (run,) = track.runs()
    assert frames.decoded_count(run, kind) == len(track.frames())


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_parts_say_the_truth(delivery: Delivery, kind: str) -> None:
    """Durations and INDEPENDENT of the playlist are those of the fragments."""
    track = delivery.client.track(kind)
    independent = {
        (segment.msn, index): part.independent
        for playlist in track.playlists
        for segment in playlist.segments
        for index, part in enumerate(segment.parts)
    }
    starts = []
    for chunk in track.chunks:
        held = track.chunk_frames(chunk)
        assert held, f"part {chunk.msn}.{chunk.part} is empty"
        starts.append(held[0].dts)
        if chunk.part >= 0:
            assert independent[chunk.msn, chunk.part] == held[0].keyframe
    assert len(starts) > 20
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


@pytest.fixture(scope="module")
def pattern(kiln: KilnProcess) -> LlhlsClient:
    """Some seconds of the box's own source."""

    async def watch() -> LlhlsClient:
        client = LlhlsClient(kiln.hls("pattern"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            await client.wait(lambda: len(client.tracks) == 2, 10)
            await client.wait_seconds(6, within=15)
            nursery.cancel_scope.cancel()
        return client

    return trio.run(watch)


def test_the_pattern_runs_evenly(pattern: LlhlsClient) -> None:
    video, audio = pattern.video.frames(), pattern.audio.frames()
    assert len(video) >= 6 * 30
    assert frames.longest_step(video) <= Fraction(1, 30) + MILLISECOND
    assert frames.shortest_step(video) >= Fraction(1, 30) - MILLISECOND
    assert frames.longest_step(audio) <= AAC_FRAME + MILLISECOND
    assert frames.shortest_step(audio) >= AAC_FRAME - MILLISECOND


def test_the_pattern_moves_and_its_flash_goes_with_the_beep(pattern: LlhlsClient) -> None:
    """Every second begins with a white mark and a beep on both channels, and a viewer gets them together."""
    pictures = list(luma(pattern.video.runs()[-1]))
    assert len({picture for _, picture in pictures}) > 100, "the picture stands still"
    flashes = onsets((at, picture[MARK] > 128) for at, picture in pictures)
    assert len(flashes) >= 4
    for channel in (0, 1):
        beeps = onsets((at, abs(sample) > 0.3) for at, sample in sound(pattern.audio.runs()[-1], channel))
        assert len(beeps) >= 4, f"channel {channel} has no beep"
        shared = [flash for flash in flashes[1:-1] if beeps[0] <= flash <= beeps[-1]]
        assert shared
        for flash in shared:
            assert min(abs(flash - beep) for beep in beeps) <= 20 * MILLISECOND


#: The middle of the sync mark of the 640x360 pattern: 44 wide, it ends 44 before the right and the lower edge.
MARK = (360 - 66) * 640 + (640 - 66)


def onsets(states: Iterable[tuple[Fraction, bool]]) -> list[Fraction]:
    """When it goes on after it has been off for a quarter of a second or more."""
    found = []
    last_on = None
    for at, on in states:
        if on:
            if last_on is None or at - last_on > Fraction(1, 4):
                found.append(at)
            last_on = at
    return found


def luma(run: bytes) -> Iterator[tuple[Fraction, bytes]]:
    """Each picture of 640x360, without the padding of its lines."""
    with av.open(io.BytesIO(run), mode="r") as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            plane = frame.planes[0]
            data, stride = bytes(plane), plane.line_size
            rows = data if stride == 640 else b"".join(data[y * stride : y * stride + 640] for y in range(360))
            yield frame.pts * frame.time_base, rows


def sound(run: bytes, channel: int) -> Iterator[tuple[Fraction, float]]:
    """Each sample (-1 to 1) of one channel."""
    with av.open(io.BytesIO(run), mode="r") as container:
        for frame in container.decode(audio=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            begin, rate = frame.pts * frame.time_base, frame.sample_rate
            samples = memoryview(bytes(frame.planes[channel])).cast("f")[: frame.samples]
            for index, sample in enumerate(samples.tolist()):
                if abs(sample) > 0.3 or index == 0:
                    yield begin + Fraction(index, rate), sample
