"""Slates: real encoders make them, real decoders show them, loop after loop."""

from __future__ import annotations

import pytest
from av.video.frame import VideoFrame

from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder.fault_slate import MOST_BYTES, TEXTS, Slate, SlateForm, SlateJob, Slates
from appliance.transcoder.messages import Frame, MediaFrame
from appliance.transcoder.worker.decode import TrackDecoder
from appliance.transcoder.worker.fault_slate import make

SIZE = 320, 180


def shown(form: SlateForm, slate: Slate, text: str, loops: int = 2) -> list[VideoFrame]:
    """What a decoder makes of so many loops of ``text``."""
    track = Track(
        id=0, media=MediaType.VIDEO, codec=form.codec, timescale=90000, codec_config=slate.codec_config,
        width=form.width, height=form.height,
    )  # fmt: skip
    decoder = TrackDecoder(track, 1)
    frames: list[object] = []
    for number, payload in enumerate(slate.loops[text] * loops):
        at = number * 3600
        key = number % len(slate.loops[text]) == 0
        frames += decoder.decode(MediaFrame(Frame.PACKET, key, 0, at, at, 3600, payload))
    frames += decoder.flush()
    assert not decoder.errors
    return [frame for frame in frames if isinstance(frame, VideoFrame)]


@pytest.mark.parametrize("codec", [Codec.H264, Codec.H265, Codec.VP8, Codec.VP9, Codec.AV1])
def test_a_slate_decodes_loop_after_loop_and_says_what_is_wrong(codec: Codec) -> None:
    form = SlateForm(codec, *SIZE, 25.0, "main" if codec is Codec.H264 else "")
    slate = make(SlateJob(form))
    assert set(slate.loops) == set(TEXTS)
    assert slate.size < 100_000
    pictures = {}
    for text in TEXTS:
        frames = shown(form, slate, text)
        assert len(frames) == 50
        assert {(frame.width, frame.height) for frame in frames} == {SIZE}
        pictures[bytes(frames[0].planes[0])] = text
    assert len(pictures) == len(TEXTS), "each text is another picture"


@pytest.mark.parametrize(("indication", "profile"), [(66, "baseline"), (77, "main"), (100, "high"), (244, "high")])
def test_the_profile_of_the_input_is_kept(indication: int, profile: str) -> None:
    track = Track(
        id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, width=320, height=180, frame_rate=30,
        codec_config=bytes([1, indication, 0, 30]),
    )  # fmt: skip
    form = SlateForm.of(track)
    assert form == SlateForm(Codec.H264, 320, 180, 30.0, profile)
    assert make(SlateJob(form, TEXTS[:1])).codec_config[1] in (indication, 100)


def test_the_rate_is_the_told_one_then_the_measured_one() -> None:
    track = Track(id=0, media=MediaType.VIDEO, codec=Codec.VP8, timescale=1000, width=320, height=180)
    assert SlateForm.of(track, 50.0).rate == 50.0
    assert SlateForm.of(track, 0.0).rate == 30.0
    assert SlateForm.of(track, 1000.0).rate == 30.0


async def test_a_slate_is_made_once_by_a_process_of_its_own() -> None:
    slates = Slates()
    form = SlateForm(Codec.H264, *SIZE, 25.0, "high")
    assert slates.get(form) is None
    made = await slates.make(form)
    assert made is not None
    assert await slates.make(form) is made
    assert slates.get(form) is made
    assert slates.made == 1


async def test_what_cannot_be_made_is_not_tried_again_and_again() -> None:
    now = [0.0]
    slates = Slates(lambda: now[0])
    odd = SlateForm(Codec.H264, 321, 181, 25.0, "high")
    assert await slates.make(odd) is None
    assert await slates.make(SlateForm(Codec.RAW, *SIZE, 25.0)) is None
    assert slates.made == 0


def test_memory_is_bounded() -> None:
    slates = Slates()
    big = Slate(b"", "", {"NO INPUT": (bytes(MOST_BYTES // 3),)})
    forms = [SlateForm(Codec.VP8, 16 * number, 16, 25.0) for number in range(1, 6)]
    for form in forms:
        slates._keep(form, big)
    assert [slates.get(form) is not None for form in forms] == [False, False, True, True, True]
