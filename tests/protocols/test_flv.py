"""FLV tag bodies: classic, enhanced, multitrack, extended; and what we write, read back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.track import Codec, Track
from appliance.protocols.flv import CodecChanged, FlvDemuxer, FlvMuxer, Frame
from appliance.protocols.flv_tags import Kind, Tag, Unsupported, parse_audio, parse_video
from tests.kit.rtmp_corpus import capture, events_of, frames_of


def configurations(name: str) -> Iterator[Track]:
    """The tracks of a capture."""
    frames, _ = frames_of(events_of([capture(name)])[0])
    yield next(frame[0] for frame in frames if frame[0].is_video)
    yield next(frame[0] for frame in frames if frame[0].is_audio)


AVC, AAC = configurations("h264-aac")
HEVC, _ = configurations("h265-aac")
AV1, OPUS = configurations("av1-opus")
VP9, _ = configurations("vp9-aac")
IDR = b"\0\0\0\4\x65abc"
SLICE = b"\0\0\0\4\x41abc"


def demuxer() -> tuple[FlvDemuxer, list[str]]:
    reports: list[str] = []
    return FlvDemuxer(reports.append), reports


def started() -> FlvDemuxer:
    flv, _ = demuxer()
    assert flv.video_tag(0, FlvMuxer.configuration(AVC)) is None
    assert flv.audio_tag(0, FlvMuxer.configuration(AAC)) is None
    return flv


def test_classic_video_tags() -> None:
    assert parse_video(b"\x17\0\0\0\0conf") == [Tag("avc1", Kind.CONFIG, True, b"conf")]
    assert parse_video(b"\x17\1\0\0\x28data") == [Tag("avc1", Kind.FRAME, True, b"data", 40)]
    assert parse_video(b"\x27\1\xff\xff\xd8data") == [Tag("avc1", Kind.FRAME, False, b"data", -40)]
    assert parse_video(b"\x17\2\0\0\0") == [Tag("avc1", Kind.END, True, b"")]
    assert parse_video(b"\x1c\1\0\0\0data") == [Tag("hvc1", Kind.FRAME, True, b"data")]
    assert parse_video(b"\x57\0") == []
    assert parse_video(b"") == []


def test_classic_audio_tags() -> None:
    assert parse_audio(b"\xaf\0\x11\x90") == [Tag("mp4a", Kind.CONFIG, True, b"\x11\x90")]
    assert parse_audio(b"\xaf\1data") == [Tag("mp4a", Kind.FRAME, True, b"data")]
    assert parse_audio(b"") == []


def test_enhanced_video_tags() -> None:
    assert parse_video(b"\x90hvc1conf") == [Tag("hvc1", Kind.CONFIG, True, b"conf")]
    assert parse_video(b"\xa1hvc1\0\0\x21data") == [Tag("hvc1", Kind.FRAME, False, b"data", 33)]
    assert parse_video(b"\x91avc1\xff\xff\xffdata") == [Tag("avc1", Kind.FRAME, True, b"data", -1)]
    assert parse_video(b"\xa3hvc1data") == [Tag("hvc1", Kind.FRAME, False, b"data")]
    assert parse_video(b"\x91av01data") == [Tag("av01", Kind.FRAME, True, b"data")]
    assert parse_video(b"\x92hvc1") == [Tag("hvc1", Kind.END, True, b"")]
    assert parse_video(b"\x94hvc1meta") == [Tag("hvc1", Kind.OTHER, True, b"meta")]
    assert parse_video(b"\x95av01desc") == [Tag("av01", Kind.OTHER, True, b"desc")]
    assert parse_video(b"\xd1\0") == []


def test_enhanced_audio_tags() -> None:
    assert parse_audio(b"\x90Opushead") == [Tag("Opus", Kind.CONFIG, True, b"head")]
    assert parse_audio(b"\x91mp4adata") == [Tag("mp4a", Kind.FRAME, True, b"data")]
    assert parse_audio(b"\x94Opusmap") == [Tag("Opus", Kind.OTHER, True, b"map")]


def test_nanosecond_offsets_and_unknown_extensions() -> None:
    nano = b"\2\x0c\x35\0" + b"\1"
    assert parse_video(b"\x97" + nano + b"hvc1\0\0\0data") == [Tag("hvc1", Kind.FRAME, True, b"data", 0, 800_000)]
    unknown = b"\0x" + b"\x17"
    assert parse_video(b"\x97" + unknown + nano + b"av01data")[0].nanoseconds == 800_000
    long = b"\xff\x01\x00" + bytes(257) + b"\x11"
    assert parse_video(b"\x97" + long + b"av01data") == [Tag("av01", Kind.FRAME, True, b"data")]
    assert parse_audio(b"\x97\2\0\0\5\1Opusdata") == [Tag("Opus", Kind.FRAME, True, b"data", 0, 5)]


def test_multitrack_forms() -> None:
    one = b"\x96\x01hvc1\x05\0\0\x07data"
    assert parse_video(one) == [Tag("hvc1", Kind.FRAME, True, b"data", 7, 0, 5)]
    many = b"\x96\x13av01" + b"\0\0\0\2aa" + b"\1\0\0\3bbb"
    assert parse_video(many) == [
        Tag("av01", Kind.FRAME, True, b"aa", track=0),
        Tag("av01", Kind.FRAME, True, b"bbb", track=1),
    ]
    codecs = b"\x95\x21" + b"mp4a\0\0\0\1a" + b"Opus\1\0\0\1b"
    assert [(tag.four_cc, tag.track, tag.payload) for tag in parse_audio(codecs)] == [
        ("mp4a", 0, b"a"),
        ("Opus", 1, b"b"),
    ]


@pytest.mark.parametrize("body", [b"\x22data", b"\x14data", b"\x00"])
def test_other_codecs_are_unsupported_not_broken(body: bytes) -> None:
    with pytest.raises(Unsupported, match="video codec"):
        parse_video(body)
    with pytest.raises(Unsupported, match="sound format"):
        parse_audio(b"\x2fdata")


@pytest.mark.parametrize(
    "body", [b"\x17\1\0", b"\x91hv", b"\x91hvc1\0\0", b"\x96\x13av01\0\0\0\x09a", b"\x97\5x", b"\x96\x31"]
)
def test_broken_video_tags(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_video(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_tags_or_a_protocol_error(body: bytes) -> None:
    flv = started()
    for parse in (parse_video, parse_audio, lambda data: flv.video_tag(0, data), lambda data: flv.audio_tag(0, data)):
        try:
            parse(body)
        except RemoteProtocolError:
            pass


@given(st.sampled_from(sorted(b"\x17\x27\x90\x91\x93\x96\x97\xa1")), st.binary(max_size=60))
def test_any_body_behind_a_likely_head_is_tags_or_a_protocol_error(head: int, body: bytes) -> None:
    for name in ("avc1", "hvc1", "av01", "vp09"):
        flv = started()
        for data in (bytes([head]) + body, bytes([head]) + name.encode() + body):
            try:
                flv.video_tag(0, data)
            except RemoteProtocolError:
                pass


@pytest.mark.parametrize("track", [AVC, HEVC, AV1, VP9], ids=lambda track: track.codec)
def test_a_video_configuration_survives_the_way_out_and_in(track: Track) -> None:
    flv, _ = demuxer()
    assert flv.video_tag(0, FlvMuxer.configuration(track)) is None
    assert flv.video is not None
    assert (flv.video.codec, flv.video.codec_config) == (track.codec, track.codec_config)
    assert (flv.video.timescale, flv.video.generation, flv.video.variant) == (90_000, 0, "Video")


@pytest.mark.parametrize("track", [AAC, OPUS], ids=lambda track: track.codec)
def test_an_audio_configuration_survives_the_way_out_and_in(track: Track) -> None:
    flv, _ = demuxer()
    assert flv.audio_tag(0, FlvMuxer.configuration(track)) is None
    assert flv.audio is not None
    assert (flv.audio.codec, flv.audio.codec_config) == (track.codec, track.codec_config)
    assert (flv.audio.timescale, flv.audio.channels, flv.audio.variant) == (48_000, 1, "Audio")


@pytest.mark.parametrize("name", ["h264-aac", "h265-aac", "av1-opus", "vp9-aac"])
def test_frames_survive_the_way_out_and_in(name: str) -> None:
    frames, _ = frames_of(events_of([capture(name)])[0])
    flv, reports = demuxer()
    flv.video_tag(0, FlvMuxer.configuration(next(frame[0] for frame in frames if frame[0].is_video)))
    flv.audio_tag(0, FlvMuxer.configuration(next(frame[0] for frame in frames if frame[0].is_audio)))
    for sent in frames:
        time, body = FlvMuxer.frame(*sent[:5])
        got = flv.video_tag(time, body) if sent[0].is_video else flv.audio_tag(time, body)
        assert got is not None
        assert got[1:] == sent[1:]
    assert reports == []


def test_times_are_in_ticks_of_the_track() -> None:
    flv = started()
    assert flv.video_tag(1000, b"\x17\1\0\0\x28" + IDR) == (flv.video, 93_600, 90_000, True, IDR, 0)
    assert flv.video_tag(1040, b"\x27\1\xff\xff\xd8" + SLICE) == (flv.video, 90_000, 93_600, False, SLICE, 0)
    assert flv.audio_tag(1001, b"\xaf\1sound") == (flv.audio, 48_048, 48_048, True, b"sound", 0)


def test_nanoseconds_are_added_to_the_time() -> None:
    flv, _ = demuxer()
    flv.video_tag(0, FlvMuxer.configuration(HEVC))
    flv.audio_tag(0, FlvMuxer.configuration(OPUS))
    unit = b"\0\0\0\4\x26\x01ab"
    frame = flv.video_tag(10, b"\x97\2\x07\xa1\x20\1hvc1\0\0\0" + unit)
    assert frame is not None
    assert frame[2] == 900 + 45
    sound = flv.audio_tag(10, b"\x97\2\x07\xa1\x20\1Opus\xfc\xff\xfe")
    assert sound is not None
    assert (sound[2], sound[5]) == (480 + 24, 960)


def test_times_run_on_past_32_bits() -> None:
    flv = started()
    times = [0xFFFFFFE0, 0xFFFFFFF4, 0x08, 0x30]
    got = [flv.audio_tag(time, b"\xaf\1x") for time in times]
    milliseconds = [frame[2] // 48 for frame in got if frame is not None]
    assert milliseconds == [0xFFFFFFE0, 0xFFFFFFF4, 0x100000008, 0x100000030]
    picture = flv.video_tag(0x20, b"\x17\1\0\0\0" + IDR)
    assert picture is not None
    assert picture[2] == 0x100000020 * 90


def test_a_new_configuration_is_the_next_generation_and_the_same_is_none() -> None:
    flv = started()
    first = flv.video
    flv.video_tag(0, FlvMuxer.configuration(AVC))
    assert flv.video is first
    config = AVC.codec_config
    changed = config[:3] + bytes([config[3]]) + config[4:].replace(config[8:12], config[8:11] + b"\x0d", 1)
    flv.video_tag(0, b"\x17\0\0\0\0" + changed)
    assert flv.video is not None
    assert flv.video is not first
    assert (flv.video.id, flv.video.generation) == (0, 1)


def test_parameter_sets_inside_the_stream_that_are_no_news_are_taken_out() -> None:
    flv = started()
    first = flv.video
    sps_size = int.from_bytes(AVC.codec_config[6:8], "big")
    sps = AVC.codec_config[8 : 8 + sps_size]
    frame = flv.video_tag(0, b"\x17\1\0\0\0" + sps_size.to_bytes(4, "big") + sps + IDR)
    assert frame is not None
    assert frame[0] is first
    assert frame[4] == IDR


def test_a_change_of_codec_is_another_stream() -> None:
    flv = started()
    with pytest.raises(CodecChanged, match="avc1 to hvc1"):
        flv.video_tag(0, FlvMuxer.configuration(HEVC))
    with pytest.raises(CodecChanged, match="mp4a to Opus"):
        flv.audio_tag(0, FlvMuxer.configuration(OPUS))


def test_what_is_not_carried_is_reported_once() -> None:
    flv, reports = demuxer()
    for _ in range(3):
        assert flv.video_tag(0, b"\x22data") is None
        assert flv.audio_tag(0, b"\x2fdata") is None
        assert flv.video_tag(0, b"\x90vp08conf") is None
        assert flv.video_tag(0, b"\x17\1\0\0\0" + IDR) is None
    assert reports == [
        "video codec 2 (H.263) ignored",
        "sound format 2 (MP3) ignored",
        "video codec 'vp08' ignored",
        "avc1 frames without their configuration ignored",
    ]
    assert flv.video_refused
    assert flv.audio_refused


def test_metadata_fills_in_the_frame_rate() -> None:
    flv, _ = demuxer()
    flv.metadata({"framerate": 25.0})
    flv.video_tag(0, FlvMuxer.configuration(VP9))
    assert flv.video is not None
    assert flv.video.frame_rate == 25.0


def test_metadata_that_we_write() -> None:
    values = FlvMuxer.metadata([AVC, AAC])
    assert (values["width"], values["height"], values["videocodecid"], values["audiocodecid"]) == (
        128.0,
        72.0,
        7.0,
        10.0,
    )
    assert FlvMuxer.metadata([HEVC])["videocodecid"] == float(int.from_bytes(b"hvc1", "big"))


def test_codecs_that_flv_has_no_word_for_are_refused() -> None:
    frame: Frame = (AVC, 0, 0, True, b"", 0)
    assert FlvMuxer.frame(*frame[:5])[0] == 0
    raw = Track(id=0, media=AVC.media, codec=Codec.RAW, timescale=90_000)
    with pytest.raises(ValueError, match="RAW"):
        FlvMuxer.configuration(raw)
