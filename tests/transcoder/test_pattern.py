"""The pattern through a real worker: on the air at once, steady, in sync."""

from __future__ import annotations

import time

import av
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from appliance.media.track import Codec
from tests.transcoder.harness import (
    beep_starts,
    decode,
    gaps,
    mark_is_white,
    own_encodes,
    seconds_of,
    steps,
    transcoding,
)

URL = "pattern://?size=320x180&fps=30&vbitrate=500K"


async def test_both_tracks_are_there_within_a_second_and_run_steadily() -> None:
    began = time.monotonic()
    async with transcoding(own_encodes(URL), source_url=URL) as (transcoder, recorder):
        await recorder.have(0, 1)
        await recorder.have(1, 1)
        assert time.monotonic() - began < 2.5
        video = await recorder.have(0, 75)
        audio = list(recorder.packets[1])
    (track,) = recorder.tracks[0]
    assert (track.codec, track.width, track.height, track.timescale) == (Codec.H264, 320, 180, 90000)
    assert track.codec_config[:2] == b"\x01\x64"
    assert not track.bypass
    (sound,) = recorder.tracks[1]
    assert (sound.codec, sound.sample_rate, sound.channels, sound.timescale) == (Codec.AAC, 48000, 2, 48000)
    assert gaps(video) == {3000}
    assert steps(audio) == {1024}
    assert all(packet.pts == packet.dts and packet.duration == 3000 for packet in video)
    assert recorder.keys(0)[1:] == [90000 * n for n in range(1, len(recorder.keys(0)))]
    # Real time: what is shown was captured a moment ago, and never is it from the future.
    epoch = transcoder._epoch / 1e9
    lateness = [at - epoch - seconds_of(packet) for at, packet in zip(recorder.at[0], video, strict=False)]
    assert min(lateness) >= 0
    assert sorted(lateness)[len(lateness) // 2] < 0.25
    assert recorder.faults == []


async def test_flash_and_beep_fall_together() -> None:
    async with transcoding(own_encodes(URL), source_url=URL) as (_, recorder):
        await recorder.until(lambda: bool(recorder.keys(0)[1:]) and seconds_of(recorder.packets[0][-1]) > 3.2)
        await recorder.until(lambda: seconds_of(recorder.packets[1][-1]) > 3.2)
    pictures = [frame for frame in decode(recorder.packets[0]) if isinstance(frame, VideoFrame)]
    sounds = [frame for frame in decode(recorder.packets[1]) if isinstance(frame, AudioFrame)]
    lit = [frame.pts / 90000 for frame in pictures if mark_is_white(frame) and frame.pts is not None]
    flashes = [at for at in lit if not any(0 < at - other < 0.5 for other in lit)]
    beeps = beep_starts(sounds, 48000)
    assert [round(at, 6) for at in flashes[-2:]] == [2.0, 3.0]
    offsets = [beep - round(beep) for beep in beeps if beep > 1.5]
    assert offsets
    assert max(map(abs, offsets)) < 0.005


async def test_opus_stays_in_sync_too() -> None:
    url = URL + "&acodec=opus"
    async with transcoding(own_encodes(url), source_url=url) as (_, recorder):
        await recorder.until(lambda: 1 in recorder.packets and seconds_of(recorder.packets[1][-1]) > 2.2)
    (track,) = recorder.tracks[1]
    assert (track.codec, track.timescale, track.codec_config[:8]) == (Codec.OPUS, 48000, b"OpusHead")
    packets = recorder.packets[1]
    assert steps(packets) == {960}
    context = av.CodecContext.create("opus", "r")
    context.extradata = track.codec_config
    sounds = [frame for frame in decode(packets) if isinstance(frame, AudioFrame)]
    # libopus's decoder gives packed samples; only the times matter here.
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48000)
    planar = [out for frame in sounds for out in resampler.resample(frame)]
    offsets = [beep - round(beep) for beep in beep_starts(planar, 48000) if beep > 1.5]
    assert offsets
    assert max(map(abs, offsets)) < 0.01


@pytest.mark.parametrize(
    ("query", "codec"),
    [("codec=h265", Codec.H265), ("codec=vp8", Codec.VP8), ("codec=vp9", Codec.VP9), ("codec=av1", Codec.AV1)],
)
async def test_other_codecs_decode(query: str, codec: Codec) -> None:
    url = f"pattern://?size=160x96&fps=15&audio=off&vbitrate=200K&{query}"
    async with transcoding(own_encodes(url), source_url=url) as (_, recorder):
        packets = list(await recorder.have(0, 20, 20))
    (track,) = recorder.tracks[0]
    assert track.codec is codec
    assert (track.codec_config != b"") == (codec is not Codec.VP8)
    frames = decode(packets)
    assert [frame.pts for frame in frames] == [packet.pts for packet in packets]
    assert {(frame.width, frame.height) for frame in frames if isinstance(frame, VideoFrame)} == {(160, 96)}
    assert gaps(packets) == {6000}
