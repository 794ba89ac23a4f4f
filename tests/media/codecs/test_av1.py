"""AV1: sequence headers, temporal units, and nothing but one error for garbage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import av1
from appliance.media.track import Codec, MediaType
from tests.media.codecs import garbage
from tests.media.codecs.vectors import AV1

CONFIGS = [bytes.fromhex(vector[0]) for vector in AV1]
SEQUENCE = CONFIGS[0][4:]
DELIMITER, PADDING = b"\x12\x00", b"\x7a\x02\xff\x80"
KEY, SHOWN, HIDDEN_KEY, SHOW_EXISTING = b"\x32\x02\x10x", b"\x32\x02\x30x", b"\x32\x02\x00x", b"\x1a\x01\x90"


@pytest.mark.parametrize(("config", "size", "depth", "string"), AV1)
def test_what_a_configuration_says(config: str, size: tuple[int, int], depth: int, string: str) -> None:
    data = bytes.fromhex(config)
    header = av1.parse_config(data)
    assert ((header.width, header.height), header.bit_depth, header.codec_string) == (size, depth, string)
    assert av1.config_from_sequence_header(av1.find_sequence_header(data[4:])) == data


def test_a_track_tells_it_all() -> None:
    track = av1.track_from_config(0, CONFIGS[2], generation=1, variant="Front")
    assert (track.media, track.codec, track.timescale, track.generation) == (MediaType.VIDEO, Codec.AV1, 90_000, 1)
    assert (track.width, track.height, track.codec_string) == (640, 360, "av01.0.04M.10.0.110.02.02.09.0")
    assert track.codec_config == CONFIGS[2]


def test_a_configuration_without_its_sequence_header_still_names_the_codec() -> None:
    """libavformat writes one for rav1e; the first key frame then brings the sequence header."""
    track = av1.track_from_config(0, CONFIGS[2][:4])
    assert (track.width, track.height, track.codec_string) == (0, 0, "av01.0.04M.10")
    assert av1.updated_config(CONFIGS[2][:4], (CONFIGS[2][4:],)) == CONFIGS[2]


def test_timing_and_operating_points_are_read() -> None:
    """Timing 60000/1001 with a decoder model, two operating points, high tier, frame ids, no order hint."""
    bits = "000" + "0" + "0"
    bits += "1" + f"{1001:032b}{60000:032b}" + "1" + "1" + "1" + f"{9:05b}{1:032b}{9:05b}{9:05b}"
    bits += "1" + "00001"
    bits += f"{0:012b}" + "01101" + "1" + "1" + "0" * 21 + "1" + "0011"
    bits += f"{1:012b}" + "00000" + "0" + "0"
    bits += f"{11:04b}{11:04b}" + f"{3839:012b}{2159:012b}"
    bits += "1" + "0" * 7 + "000" + "0000" + "0" + "0" + "0" + "000"
    bits += "1" + "0" + "1" + f"{9:08b}{16:08b}{9:08b}" + "1" + "01" + "0" + "0"
    raw = int("1" + bits + "0" * (-len(bits) % 8), 2).to_bytes(len(bits + "0" * (-len(bits) % 8)) // 8 + 1, "big")[1:]
    header = av1.parse_sequence_header(raw)
    assert (header.width, header.height, header.level_index, header.high_tier) == (3840, 2160, 13, True)
    assert header.frame_rate == pytest.approx(60000 / 1001)
    assert header.codec_string == "av01.0.13H.10.0.111.09.16.09.1"


# ---- temporal units


def test_a_temporal_unit_with_nothing_to_drop_is_not_copied() -> None:
    unit = SEQUENCE + KEY
    assert av1.canonical(unit)[0] is unit
    assert av1.canonical(unit)[1:] == (True, (SEQUENCE,))
    assert av1.canonical(SHOWN)[1:] == (False, ())
    assert not av1.canonical(HIDDEN_KEY + SHOW_EXISTING)[1]


def test_delimiters_and_padding_are_dropped_and_every_size_written() -> None:
    assert av1.canonical(DELIMITER + SEQUENCE + PADDING + KEY) == (SEQUENCE + KEY, True, (SEQUENCE,))
    without_size = bytes((KEY[0] & ~2,)) + KEY[2:]
    assert av1.canonical(DELIMITER + without_size) == (KEY, True, ())
    assert av1.canonical(DELIMITER) == (b"", False, ())


def test_in_band_sequence_headers_change_the_configuration_only_when_they_differ() -> None:
    assert av1.updated_config(CONFIGS[0], (SEQUENCE,)) is CONFIGS[0]
    assert av1.updated_config(CONFIGS[0], ()) is CONFIGS[0]
    assert av1.updated_config(CONFIGS[0], (CONFIGS[1][4:],)) == CONFIGS[1]


def test_floods_of_units_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="more than 8192"):
        av1.canonical(SEQUENCE * 9000)


@pytest.mark.parametrize("unit", [b"\x80", b"\x32", b"\x32\x05x", b"\x32" + b"\xff" * 9, b"\x36"])
def test_broken_units_are_refused(unit: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        av1.canonical(unit)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=80), garbage.damaged([*CONFIGS, DELIMITER + SEQUENCE + PADDING + KEY])))
def test_garbage_gives_one_error(data: bytes) -> None:
    garbage.survives(lambda: av1.track_from_config(0, data))
    garbage.survives(av1.canonical, data)
    garbage.survives(av1.parse_sequence_header, data)
    garbage.survives(av1.config_from_sequence_header, data)
    garbage.survives(av1.parse_config, b"\x81\0\0\0" + data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([DELIMITER, SEQUENCE, PADDING, KEY, SHOWN, SHOW_EXISTING]), max_size=6))
def test_canonical_units_stay_as_they_are(units: list[bytes]) -> None:
    once, keyframe, headers = av1.canonical(b"".join(units))
    again = av1.canonical(once)
    assert again == (once, keyframe, headers)
    assert again[0] is once
