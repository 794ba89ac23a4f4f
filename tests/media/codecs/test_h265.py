"""H.265: what configurations say, canonical access units, and nothing but one error for garbage."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import h265, nal
from appliance.media.track import Codec, MediaType
from tests.media.codecs import garbage
from tests.media.codecs.vectors import H265, VideoVector

CONFIG = h265.HevcConfig.parse(H265[0].config)
VPS, SPS, PPS = CONFIG.vps[0], CONFIG.sps[0], CONFIG.pps[0]
AUD, FILLER, SEI = b"\x46\x01\x50", b"\x4c\x01\xff\x80", b"\x4e\x01\x05\x01x\x80"
IDR, CRA, BLA, TRAIL = b"\x26\x01idr", b"\x2a\x01cra", b"\x20\x01bla", b"\x02\x01trail"


class Bits:
    """Writes what a BitReader reads."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def u(self, value: int, count: int) -> Bits:
        self.text += f"{value:0{count}b}"
        return self

    def ue(self, *values: int) -> Bits:
        for value in values:
            self.text += "0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}"
        return self

    def nal(self) -> bytes:
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        raw = int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:]
        return raw[:2] + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", raw[2:])


@pytest.mark.parametrize("vector", H265, ids=str)
def test_what_an_sps_says(vector: VideoVector) -> None:
    sps = h265.parse_sps(h265.HevcConfig.parse(vector.config).sps[0])
    assert (sps.width, sps.height) == vector.size
    assert sps.frame_rate == pytest.approx(float(vector.rate), abs=1e-9)
    general = sps.profile_tier_level
    assert (general.profile, general.level, sps.chroma_format, sps.bit_depth_luma) == (
        vector.profile, vector.level, vector.chroma, vector.depth)  # fmt: skip
    assert (sps.interlaced, sps.sample_aspect, sps.reorder_frames) == (vector.interlaced, vector.aspect, vector.reorder)


@pytest.mark.parametrize("vector", H265, ids=str)
def test_a_track_tells_it_all(vector: VideoVector) -> None:
    track = h265.track_from_config(3, vector.config, variant="Front", generation=2)
    assert (track.id, track.generation, track.variant) == (3, 2, "Front")
    assert (track.media, track.codec, track.timescale) == (MediaType.VIDEO, Codec.H265, 90_000)
    assert (track.width, track.height) == vector.size
    assert track.frame_rate == pytest.approx(float(vector.rate))
    assert track.has_b_frames == (vector.reorder > 0)
    assert track.codec_string == vector.codec_string
    assert track.codec_config == vector.config


@pytest.mark.parametrize("vector", H265, ids=str)
def test_a_configuration_made_of_parameter_sets_says_what_the_encoders_own_does(vector: VideoVector) -> None:
    config = h265.HevcConfig.parse(vector.config)
    assert config.build() == vector.config
    made = h265.HevcConfig.parse(h265.config_from_parameter_sets([*config.pps, *config.sps, *config.vps, *config.sps]))
    assert made.parameter_sets == config.parameter_sets
    assert h265.codec_string(made.build()) == vector.codec_string


def test_the_frame_rate_may_be_in_the_vps_alone() -> None:
    vps = Bits().u(0x4001, 16).u(0, 4).u(3, 2).u(0, 6).u(0, 3).u(1, 1).u(0xFFFF, 16)
    vps.u(0, 2).u(0, 1).u(1, 5).u(0x60000000, 32).u(0x90 << 40, 48).u(93, 8)
    vps.u(1, 1).ue(1, 0, 0).u(0, 6).ue(1).u(1, 1)
    timed = Bits(vps.text).u(1, 1).u(1001, 32).u(60000, 32).u(0, 1).ue(0).u(0, 1)
    assert h265.parse_vps_frame_rate(timed.nal()) == pytest.approx(60000 / 1001)
    assert h265.parse_vps_frame_rate(Bits(vps.text).u(0, 2).nal()) == 0.0
    no_vui = Bits().u(0x4201, 16).u(0, 4).u(0, 3).u(1, 1)
    no_vui.u(0, 2).u(0, 1).u(1, 5).u(0x60000000, 32).u(0x90 << 40, 48).u(93, 8)
    no_vui.ue(0, 1, 640, 360).u(0, 1).ue(0, 0, 4).u(1, 1).ue(1, 0, 0).ue(0, 3, 0, 3, 1, 1).u(0, 4).ue(0).u(0, 5)
    track = h265.track_from_config(0, h265.config_from_parameter_sets([timed.nal(), no_vui.nal(), PPS]))
    assert (track.width, track.height) == (640, 360)
    assert track.frame_rate == pytest.approx(60000 / 1001)


def test_codec_strings_spell_space_tier_and_inner_zeros() -> None:
    general = h265.ProfileTierLevel(2, True, 4, 0x08000000, bytes((0x90, 0, 8, 0, 0, 0)), 186)
    assert general.codec_string == "hvc1.B4.10.H186.90.0.8"


def test_everything_an_sps_may_hold_before_its_vui_is_read_over() -> None:
    """Sub-layers, scaling lists, PCM, predicted reference picture sets, long-term pictures: all that encoders may."""
    sps = Bits().u(0x4201, 16).u(0, 4).u(2, 3).u(1, 1)
    sps.u(0, 2).u(0, 1).u(1, 5).u(0x60000000, 32).u(0x90 << 40, 48).u(93, 8)
    # Two sub-layers, the first with profile and level, the second with a level alone.
    sps.u(0b11, 2).u(0b01, 2).u(0, 12).u(0, 88).u(90, 8).u(91, 8)
    sps.ue(0, 1, 1928, 1088).u(1, 1).ue(2, 2, 4, 0).ue(0, 0, 4)
    sps.u(1, 1).ue(1, 0, 0, 2, 1, 0, 4, 3, 0)
    sps.ue(0, 3, 0, 3, 1, 1)
    # Scaling list data: the first list of each size predicted, the others written out.
    sps.u(1, 1).u(1, 1)
    for size in range(4):
        for index in range(2 if size == 3 else 6):
            if not index:
                sps.u(0, 1).ue(0)
            else:
                sps.u(1, 1).ue(*([0] * ((size > 1) + min(64, 16 << 2 * size))))
    sps.u(0b01, 2)
    sps.u(1, 1).u(0x77, 8).ue(0, 2).u(0, 1)
    # Reference picture sets: two pictures back and one ahead; predicted from it; predicted from that.
    sps.ue(3).ue(2, 1).ue(0).u(1, 1).ue(0).u(1, 1).ue(0).u(1, 1)
    sps.u(1, 1).u(0, 1).ue(0).u(1, 1).u(0b00, 2).u(0b01, 2).u(1, 1)
    sps.u(1, 1).u(1, 1).ue(3).u(0b1111, 4)
    sps.u(1, 1).ue(2).u(5, 8).u(1, 1).u(9, 8).u(0, 1)
    sps.u(0b11, 2)
    # VUI: aspect 4:3, overscan, full range BT.709, chroma, fields, display window, 1001/60000.
    sps.u(1, 1).u(1, 1).u(14, 8).u(0b11, 2).u(1, 1).u(5, 3).u(1, 1).u(1, 1).u(1, 8).u(1, 8).u(1, 8)
    sps.u(1, 1).ue(1, 1).u(0b010, 3).u(1, 1).ue(0, 0, 0, 0).u(1, 1).u(1001, 32).u(60000, 32).u(0, 5).u(0, 2)
    parsed = h265.parse_sps(sps.nal())
    assert (parsed.width, parsed.height, parsed.temporal_layers, parsed.reorder_frames) == (1920, 1080, 3, 3)
    assert parsed.frame_rate == pytest.approx(60000 / 1001)
    assert (parsed.sample_aspect, parsed.full_range, parsed.colour) == ((4, 3), True, (1, 1, 1))
    assert parsed.interlaced
    assert parsed.profile_tier_level.codec_string == "hvc1.1.6.L93.90"


# ---- access units


def test_an_access_unit_with_nothing_to_drop_is_not_copied() -> None:
    for units, keyframe in (([SEI, IDR], True), ([CRA], True), ([BLA], True), ([TRAIL], False)):
        payload = nal.join_prefixed(units)
        result, is_key, sets = h265.canonical(payload)
        assert result is payload
        assert (is_key, sets) == (keyframe, ())


@pytest.mark.parametrize("length_size", [1, 2, 4])
def test_what_does_not_belong_is_dropped_and_parameter_sets_are_handed_over(length_size: int) -> None:
    units = [AUD, VPS, SPS, PPS, SEI, IDR, FILLER]
    payload = b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in units)
    assert h265.canonical(payload, length_size) == (nal.join_prefixed([SEI, IDR]), True, (VPS, SPS, PPS))
    assert h265.canonical_annexb(nal.join_annexb(units)) == (nal.join_prefixed([SEI, IDR]), True, (VPS, SPS, PPS))


def test_open_groups_of_pictures_are_told_apart() -> None:
    assert h265.is_open_gop(nal.join_prefixed([SEI, CRA]))
    assert not h265.is_open_gop(nal.join_prefixed([IDR]))


def test_in_band_parameter_sets_change_the_configuration_only_when_they_differ() -> None:
    config, other = H265[0].config, h265.HevcConfig.parse(H265[1].config)
    assert h265.updated_config(config, [VPS, SPS, PPS]) is config
    assert h265.updated_config(config, other.parameter_sets) == H265[1].config
    second_eye = bytes((SPS[0] | 0, SPS[1] | 8)) + SPS[2:]
    assert h265.updated_config(config, [second_eye]) is config
    with pytest.raises(RemoteProtocolError):
        h265.updated_config(config, [b"\x42\x01\x01"])


def test_an_encoders_settings_in_words_are_left_out() -> None:
    words = b"\x4e\x01\x05\x04abcd\x80"
    config = H265[0].config[:22] + b"\x04" + H265[0].config[23:] + b"\x27\0\1" + len(words).to_bytes(2, "big") + words
    assert h265.track_from_config(0, config).codec_config == H265[0].config


# ---- garbage


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_one_error(data: bytes) -> None:
    for parse in (h265.HevcConfig.parse, h265.codec_string, h265.canonical, h265.canonical_annexb):
        garbage.survives(parse, data)
    garbage.survives(h265.parse_sps, b"\x42\x01" + data)
    garbage.survives(h265.parse_vps_frame_rate, b"\x40\x01" + data)
    garbage.survives(lambda: h265.canonical(data, 1))
    garbage.survives(h265.config_from_parameter_sets, [b"\x40\x01" + data, b"\x42\x01" + data, b"\x44\x01" + data])


@settings(max_examples=600, deadline=None)
@given(garbage.damaged([vector.config for vector in H265]))
def test_damaged_configurations_parse_or_give_one_error(config: bytes) -> None:
    garbage.survives(lambda: h265.track_from_config(0, config))
    garbage.survives(lambda: h265.updated_config(H265[0].config, h265.HevcConfig.parse(config).parameter_sets))
