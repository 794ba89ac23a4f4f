"""What output profiles make of an input's tracks."""

from __future__ import annotations

import pytest

from appliance.engine.profiles import matches_for_bypass, plan_outputs
from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models

VIDEO = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, width=1280, height=720, frame_rate=30.0,
              variant="Video")  # fmt: skip
AUDIO = Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48000, sample_rate=48000, channels=2,
              variant="Audio")  # fmt: skip


def profile(encodes: models.Encodes, name: str = "p", output: str = "${OriginStreamName}_x") -> models.OutputProfile:
    return models.OutputProfile(name=name, output_stream_name=output, encodes=encodes)


def test_an_application_without_profiles_passes_everything_on() -> None:
    (plan,) = plan_outputs([], [AUDIO, VIDEO], "cam1")
    assert plan.name == "cam1"
    assert [(track.id, track.variant, track.bypass) for track in plan.tracks] == [
        (0, "Video", True),
        (1, "Audio", True),
    ]


def test_each_input_track_is_multiplied_by_each_encode_of_its_type() -> None:
    second = Track(id=2, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000)
    encodes = models.Encodes(
        videos=(
            models.VideoEncode(name="hd", bypass=True),
            models.VideoEncode(codec="h264", bitrate=1, width=640),
            models.VideoEncode(codec="h264", bitrate=1, width=320),
        ),
        audios=(models.AudioEncode(codec="opus", bitrate=1),),
        images=(models.ImageEncode(codec="jpeg"),),
    )
    (plan,) = plan_outputs([profile(encodes)], [VIDEO, AUDIO, second], "cam1")
    assert plan.name == "cam1_x"
    assert [(track.id, track.source.id, track.variant, track.bypass) for track in plan.tracks] == [
        (0, 0, "hd", True),
        (1, 0, "video_0", False),
        (2, 0, "video_1", False),
        (3, 0, "image_0", False),
        (4, 1, "audio_0", False),
        (5, 2, "hd", True),
        (6, 2, "video_0", False),
        (7, 2, "video_1", False),
        (8, 2, "image_0", False),
    ]


def test_a_profile_that_matches_no_track_makes_no_output() -> None:
    only_audio = models.Encodes(audios=(models.AudioEncode(bypass=True),))
    assert plan_outputs([profile(only_audio)], [VIDEO], "cam1") == []


def test_bypass_of_a_raw_track_is_the_inputs_own_encode() -> None:
    raw = Track(id=0, media=MediaType.VIDEO, codec=Codec.RAW, timescale=90000, width=640, height=360)
    encodes = models.Encodes(
        videos=(
            models.VideoEncode(name="own", bypass=True),
            models.VideoEncode(
                name="match", codec="h264", bitrate=1, bypass_if_match=models.VideoBypassIfMatch(width="eq"), width=640
            ),
        )
    )
    (plan,) = plan_outputs([profile(encodes)], [raw], "pattern")
    own, encoded = plan.tracks
    assert (own.bypass, own.own_encode, own.encode) == (False, True, None)
    assert (encoded.bypass, encoded.own_encode) == (False, False)
    assert encoded.encode is not None


@pytest.mark.parametrize(
    ("rule", "encode", "expected"),
    [
        (models.VideoBypassIfMatch(codec="eq"), {"codec": "h264"}, True),
        (models.VideoBypassIfMatch(codec="eq"), {"codec": "h264_nv"}, True),
        (models.VideoBypassIfMatch(codec="eq"), {"codec": "h265"}, False),
        (models.VideoBypassIfMatch(), {"codec": "h264"}, False),
        (models.VideoBypassIfMatch(width="lte"), {"width": 1920}, True),
        (models.VideoBypassIfMatch(width="LTE"), {"width": 640}, False),
        (models.VideoBypassIfMatch(height="gte"), {"height": 720}, True),
        (models.VideoBypassIfMatch(framerate="eq"), {"framerate": 30.0}, True),
        (models.VideoBypassIfMatch(framerate="eq"), {"framerate": 25.0}, False),
        (models.VideoBypassIfMatch(sar="eq"), {"width": 1920, "height": 1080}, True),
        (models.VideoBypassIfMatch(sar="eq"), {"width": 640, "height": 480}, False),
        (models.VideoBypassIfMatch(codec="eq", width="eq"), {"codec": "h264", "width": 640}, False),
    ],
)
def test_bypass_if_match_video(rule: models.VideoBypassIfMatch, encode: dict[str, object], expected: bool) -> None:
    item = models.VideoEncode(**{"codec": "h264", "bitrate": 1, **encode}, bypass_if_match=rule)  # type: ignore[arg-type]
    assert matches_for_bypass(VIDEO, item) is expected


@pytest.mark.parametrize(
    ("rule", "encode", "expected"),
    [
        (models.AudioBypassIfMatch(codec="eq"), {"codec": "aac"}, True),
        (models.AudioBypassIfMatch(codec="eq"), {"codec": "opus"}, False),
        (models.AudioBypassIfMatch(samplerate="lte"), {"samplerate": 48000}, True),
        (models.AudioBypassIfMatch(samplerate="eq"), {"samplerate": 44100}, False),
        (models.AudioBypassIfMatch(channel="gte"), {"channel": 1}, True),
    ],
)
def test_bypass_if_match_audio(rule: models.AudioBypassIfMatch, encode: dict[str, object], expected: bool) -> None:
    item = models.AudioEncode(**{"codec": "aac", "bitrate": 1, **encode}, bypass_if_match=rule)  # type: ignore[arg-type]
    assert matches_for_bypass(AUDIO, item) is expected
