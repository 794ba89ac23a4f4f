"""Compressed input of every codec that decodes: what one transcoder made is the next one's input."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
import trio
from av.video.frame import VideoFrame

from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec
from tests.transcoder.harness import Recorder, aac, decode, gaps, h264, own_encodes, seconds_of, steps, transcoding


async def record(url: str, counts: dict[int, int]) -> Recorder:
    """What the pattern makes, until there are so many packets of each track."""
    async with transcoding(own_encodes(url), source_url=url) as (_, recorder):
        for id, count in counts.items():
            await recorder.have(id, count, 30)
    return recorder


async def publish(stream: Stream, packets: Sequence[Packet]) -> None:
    """In real time, by their decoding times."""
    begin = trio.current_time() - packets[0].dts / packets[0].track.timescale
    for packet in packets:
        await trio.sleep_until(begin + packet.dts / packet.track.timescale)
        stream.publish(packet)


@pytest.mark.parametrize("codec", ["h264", "h265", "vp8", "vp9", "av1"])
async def test_video_of_every_codec_is_decoded(codec: str) -> None:
    made = await record(f"pattern://?size=160x96&fps=15&audio=off&vbitrate=200K&codec={codec}", {0: 40})
    packets = made.packets[0]
    stream = Stream("test/app/in", made.tracks[0])
    async with trio.open_nursery() as nursery:
        async with transcoding([h264(0)], stream=stream) as (transcoder, recorder):
            nursery.start_soon(publish, stream, packets)
            await recorder.have(0, 20)
            assert transcoder.stats.decode_errors == 0
        nursery.cancel_scope.cancel()
    assert recorder.packets[0][0].pts == packets[0].pts
    assert gaps(recorder.packets[0]) <= {6000 * n for n in range(1, 15)}
    assert 6000 in gaps(recorder.packets[0])
    frames = decode(recorder.packets[0])
    assert {(frame.width, frame.height) for frame in frames if isinstance(frame, VideoFrame)} == {(160, 96)}
    assert recorder.faults == []


async def test_opus_becomes_aac_at_the_same_time() -> None:
    made = await record("pattern://?size=160x96&fps=5&acodec=opus", {1: 80})
    packets = made.packets[1]
    assert packets[0].track.codec is Codec.OPUS
    stream = Stream("test/app/in", made.tracks[1])
    async with trio.open_nursery() as nursery:
        async with transcoding([aac(0)], stream=stream) as (_, recorder):
            nursery.start_soon(publish, stream, packets)
            await recorder.have(0, 40)
        nursery.cancel_scope.cancel()
    assert abs(seconds_of(recorder.packets[0][0]) - seconds_of(packets[0])) < 0.03
    assert steps(recorder.packets[0]) == {1024}


async def test_a_codec_without_decoder_is_said_and_the_rest_runs() -> None:
    made = await record("pattern://?size=160x96&fps=15&vbitrate=200K", {0: 30, 1: 90})
    odd = msgspec.structs.replace(made.tracks[1][0], codec=Codec.WEBVTT)
    stream = Stream("test/app/in", [made.tracks[0][0], odd])
    both = [msgspec.structs.replace(packet, track=odd) for packet in made.packets[1]] + made.packets[0]
    both.sort(key=lambda packet: packet.dts / packet.track.timescale)
    async with trio.open_nursery() as nursery:
        async with transcoding([h264(0), aac(1)], stream=stream) as (_, recorder):
            nursery.start_soon(publish, stream, both)
            await recorder.have(0, 15)
        nursery.cancel_scope.cancel()
    assert recorder.faults == ["no decoder for WEBVTT"]
