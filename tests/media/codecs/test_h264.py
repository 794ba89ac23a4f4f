"""H.264: what configurations say, canonical access units, and nothing but one error for garbage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import h264, nal
from appliance.media.track import Codec, MediaType
from tests.media.codecs import garbage
from tests.media.codecs.vectors import H264, VideoVector

AUD, SPS, PPS = b"\x09\xf0", h264.AvcConfig.parse(H264[0].config).sps[0], h264.AvcConfig.parse(H264[0].config).pps[0]
IDR, SLICE, SEI, FILLER = b"\x65idr slice", b"\x41slice", b"\x06\x05\x01x\x80", b"\x0c\xff\xff\x80"


@pytest.mark.parametrize("vector", H264, ids=str)
def test_what_an_sps_says(vector: VideoVector) -> None:
    sps = h264.parse_sps(h264.AvcConfig.parse(vector.config).sps[0])
    assert (sps.width, sps.height) == vector.size
    assert sps.frame_rate == pytest.approx(float(vector.rate), abs=1e-9)
    assert (sps.profile, sps.level, sps.chroma_format, sps.bit_depth_luma) == (
        vector.profile, vector.level, vector.chroma, vector.depth)  # fmt: skip
    assert (sps.interlaced, sps.sample_aspect, sps.reorder_frames) == (vector.interlaced, vector.aspect, vector.reorder)
    assert sps.has_b_frames == (vector.reorder > 0)


@pytest.mark.parametrize("vector", H264, ids=str)
def test_a_track_tells_it_all(vector: VideoVector) -> None:
    track = h264.track_from_config(3, vector.config, variant="Front", generation=2)
    assert (track.id, track.generation, track.variant) == (3, 2, "Front")
    assert (track.media, track.codec, track.timescale) == (MediaType.VIDEO, Codec.H264, 90_000)
    assert (track.width, track.height) == vector.size
    assert track.has_b_frames == (vector.reorder > 0)
    assert track.codec_string == vector.codec_string
    assert track.codec_config == vector.config


@pytest.mark.parametrize("vector", H264, ids=str)
def test_a_configuration_made_of_parameter_sets_is_the_encoders_own(vector: VideoVector) -> None:
    config = h264.AvcConfig.parse(vector.config)
    assert config.build() == vector.config
    assert h264.config_from_parameter_sets([*config.pps, *config.sps, *config.sps, SEI]) == vector.config
    assert h264.AvcConfig.parse(h264.config_from_parameter_sets(config.parameter_sets)) == config


def test_any_length_size_becomes_four_in_the_track() -> None:
    config = bytearray(H264[0].config)
    config[4] = 0xFC
    assert h264.AvcConfig.parse(bytes(config)).length_size == 1
    assert h264.track_from_config(0, bytes(config)).codec_config == H264[0].config
    config[4] = 0xFE
    with pytest.raises(RemoteProtocolError, match="length size of 3"):
        h264.AvcConfig.parse(bytes(config))


def test_an_sps_that_leaves_reordering_open_admits_b_frames() -> None:
    """Main profile, no VUI: what many cameras write."""
    sps = h264.parse_sps(bytes.fromhex("674d001f9a6602802dd0"))
    assert (sps.width, sps.height, sps.frame_rate) == (1280, 720, 0.0)
    assert sps.reorder_frames is None
    assert sps.b_frames_possible
    assert not sps.has_b_frames


def test_a_vui_that_is_cut_short_keeps_the_picture_size() -> None:
    whole = h264.AvcConfig.parse(H264[0].config).sps[0]
    sps = h264.parse_sps(whole[:-5])
    assert (sps.width, sps.height) == (1920, 1080)


# ---- access units


def test_an_access_unit_with_nothing_to_drop_is_not_copied() -> None:
    for units, keyframe in (([SEI, IDR, IDR], True), ([SLICE], False)):
        payload = nal.join_prefixed(units)
        result, is_key, sets = h264.canonical(payload)
        assert result is payload
        assert (is_key, sets) == (keyframe, ())


@pytest.mark.parametrize("length_size", [1, 2, 4])
def test_what_does_not_belong_is_dropped_and_parameter_sets_are_handed_over(length_size: int) -> None:
    units = [AUD, SPS, PPS, SEI, IDR, FILLER, b"\x0a"]
    payload = b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in units)
    assert h264.canonical(payload, length_size) == (nal.join_prefixed([SEI, IDR]), True, (SPS, PPS))
    assert h264.canonical_annexb(nal.join_annexb(units)) == (nal.join_prefixed([SEI, IDR]), True, (SPS, PPS))


def test_empty_units_are_dropped_and_lengths_beyond_the_end_refused() -> None:
    empty = b"\0\0\0\0"
    assert h264.canonical(empty + nal.join_prefixed([SLICE]) + empty)[0] == nal.join_prefixed([SLICE])
    assert h264.canonical(nal.join_prefixed([AUD])) == (b"", False, ())
    assert h264.canonical(b"") == (b"", False, ())
    for broken in (b"\0\0\0\x09\x65", b"\0\0\0\x01", b"\0\0", nal.join_prefixed([IDR]) + b"\0"):
        with pytest.raises(RemoteProtocolError):
            h264.canonical(broken)


@pytest.mark.parametrize("unit", [b"", SLICE, SPS], ids=["empty", "slices", "parameter sets"])
def test_floods_of_units_are_refused(unit: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="more than 8192"):
        h264.canonical(nal.join_prefixed([unit] * 9000))
    if unit:
        with pytest.raises(RemoteProtocolError, match="more than 8192"):
            h264.canonical_annexb(nal.join_annexb([unit] * 9000))
        assert h264.canonical(nal.join_prefixed([SLICE] * 8192))[0] == nal.join_prefixed([SLICE] * 8192)


def test_floods_of_parameter_sets_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="too many parameter sets"):
        h264.updated_config(H264[0].config, [PPS + (number + 256).to_bytes(2, "big") for number in range(900)])


def test_in_band_parameter_sets_change_the_configuration_only_when_they_differ() -> None:
    config, other = H264[0].config, h264.AvcConfig.parse(H264[2].config)
    assert h264.updated_config(config, [SPS, PPS]) is config
    assert h264.updated_config(config, []) is config
    assert h264.updated_config(config, other.parameter_sets) == H264[2].config
    second_pps = b"\x68\x5b\x8f\x20"
    both = h264.AvcConfig.parse(h264.updated_config(config, [second_pps]))
    assert both.pps == (PPS, second_pps)
    with pytest.raises(RemoteProtocolError):
        h264.updated_config(config, [b"\x67\x64"])


def test_slice_types() -> None:
    # first_mb_in_slice 0, slice_type 5..9 and 0..2 in Exp-Golomb after it.
    assert h264.slice_type(b"\x65\x88\x80") == "I"
    assert h264.slice_type(b"\x41\x9a\x80") == "P"
    assert h264.slice_type(b"\x01\x9e\x80") == "B"
    assert h264.slice_type(b"\x01\xa0") == "B"
    with pytest.raises(RemoteProtocolError):
        h264.slice_type(SPS)
    assert h264.has_b_slices(nal.join_prefixed([SEI, b"\x01\x9e\x80"]))
    assert not h264.has_b_slices(nal.join_prefixed([b"\x41\x9a\x80"]))


def test_recovery_points_with_intra_slices_are_told_apart_from_key_frames() -> None:
    recovery, intra, predicted = b"\x06\x05\x02ab\x06\x01\x84\x80", b"\x41\x88\x80", b"\x41\x9a\x80"
    assert h264.is_recovery_point(nal.join_prefixed([recovery, intra]))
    assert not h264.canonical(nal.join_prefixed([recovery, intra]))[1]
    assert not h264.is_recovery_point(nal.join_prefixed([recovery, predicted]))
    assert not h264.is_recovery_point(nal.join_prefixed([SEI, intra]))
    assert not h264.is_recovery_point(nal.join_prefixed([recovery, IDR]))


# ---- garbage


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_one_error(data: bytes) -> None:
    for parse in (h264.AvcConfig.parse, h264.codec_string, h264.slice_type, h264.canonical, h264.canonical_annexb):
        garbage.survives(parse, data)
    garbage.survives(h264.parse_sps, b"\x67" + data)
    garbage.survives(lambda: h264.canonical(data, 1))
    garbage.survives(lambda: h264.canonical(data, 2))
    garbage.survives(h264.is_recovery_point, nal.join_prefixed([b"\x06" + data, b"\x41" + data]))
    garbage.survives(h264.config_from_parameter_sets, [b"\x67" + data, b"\x68" + data])


@settings(max_examples=600, deadline=None)
@given(garbage.damaged([vector.config for vector in H264]))
def test_damaged_configurations_parse_or_give_one_error(config: bytes) -> None:
    garbage.survives(lambda: h264.track_from_config(0, config))
    garbage.survives(lambda: h264.updated_config(H264[0].config, h264.AvcConfig.parse(config).parameter_sets))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20)))
def test_both_framings_say_the_same(units: list[bytes]) -> None:
    # A NAL unit holds no start code, and neither begins nor ends in a zero.
    whole = [unit for unit in units if unit[0] and unit[-1] and b"\0\0\1" not in unit]
    prefixed = h264.canonical(nal.join_prefixed(whole))
    assert prefixed == h264.canonical_annexb(nal.join_annexb(whole))
    assert nal.split_prefixed(nal.annexb_to_prefixed(nal.join_annexb(whole))) == whole
    assert nal.split_annexb(nal.prefixed_to_annexb(nal.join_prefixed(whole), [SPS])) == [SPS, *whole]
