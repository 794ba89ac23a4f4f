"""VP9 and VP8: key frames, vpcC, and nothing but one error for garbage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import vp9
from appliance.media.track import Codec, MediaType
from tests.media.codecs import garbage
from tests.media.codecs.vectors import VP9

FRAMES = [bytes.fromhex(vector[0]) for vector in VP9]
CONFIGS = [bytes.fromhex(vector[1]) for vector in VP9]
VP8_KEY = bytes.fromhex("30 1a 00 9d 01 2a 80 02 68 01")


@pytest.mark.parametrize(("frame", "config", "size", "string"), VP9)
def test_a_key_frame_makes_the_configuration_that_libavformat_writes(
    frame: str, config: str, size: tuple[int, int], string: str
) -> None:
    data = bytes.fromhex(frame)
    key = vp9.parse_keyframe(data)
    assert (key.width, key.height) == size
    assert vp9.is_keyframe(data)
    assert vp9.config_from_keyframe(data, 25.0) == bytes.fromhex(config)
    parsed = vp9.VpConfig.parse(bytes.fromhex(config))
    assert parsed.build() == bytes.fromhex(config)
    assert parsed == vp9.VpConfig.parse(bytes.fromhex(config)[4:])
    assert parsed.codec_string == string


def test_other_frames_are_no_key_frames() -> None:
    assert not vp9.is_keyframe(b"\x86")
    assert not vp9.is_keyframe(b"\x8a")
    assert not vp9.is_keyframe(b"")
    assert not vp9.is_keyframe(bytes((FRAMES[3][0] | 2,)))
    with pytest.raises(RemoteProtocolError, match="not a VP9 key frame"):
        vp9.parse_keyframe(b"\x86" + bytes(20))


def test_a_track_tells_it_all() -> None:
    track = vp9.track_from_config(0, CONFIGS[1], width=640, height=360, rate=25.0)
    assert (track.media, track.codec, track.timescale) == (MediaType.VIDEO, Codec.VP9, 90_000)
    assert (track.width, track.height, track.frame_rate, track.codec_string) == (640, 360, 25.0, "vp09.02.21.10")


@pytest.mark.parametrize(
    ("size", "rate", "level"),
    [((640, 360), 30, 21), ((1280, 720), 30, 31), ((1920, 1080), 30, 40), ((1920, 1080), 60, 41),
     ((3840, 2160), 60, 51), ((1920, 1080), 0, 40), ((16384, 8704), 300, 62)],
)  # fmt: skip
def test_levels(size: tuple[int, int], rate: float, level: int) -> None:
    assert vp9.level_for(*size, rate) == level


def test_vp8_key_frames() -> None:
    assert vp9.is_vp8_keyframe(VP8_KEY)
    assert vp9.parse_vp8_keyframe(VP8_KEY) == (640, 360)
    assert not vp9.is_vp8_keyframe(b"\x31")
    assert not vp9.is_vp8_keyframe(b"")


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=40), garbage.damaged([*FRAMES, *CONFIGS, VP8_KEY])))
def test_garbage_gives_one_error(data: bytes) -> None:
    garbage.survives(lambda: vp9.track_from_config(0, data))
    garbage.survives(vp9.config_from_keyframe, data)
    garbage.survives(vp9.config_from_keyframe, b"\x82\x49\x83\x42" + data)
    garbage.survives(vp9.parse_vp8_keyframe, data)
    vp9.is_keyframe(data)
    vp9.is_vp8_keyframe(data)
