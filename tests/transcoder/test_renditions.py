"""Several renditions of one decode: aligned key frames, sizes, rates, and changes while running."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import msgspec
import pytest
import trio
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from appliance.media.track import Codec
from appliance.transcoder.spec import RenditionSpec
from tests.transcoder.harness import FileInput, Recorder, aac, decode, gaps, h264, seconds_of, steps, transcoding


def _has_keys(recorder: Recorder, id: int, count: int) -> bool:
    return len(recorder.keys(id)) >= count


URL = "pattern://?size=320x180&fps=30&audio=off"


async def test_key_frames_of_three_sizes_and_two_rates_share_their_times() -> None:
    source = FileInput()
    specs = [h264(0, width=480), h264(1, height=180), h264(2, width=160, framerate=15), aac(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.play, 4.0)
        async with transcoding(specs, stream=source.stream) as (_, recorder):
            for id in (0, 1, 2):
                await recorder.until(partial(_has_keys, recorder, id, 4))
        nursery.cancel_scope.cancel()
    assert [(track.width, track.height) for (track,) in (recorder.tracks[id] for id in (0, 1, 2))] == [
        (480, 272), (320, 180), (160, 92),
    ]  # fmt: skip
    assert recorder.keys(0)[:4] == recorder.keys(1)[:4] == recorder.keys(2)[:4]
    assert gaps(recorder.packets[0]) == {3000}
    assert gaps(recorder.packets[2]) == {6000}
    for id in (0, 1, 2):
        frames = decode(recorder.packets[id])
        assert [frame.pts for frame in frames] == [packet.pts for packet in recorder.packets[id]]
        shown = {frame.pts for frame in frames if isinstance(frame, VideoFrame) and frame.key_frame}
        assert shown == set(recorder.keys(id))
    # Sound and picture keep their own times: the first frames of both are those of the input.
    assert abs(seconds_of(recorder.packets[3][0])) < 0.025
    assert seconds_of(recorder.packets[0][0]) == 0


async def test_a_rendition_comes_and_goes_without_a_gap_in_the_others() -> None:
    base = h264(0)
    async with transcoding([base], source_url=URL) as (transcoder, recorder):
        await recorder.have(0, 20)
        transcoder.set_renditions([base, h264(1, width=160)])
        await recorder.have(1, 30)
        transcoder.set_renditions([base, h264(1, width=80)])
        await recorder.until(lambda: len(recorder.tracks[1]) == 2)
        await recorder.more(1, 20)
        transcoder.set_renditions([base])
        await recorder.more(0, 20)
        gone = len(recorder.packets[1])
        await recorder.more(0, 10)
        assert len(recorder.packets[1]) == gone
    assert gaps(recorder.packets[0]) == {3000}
    assert len(recorder.tracks[0]) == 1
    assert [(track.generation, track.width) for track in recorder.tracks[1]] == [(0, 160), (1, 80)]
    assert recorder.packets[1][0].keyframe
    # The new generation begins with a key frame, right where the old one ended.
    assert gaps(recorder.packets[1]) <= {3000, 6000, 9000}
    frames = decode(recorder.packets[1])
    assert {frame.width for frame in frames if isinstance(frame, VideoFrame)} == {160, 80}
    assert set(recorder.keys(1)[1:]) & set(recorder.keys(0))


async def test_a_key_frame_on_request_is_one_for_all() -> None:
    async with transcoding([h264(0, key_frame_interval=600), h264(1, width=160, framerate=15, key_frame_interval=300)],
                           source_url=URL) as (transcoder, recorder):  # fmt: skip
        await recorder.have(1, 10)
        assert transcoder.request_key_frame()
        await recorder.until(lambda: len(recorder.keys(0)) > 1 and len(recorder.keys(1)) > 1)
    assert recorder.keys(0)[-1] == recorder.keys(1)[-1]
    assert len(recorder.keys(0)) == 2


async def test_a_key_frame_may_be_asked_for_a_time_to_come() -> None:
    async with transcoding([h264(0, key_frame_interval=600)], source_url=URL) as (transcoder, recorder):
        packets = await recorder.have(0, 5)
        since = packets[-1].pts // 90 + 1010
        assert transcoder.request_key_frame(since)
        # The same again is the same one; another one so soon is not to be had.
        assert transcoder.request_key_frame(since)
        assert not transcoder.request_key_frame(since + 100)
        await recorder.until(lambda: len(recorder.keys(0)) > 1)
    assert 0 <= recorder.keys(0)[1] - since * 90 < 90_000 // 25


@pytest.mark.long
async def test_the_bitrate_follows_requests_down_and_up() -> None:
    url = "pattern://?size=640x360&fps=30&audio=off"
    async with transcoding([h264(0, bitrate=1_500_000)], source_url=url) as (transcoder, recorder):
        first = await recorder.more(0, 60)
        assert transcoder.request_bitrate(0, 300_000)
        await recorder.more(0, 15)
        low = await recorder.more(0, 60)
        assert transcoder.request_bitrate(0, 2_500_000)
        await recorder.more(0, 30)
        high = await recorder.more(0, 60)
    sizes = [sum(len(packet.payload) for packet in part) * 8 / 2 for part in (first, low, high)]
    assert sizes[1] < 0.5 * sizes[0] < 0.8 * sizes[2]
    assert gaps(recorder.packets[0]) == {3000}
    assert len(decode(recorder.packets[0])) == len(recorder.packets[0])


async def test_interval_type_time_and_default_interval() -> None:
    timed = h264(0, key_frame_interval=500, key_frame_interval_type="time")
    async with transcoding([timed, h264(1, framerate=10)], source_url=URL) as (_, recorder):
        await recorder.until(lambda: len(recorder.keys(0)) >= 5 and len(recorder.keys(1)) >= 3)
    assert all(pts % 45000 == 0 for pts in recorder.keys(0)[1:])
    assert all(pts % 90000 == 0 for pts in recorder.keys(1)[1:])
    assert gaps(recorder.packets[1]) == {9000}


async def test_b_frames_decode_in_order_and_never_go_below_zero() -> None:
    source = FileInput()
    spec = h264(0, b_frames=2, profile="main", preset="veryfast")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.play)
        async with transcoding([spec], stream=source.stream) as (_, recorder):
            packets = list(await recorder.have(0, 75))
        nursery.cancel_scope.cancel()
    (track,) = recorder.tracks[0]
    assert track.has_b_frames
    assert packets[0].dts >= 0
    assert gaps(packets) == {3000}
    assert any(packet.pts > packet.dts + 3000 for packet in packets)
    assert all(packet.pts >= packet.dts for packet in packets)
    shown = [frame.pts for frame in decode(packets)]
    assert shown == sorted(packet.pts for packet in packets)


async def test_skip_frames_divides_the_rate() -> None:
    async with transcoding([h264(0, skip_frames=2, framerate=30)], source_url=URL) as (_, recorder):
        await recorder.have(0, 25)
    assert gaps(recorder.packets[0][1:]) == {9000}


async def test_images_are_whole_pictures_on_their_own_grid() -> None:
    specs = [
        RenditionSpec(id=id, input_id=0, kind="image", codec=codec, variant=str(codec), width=80, framerate=2)
        for id, codec in enumerate((Codec.JPEG, Codec.PNG, Codec.WEBP))
    ]
    async with transcoding(specs, source_url=URL) as (_, recorder):
        for id in range(3):
            await recorder.have(id, 3)
    starts = {0: b"\xff\xd8\xff", 1: b"\x89PNG", 2: b"RIFF"}
    for id, start in starts.items():
        packets = recorder.packets[id]
        assert all(packet.payload.startswith(start) and packet.keyframe for packet in packets)
        assert gaps(packets) == {45000}
        (picture,) = decode(packets[:1])
        assert isinstance(picture, VideoFrame)
        assert (picture.width, picture.height) == (80, 48)


async def test_audio_is_resampled_and_mixed_to_mono() -> None:
    source = FileInput()
    opus_spec = RenditionSpec(id=1, input_id=1, kind="audio", codec=Codec.OPUS, bitrate=64000, variant="opus")
    specs = [aac(0, sample_rate=44100, channels=1), opus_spec]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.play)
        async with transcoding(specs, stream=source.stream) as (_, recorder):
            await recorder.have(0, 60)
            await recorder.have(1, 60)
        nursery.cancel_scope.cancel()
    (mono,), (opus,) = recorder.tracks[0], recorder.tracks[1]
    assert (mono.sample_rate, mono.channels, mono.timescale) == (44100, 1, 44100)
    assert (opus.sample_rate, opus.channels, opus.timescale) == (48000, 2, 48000)
    for id, step in ((0, 1024), (1, 960)):
        packets = recorder.packets[id]
        assert steps(packets) == {step}
    frames = [frame for frame in decode(recorder.packets[0]) if isinstance(frame, AudioFrame)]
    assert {frame.sample_rate for frame in frames} == {44100}


async def test_a_hole_in_the_sound_is_padded_and_what_follows_keeps_its_time() -> None:
    source = FileInput()
    source.mangle = lambda packet: None if packet.track.is_audio and 1.0 <= seconds_of(packet) < 1.3 else packet
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.play)
        async with transcoding([aac(0)], stream=source.stream) as (_, recorder):
            await recorder.until(lambda: 0 in recorder.packets and seconds_of(recorder.packets[0][-1]) > 2.2)
        nursery.cancel_scope.cancel()
    packets = recorder.packets[0]
    assert steps(packets) == {1024}
    loud = []
    for frame in decode(packets):
        assert isinstance(frame, AudioFrame)
        assert frame.pts is not None
        samples = memoryview(frame.planes[0]).cast("f")[: frame.samples]
        loud += [(frame.pts + index) / 48000 for index in range(0, frame.samples, 8) if abs(samples[index]) > 0.02]
    hole = max(pairwise(loud), key=lambda pair: pair[1] - pair[0])
    assert abs(hole[0] - 1.0) < 0.045
    assert abs(hole[1] - 1.3) < 0.045


async def test_the_end_of_the_input_is_the_end_of_the_output() -> None:
    source = FileInput()
    async with (
        trio.open_nursery() as nursery,
        transcoding([h264(0), aac(1)], stream=source.stream) as (_, recorder),
    ):
        nursery.start_soon(partial(source.play, 2.0, close=True))
        await recorder.until(lambda: len(recorder.packets.get(0, ())) == 60)
        await recorder.until(lambda: 1 in recorder.packets and seconds_of(recorder.packets[1][-1]) > 1.93)
    assert seconds_of(recorder.packets[0][-1]) > 1.96


async def test_a_source_that_is_faster_than_it_says_is_followed() -> None:
    source = FileInput()
    slow = msgspec.structs.replace(source.tracks[0], frame_rate=15.0)
    source.mangle = lambda packet: msgspec.structs.replace(packet, track=slow) if packet.track.is_video else None
    async with trio.open_nursery() as nursery:
        async with transcoding([h264(0), h264(1, framerate=10)], stream=source.stream) as (_, recorder):
            nursery.start_soon(partial(source.play, speed=2.0))
            await recorder.until(lambda: len(recorder.tracks.get(0, ())) == 2, 20)
            await recorder.more(0, 60)
        nursery.cancel_scope.cancel()
    assert [track.frame_rate for track in recorder.tracks[0]] == [15.0, 30.0]
    assert gaps(recorder.packets[0][:30]) == {6000}
    assert gaps(recorder.packets[0][-50:]) == {3000}
    assert len(recorder.tracks[1]) == 1
    assert gaps(recorder.packets[1]) == {9000}
    assert len(decode(recorder.packets[0])) == len(recorder.packets[0])


async def test_an_input_that_does_not_say_its_rate_is_measured() -> None:
    source = FileInput()
    silent = msgspec.structs.replace(source.tracks[0], frame_rate=0.0)
    source.mangle = lambda packet: msgspec.structs.replace(packet, track=silent) if packet.track.is_video else packet
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.play)
        async with transcoding([h264(0)], stream=source.stream) as (_, recorder):
            await recorder.have(0, 40)
        nursery.cancel_scope.cancel()
    assert recorder.tracks[0][0].frame_rate == 30.0
    assert recorder.packets[0][0].pts == 0
    assert gaps(recorder.packets[0]) == {3000}
