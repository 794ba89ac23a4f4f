"""Encode items of a profile as the transcoder takes them."""

from __future__ import annotations

import pytest

from appliance.engine.renditions import encode_spec
from appliance.errors import ConfigError
from appliance.media.track import Codec
from appliance.settings import models
from appliance.transcoder.encoders import candidates

OFF = models.HwAccel()


@pytest.mark.parametrize(
    "encode",
    [
        models.VideoEncode(codec="h264", bitrate=1, modules="nv:0,banana"),
        models.VideoEncode(codec="h264_qsv", bitrate=1),
        models.AudioEncode(codec="aac", bitrate=1, modules="banana"),
        models.AudioEncode(codec="opus", bitrate=1, modules="fdkaac"),
    ],
)
def test_software_stands_in_where_no_module_makes_the_codec(encode: models.VideoEncode | models.AudioEncode) -> None:
    spec = encode_spec(0, "v", encode, OFF)
    assert candidates(spec.codec, spec.modules)


@pytest.mark.parametrize("codec", ["mpeg9", "", "h264_banana"])
def test_a_codec_that_nothing_makes_is_refused_at_once(codec: str) -> None:
    with pytest.raises(ConfigError):
        encode_spec(0, "v", models.VideoEncode(codec=codec, bitrate=1), OFF)


def test_all_that_the_item_says_reaches_the_encoder() -> None:
    encode = models.VideoEncode(
        codec="H264", bitrate=900_000, width=640, height=360, framerate=25.0, key_frame_interval=2000,
        key_frame_interval_type="Time", preset="Fast", profile="High", b_frames=2, skip_frames=3, thread_count=4,
        lookahead=5,
    )  # fmt: skip
    spec = encode_spec(7, "hd", encode, OFF)
    assert (spec.codec, spec.input_id, spec.variant, spec.kind) == (Codec.H264, 7, "hd", "video")
    assert (spec.bitrate, spec.width, spec.height, spec.framerate) == (900_000, 640, 360, 25.0)
    assert (spec.key_frame_interval, spec.key_frame_interval_type) == (2000, "time")
    assert (spec.preset, spec.profile, spec.b_frames) == ("fast", "high", 2)
    assert (spec.skip_frames, spec.thread_count, spec.lookahead) == (3, 4, 5)
