"""Pictures of what a stream shows: the last key frame, decoded once, whoever asks."""

from __future__ import annotations

import io
from functools import cache

import av
import pytest
import trio
from av.video.frame import VideoFrame
from trio.testing import MockClock

from appliance.errors import NotFound, Unavailable
from appliance.media.clock import Clock
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder.preview import HOLD_NS, Previews, best_source
from tests.kit import ffmpeg


class Time:
    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now


@cache
def encoded() -> tuple[Track, tuple[tuple[bool, bytes], ...]]:
    """A track, and (key frame, payload) of some frames."""
    with av.open(str(ffmpeg.source(ffmpeg.SMALL))) as file:
        video = file.streams.video[0]
        track = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000, width=640, height=360,
                      codec_config=bytes(video.codec_context.extradata or b""))  # fmt: skip
        frames = []
        for packet in file.demux(video):
            if packet.size:
                frames.append((packet.is_keyframe, bytes(packet)))
            if len(frames) == 40:
                break
    return track, tuple(frames)


def on_air(label: str = "default/app/cam", frames: int = 40) -> Stream:
    track, payloads = encoded()
    stream = Stream(label, [track])
    for number, (key, payload) in enumerate(payloads[:frames]):
        stream.publish(Packet(track, number * 3000, number * 3000, 3000, key, payload))
    return stream


def test_there_are_two_key_frames() -> None:
    assert [number for number, (key, _) in enumerate(encoded()[1]) if key] == [0, 30]


async def test_a_picture_is_decoded_once() -> None:
    time = Time()
    previews = Previews(Clock(monotonic=time))
    stream = on_air()
    pictures: list[bytes] = []

    async def look() -> None:
        pictures.append(await previews.picture(stream, 64, 36, "rgb"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(look)
    assert [len(picture) for picture in pictures] == [64 * 36 * 3] * 3
    assert len(set(pictures)) == previews.decoded == 1
    time.now += HOLD_NS
    await look()
    assert previews.decoded == 1, "the same key frame is the same picture"
    track, frames = encoded()
    stream.publish(Packet(track, 200_000, 200_000, 3000, True, frames[0][1]))
    await look()
    assert previews.decoded == 1, "a picture holds for a second"
    time.now += HOLD_NS
    await look()
    assert previews.decoded == 2
    assert pictures[-1] != pictures[0]
    assert stream.readers == ()


async def test_a_jpeg_has_the_size_that_was_asked_for() -> None:
    picture = await Previews(Clock()).picture(on_air(), 322, 182, "jpeg")
    with av.open(io.BytesIO(picture), mode="r", format="jpeg_pipe") as file:
        frame = next(frame for frame in file.decode(video=0) if isinstance(frame, VideoFrame))
    assert (frame.width, frame.height) == (322, 182)


async def test_what_can_not_be_decoded() -> None:
    track, _ = encoded()
    stream = Stream("default/app/broken", [track])
    stream.publish(Packet(track, 0, 0, 3000, True, bytes(500)))
    with pytest.raises(Unavailable, match="No preview: no picture"):
        await Previews(Clock()).picture(stream, 64, 36, "rgb")


async def test_no_picture_and_no_key_frame(autojump_clock: MockClock) -> None:
    sound = Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48_000)
    previews = Previews(Clock())
    with pytest.raises(NotFound, match="no picture that can be decoded"):
        await previews.picture(Stream("v/a/sound", [sound]), 64, 36, "rgb")
    raw = Track(id=0, media=MediaType.VIDEO, codec=Codec.RAW, timescale=90_000)
    with pytest.raises(NotFound):
        await previews.picture(Stream("v/a/raw", [raw]), 64, 36, "rgb")
    with pytest.raises(Unavailable, match="no key frame within 4 s"):
        await previews.picture(on_air(frames=0), 64, 36, "rgb")
    closed = on_air(frames=0)
    closed.close()
    with pytest.raises(Unavailable):
        await previews.picture(closed, 64, 36, "rgb")


def test_the_least_work_that_is_wide_enough() -> None:
    def stream(width: int, codec: Codec = Codec.H264) -> Stream:
        return Stream(f"v/a/{width}", [Track(id=0, media=MediaType.VIDEO, codec=codec, timescale=90_000, width=width)])

    small, middle, large = stream(320), stream(640), stream(1920)
    streams = [large, small, middle]
    assert best_source(streams, 64) is small
    assert best_source(streams, 321) is middle
    assert best_source(streams, 3840) is large
    small.close()
    assert best_source(streams, 64) is middle
    assert best_source([stream(100, Codec.RAW)], 64) is None
