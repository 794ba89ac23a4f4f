"""Settings of an encode: followed, or said to have no effect."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import msgspec
import pytest

from appliance.media.track import Codec
from appliance.transcoder.messages import Frame
from appliance.transcoder.spec import EncodedTrack, RenditionSpec
from appliance.transcoder.worker import video_encoder
from appliance.transcoder.worker.grid import FrameSlots
from appliance.transcoder.worker.honoured import no_effect
from appliance.transcoder.worker.video_encoder import VideoSettings
from tests.transcoder.harness import h264
from tests.transcoder.test_graph import Bench, bench


def encoded(spec: RenditionSpec, pictures: int = 90) -> Bench:
    with bench() as made:
        made.graph.set_renditions([spec])
        made.start()
        made.picture(pictures)
    return made


def announced(made: Bench) -> EncodedTrack:
    (track,) = [frame.payload for frame in made.frames if frame.kind is Frame.TRACK]
    return msgspec.msgpack.decode(track, type=EncodedTrack)


# With 20 frames an interval and one of three, the last step of an interval is a shorter one.
@pytest.mark.parametrize(("skip", "interval"), [(1, 30), (2, 20), (-1, 30)])
def test_durations_and_rate_are_those_of_the_frames_that_are_taken(skip: int, interval: int) -> None:
    made = encoded(h264(0, skip_frames=skip, key_frame_interval=interval))
    steps = [later.pts - earlier.pts for earlier, later in pairwise(made.packets)]
    assert [packet.duration for packet in made.packets][:-1] == steps
    assert announced(made).frame_rate == pytest.approx(30 / (max(0, skip) + 1))


def test_steps_add_up_at_a_rate_that_is_no_whole_number_of_ticks() -> None:
    slots = FrameSlots(Fraction(60000, 1001), Fraction(1), 700)
    at, total = 0, 0
    while at < 600:
        step = slots.step_from(at, 1)
        total += step
        at = slots.slot_at(slots.time_of(at) + step)
    assert total == slots.time_of(at) - 700


@pytest.mark.parametrize("b_frames", [1, 2, 3])
def test_b_frames_without_a_profile_are_made(b_frames: int) -> None:
    made = encoded(h264(0, b_frames=b_frames, profile="", preset="veryfast"))
    assert announced(made).has_b_frames
    assert announced(made).codec_string.startswith("avc1.4d")
    assert any(packet.pts > packet.dts + 3000 for packet in made.packets)
    # Of the first frames only those are missing that would be decoded before zero.
    assert 0 <= made.packets[0].dts <= 3000
    assert made.faults == []


@pytest.mark.parametrize("b_frames", [1, 2, 3])
def test_h265_has_b_frames_too(b_frames: int) -> None:
    made = encoded(msgspec.structs.replace(h264(0, b_frames=b_frames, profile="main"), codec=Codec.H265))
    assert announced(made).has_b_frames
    assert 0 <= made.packets[0].dts <= 3000
    assert any(packet.pts > packet.dts + 3000 for packet in made.packets)
    assert made.faults == []


def test_baseline_has_no_b_frames_and_that_is_said_once() -> None:
    made = encoded(h264(0, b_frames=2, profile="baseline"))
    assert not announced(made).has_b_frames
    assert [packet.pts for packet in made.packets] == [3000 * n for n in range(90)]
    assert made.faults == ["no effect with libx264: BFrames (the profile baseline has none)"]


def test_what_an_encoder_does_not_follow_is_said_once() -> None:
    spec = RenditionSpec(id=0, input_id=0, kind="video", codec=Codec.VP8, bitrate=300_000, preset="faster",
                         profile="high", b_frames=2)  # fmt: skip
    made = encoded(spec, 40)
    assert made.faults == ["no effect with libvpx: Profile, BFrames"]
    assert len(made.packets) == 40


def test_what_an_encoder_follows_is_in_its_options() -> None:
    wanted = h264(0, preset="medium", profile="high", b_frames=2, lookahead=10)
    for name, lost in {"libx264": "", "h264_nvenc:1": "", "h264_qsv": "BFrames, Lookahead",
                       "h264_amf": "BFrames, Lookahead",
                       "h264_vaapi": "Preset, Profile, BFrames, Lookahead"}.items():  # fmt: skip
        assert no_effect(name, wanted) == (f"no effect with {name}: {lost}" if lost else "")
    settings = VideoSettings(wanted, 160, 96, Fraction(30), 30)
    for name in ("h264_nvenc", "h264_qsv", "h264_amf"):
        options = video_encoder._OPTIONS[name](settings)
        assert options["profile"] == "high"
        assert {"preset", "quality"} & set(options)
    assert no_effect("hevc_nvenc", msgspec.structs.replace(wanted, codec=Codec.H265, profile="main", b_frames=0)) == ""
