"""Hardware that keeps failing is left alone for a while, and software takes over."""

from __future__ import annotations

from appliance.media.track import Codec
from appliance.transcoder.fallback import PAUSE, Fallback
from appliance.transcoder.spec import RenditionSpec

HARD = RenditionSpec(id=0, input_id=0, kind="video", codec=Codec.H264, modules=("nv", "default"))
SOFT = RenditionSpec(id=1, input_id=0, kind="video", codec=Codec.H264)
IN_USE = [(0, "h264_nvenc"), (1, "libx264")]


def test_two_losses_within_a_minute_and_hardware_rests() -> None:
    fallback = Fallback("v/a/s")
    fallback.worker_lost(0, IN_USE, 100.0)
    assert fallback.effective(HARD, 100.0) is HARD
    fallback.worker_lost(None, IN_USE, 130.0)
    assert fallback.effective(HARD, 131.0).encoders == ("libx264",)
    assert fallback.effective(SOFT, 131.0) is SOFT
    assert fallback.effective(HARD, 131.0 + PAUSE) is HARD


def test_rare_losses_and_those_of_others_do_not_count() -> None:
    fallback = Fallback("v/a/s")
    for at in (100.0, 200.0, 300.0):
        fallback.worker_lost(0, IN_USE, at)
    for at in (400.0, 401.0, 402.0):
        fallback.worker_lost(1, IN_USE, at)
    assert fallback.effective(HARD, 403.0) is HARD


def test_without_an_alternative_the_hardware_is_tried_on() -> None:
    only = RenditionSpec(id=0, input_id=0, kind="video", codec=Codec.H264, encoders=("h264_nvenc",))
    fallback = Fallback("v/a/s")
    fallback.worker_lost(0, IN_USE, 1.0)
    fallback.worker_lost(0, IN_USE, 2.0)
    assert fallback.effective(only, 3.0) is only
