"""Capture URLs, encoder choice, sizes and frame grids: what needs no codec."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ConfigError
from appliance.media.track import Codec
from appliance.transcoder import sources
from appliance.transcoder.encoders import candidates, split_codec
from appliance.transcoder.spec import RenditionSpec, frame_rate_fraction, output_sample_rate, output_size
from appliance.transcoder.worker.grid import FrameSlots, InputGrid, RateMeter, RateWatch, key_frame_interval


def test_a_bare_pattern_is_720p30_with_sound() -> None:
    source = sources.parse("pattern://")
    video, audio = source.tracks()
    assert (video.id, video.codec, video.width, video.height, video.frame_rate) == (0, Codec.RAW, 1280, 720, 30.0)
    assert (audio.id, audio.codec, audio.sample_rate, audio.channels) == (1, Codec.RAW, 48000, 2)
    own = source.own_encode(video, output_id=4, variant="v")
    assert (own.id, own.input_id, own.codec, own.bitrate, own.preset, own.profile) == (
        4, 0, Codec.H264, 2_500_000, "veryfast", "high",
    )  # fmt: skip
    sound = source.own_encode(audio, output_id=5, variant="a")
    assert (sound.kind, sound.codec, sound.bitrate) == ("audio", Codec.AAC, 128_000)


def test_every_parameter_counts() -> None:
    source = sources.parse(
        "pattern://?size=640x360&fps=30000/1001&vbitrate=1M&codec=h264_nv&gop=45&preset=fast&profile=main&frequency=440"
        "&samplerate=44100&channels=1&abitrate=64k&acodec=opus"
    )
    assert source.frame_rate == Fraction(30000, 1001)
    assert (source.vbitrate, source.encoders, source.gop, source.preset) == (1048576, ("h264_nvenc",), 45, "fast")
    assert (source.tone, source.sample_rate, source.channels, source.abitrate) == (440, 44100, 1, 65536)
    assert source.acodec is Codec.OPUS
    own = source.own_encode(source.tracks()[0], output_id=0, variant="v")
    assert (own.key_frame_interval, own.profile, own.encoders) == (45, "main", ("h264_nvenc",))
    assert [track.id for track in sources.parse("pattern://?audio=off").tracks()] == [0]


def test_devices() -> None:
    camera = sources.parse("v4l2:///dev/v4l/by-id/usb-cam?size=1920x1080&fps=60&format=mjpeg&audio=hw:CARD=Cam,DEV=0")
    assert (camera.device, camera.input_format, camera.audio_device) == (
        "/dev/v4l/by-id/usb-cam", "mjpeg", "hw:CARD=Cam,DEV=0",
    )  # fmt: skip
    assert [track.id for track in camera.tracks()] == [0, 1]
    sound = sources.parse("alsa://hw:1,0?channels=1")
    assert [track.id for track in sound.tracks()] == [1]
    assert (sound.audio_device, sound.channels) == ("hw:1,0", 1)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("rtmp://host/app", "not a capture URL"),
        ("pattern://?colour=red", "unknown parameter colour"),
        ("pattern://?size=640", "WIDTHxHEIGHT"),
        ("pattern://?size=641x360", "both even"),
        ("pattern://?fps=0", "from 1 to 240"),
        ("pattern://?fps=1/0", "from 1 to 240"),
        ("pattern://?fps=30&fps=60", "twice"),
        ("pattern://?vbitrate=lots", "bit/s"),
        ("pattern://?codec=mpeg2", "unknown codec"),
        ("pattern://?codec=aac", "h264, h265"),
        ("pattern://?samplerate=12345", "one of"),
        ("pattern://?frequency=99999", "an integer from 0 to 4000"),
        ("pattern://?&", "name=value"),
        ("pattern://?size", "name=value"),
        ("pattern://somewhere", "no path"),
        ("pattern://#x", "no meaning"),
        ("v4l2:///etc/passwd", "below /dev"),
        ("v4l2:///dev/../etc/passwd", "below /dev"),
        ("v4l2://", "below /dev"),
        ("alsa://", "ALSA device"),
        ("alsa://a b", "ALSA device"),
        ("alsa://hw:0?size=640x360", "unknown parameter size"),
    ],
)
def test_bad_urls_are_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        sources.parse(url)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    for url in (text, "pattern://" + text, "v4l2:///dev/" + text, "alsa://" + text, "pattern://?size=" + text):
        try:
            sources.parse(url)
        except ConfigError:
            pass


def test_codec_names_and_modules() -> None:
    assert split_codec("H264") == (Codec.H264, "")
    assert split_codec("h265_nv") == (Codec.H265, "nv")
    assert candidates(Codec.H264) == ("libx264",)
    assert candidates(Codec.H264, ("nv:1", "qsv", "default")) == ("h264_nvenc:1", "h264_qsv", "libx264")
    assert candidates(Codec.H264, ("nv", "default"), working=()) == ("libx264",)
    assert candidates(Codec.H264, ("openh264", "x264")) == ("libx264",)
    with pytest.raises(ConfigError, match="no encoder for H264"):
        candidates(Codec.H264, ("nv",), working=())
    for module in ("qsv:1", "nv:first"):
        with pytest.raises(ConfigError, match="only nv takes a device"):
            candidates(Codec.H264, (module,))
    for bad in ("flv", "h264_gpu", ""):
        with pytest.raises(ConfigError, match="unknown"):
            split_codec(bad)


def spec(**settings: int) -> RenditionSpec:
    return RenditionSpec(id=0, input_id=0, kind="video", codec=Codec.H264, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "source", "made"),
    [
        ({}, (1920, 1080), (1920, 1080)),
        ({}, (641, 361), (642, 362)),
        ({"width": 1280, "height": 720}, (1920, 1080), (1280, 720)),
        ({"height": 360}, (1920, 1080), (640, 360)),
        ({"width": 854}, (1920, 1080), (856, 484)),
        ({"width": 640}, (720, 576), (640, 512)),
        ({"height": 270}, (1920, 1080), (480, 272)),
    ],
)
def test_sizes_keep_the_aspect_and_are_rounded_up(
    wanted: dict[str, int], source: tuple[int, int], made: tuple[int, int]
) -> None:
    assert output_size(spec(**wanted), *source) == made


def test_rates() -> None:
    assert frame_rate_fraction(29.97) == Fraction(30000, 1001)
    assert frame_rate_fraction(23.976) == Fraction(24000, 1001)
    assert frame_rate_fraction(30) == 30
    assert frame_rate_fraction(12.5) == Fraction(25, 2)
    audio = RenditionSpec(id=0, input_id=0, kind="audio", codec=Codec.AAC)
    assert output_sample_rate(audio, 48000) == 48000
    assert output_sample_rate(audio, 47999) == 48000
    assert output_sample_rate(RenditionSpec(id=0, input_id=0, kind="audio", codec=Codec.OPUS), 44100) == 48000


def test_jitter_is_snapped_and_a_lost_frame_stays_lost() -> None:
    grid = InputGrid(Fraction(30), 500)
    times = [500, 3500 + 900, 6500 - 1000, 9500 + 1400, 15500 - 700]
    assert [grid.snap(time) for time in times] == [500, 3500, 6500, 9500, 15500]
    assert grid.snap(15600) is None


@given(st.integers(0, 3000), st.lists(st.integers(-1400, 1400), min_size=2, max_size=60))
def test_a_steady_source_stays_steady_whatever_its_phase_and_jitter(phase: int, jitter: list[int]) -> None:
    grid = InputGrid(Fraction(30), phase)
    snapped = [grid.snap(phase + 3000 * index + (off if index else 0)) for index, off in enumerate(jitter)]
    assert snapped == [phase + 3000 * index for index in range(len(jitter))]


def test_slower_and_faster_grids_share_the_interval_marks() -> None:
    marks = {}
    for rate in (15, 24, 30, 60):
        slots = FrameSlots(Fraction(rate), Fraction(1), 123)
        keys = set()
        for index in range(200):
            slot = slots.slot_at(123 + 3000 * index)
            if slots.last is not None and slot <= slots.last:
                continue
            slots.last = slot
            if slots.begins_interval(slot):
                keys.add(slots.time_of(slot))
        marks[rate] = keys
    assert marks[15] == marks[24] == marks[30] == marks[60] == {123 + 90000 * n for n in range(7)}


def test_gaps_are_filled_up_to_a_second() -> None:
    slots = FrameSlots(Fraction(30), Fraction(1), 0)
    assert slots.gap(10) == 0
    slots.last = 10
    assert slots.gap(11) == 0
    assert slots.gap(14) == 3
    assert slots.gap(41) == 30
    assert slots.gap(42) == 0


def test_key_frame_intervals() -> None:
    assert key_frame_interval(spec(), Fraction(30)) == 1
    assert key_frame_interval(spec(key_frame_interval=60), Fraction(30)) == 2
    timed = RenditionSpec(id=0, input_id=0, kind="video", codec=Codec.H264, key_frame_interval=1500,
                          key_frame_interval_type="time")  # fmt: skip
    assert key_frame_interval(timed, Fraction(24)) == Fraction(3, 2)
    assert key_frame_interval(spec(), Fraction(30000, 1001)) == Fraction(1001, 1000)


@pytest.mark.parametrize(("step", "rate"), [(3000, 30), (3003, 30), (3600, 25), (1500, 60), (6000, 15), (12857, 7)])
def test_the_rate_of_an_undeclared_input_is_measured(step: int, rate: int) -> None:
    meter = RateMeter()
    found = None
    for index in range(20):
        found = meter.add(index * step + (index % 3) * 20)
        if found:
            break
    assert found == rate


def test_a_rate_that_changes_is_noticed_and_a_hole_is_not_a_rate() -> None:
    watch = RateWatch(Fraction(30))
    steady = [watch.add(3000 * index + index % 2 * 400) for index in range(400)]
    assert set(steady) == {None}
    # Every tenth frame lost for a moment, then a long hole: still 30.
    at = 1_200_000
    for index in range(80):
        at += 6000 if index % 20 == 0 else 3000
        assert watch.add(at) is None
    at += 400_000
    assert watch.add(at) is None
    found = []
    for _ in range(400):
        at += 1500
        found.append(watch.add(at))
    assert next(rate for rate in found if rate) == 60
