"""Opus: headers both ways, packet durations, and nothing but one error for garbage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import opus
from appliance.media.track import Codec, MediaType
from tests.media.codecs import garbage
from tests.media.codecs.vectors import OPUS

HEADS = [bytes.fromhex(vector[0]) for vector in OPUS]


@pytest.mark.parametrize(("head", "channels", "family"), OPUS)
def test_headers_come_back_from_both_forms(head: str, channels: int, family: int) -> None:
    data = bytes.fromhex(head)
    config = opus.OpusConfig.parse_head(data)
    assert (config.channels, config.mapping_family) == (channels, family)
    assert (config.pre_skip, config.input_rate) == (312, 48_000)
    assert config.build_head() == data
    assert opus.OpusConfig.parse_box(config.build_box()) == config
    assert opus.box_to_head(opus.head_to_box(data)) == data


def test_the_box_is_big_endian() -> None:
    assert opus.head_to_box(HEADS[0]) == bytes.fromhex("0002 0138 0000bb80 0000 00")


def test_a_track_tells_it_all() -> None:
    for config in (HEADS[2], opus.head_to_box(HEADS[2])):
        track = opus.track_from_config(1, config)
        assert (track.media, track.codec, track.timescale) == (MediaType.AUDIO, Codec.OPUS, 48_000)
        assert (track.sample_rate, track.channels, track.codec_string) == (48_000, 6, "opus")
        assert track.codec_config == HEADS[2]


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\x00", 480), (b"\x08x", 960), (b"\x10x", 1920), (b"\x18x", 2880), (b"\x60x", 480), (b"\x68x", 960),
        (b"\x80x", 120), (b"\xf8x", 960), (b"\xf9xx", 1920), (b"\xfaxx", 1920), (b"\xfb\x06", 5760), (b"\x83\x81", 120),
    ],
)  # fmt: skip
def test_how_long_a_packet_plays(packet: bytes, samples: int) -> None:
    assert opus.packet_samples(packet) == samples


@pytest.mark.parametrize("packet", [b"", b"\xfb", b"\xfb\x00", b"\xfb\x07"])
def test_packets_that_play_for_no_time_or_too_long_are_refused(packet: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        opus.packet_samples(packet)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=64), garbage.damaged([*HEADS, *map(opus.head_to_box, HEADS)])))
def test_garbage_gives_one_error(data: bytes) -> None:
    garbage.survives(lambda: opus.track_from_config(1, data))
    garbage.survives(opus.OpusConfig.parse_head, b"OpusHead" + data)
    garbage.survives(opus.packet_samples, data)
