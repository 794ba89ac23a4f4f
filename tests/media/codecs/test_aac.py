"""AAC: AudioSpecificConfig both ways, ADTS, and nothing but one error for garbage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import aac
from appliance.media.codecs.aac import AudioConfig
from appliance.media.track import Codec, MediaType
from tests.media.codecs import garbage
from tests.media.codecs.vectors import AAC

CONFIGS = [bytes.fromhex(vector[0]) for vector in AAC]


@pytest.mark.parametrize(("config", "core", "rate", "channels", "samples", "string"), AAC)
def test_what_a_configuration_says(
    config: str, core: int, rate: int, channels: int, samples: int, string: str
) -> None:
    parsed = AudioConfig.parse(bytes.fromhex(config))
    assert (parsed.object_type, parsed.sample_rate, parsed.channels) == (core, rate, channels)
    assert (parsed.frame_samples, parsed.codec_string) == (samples, string)
    assert AudioConfig.parse(parsed.build()) == parsed


def test_a_track_tells_it_all() -> None:
    track = aac.track_from_config(1, CONFIGS[5], variant="Tone", generation=4)
    assert (track.id, track.generation, track.variant) == (1, 4, "Tone")
    assert (track.media, track.codec, track.timescale) == (MediaType.AUDIO, Codec.AAC, 48_000)
    assert (track.sample_rate, track.channels, track.codec_string) == (48_000, 2, "mp4a.40.5")
    assert track.codec_config == CONFIGS[5]
    assert aac.track_from_config(1, CONFIGS[1], timescale=90_000).timescale == 90_000


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("1180", "program config element"),
        ("11c8", "channel configuration 9 is reserved"),
        ("1690", "frequency index 13 is reserved"),
        ("17800000 10", "0 Hz is out of range"),
        ("f8062000", "object type 32"),
        ("11", "ends early"),
        ("", "ends early"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_reason(config: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        AudioConfig.parse(bytes.fromhex(config))


@given(
    st.sampled_from([1, 2, 3, 4, 17, 23]), st.sampled_from([*aac.SAMPLE_RATES, 13_000, 100_000]),
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 24]), st.booleans(), st.sampled_from(["", "sbr", "ps"]),
)  # fmt: skip
def test_configurations_come_back_from_their_bytes(
    core: int, rate: int, channels: int, short: bool, extra: str
) -> None:
    low_delay = core == aac.LD
    length = (480 if short else 512) if low_delay else 960 if short else 1024
    sbr = bool(extra) and not low_delay and rate <= 48_000
    ps = sbr and extra == "ps"
    config = AudioConfig(core, rate, rate * 2 if sbr else rate, 2 if ps else channels, length, sbr, ps)
    assert AudioConfig.parse(config.build()) == config


@given(st.sampled_from([0, 1, 2, 5, 6, 8]), st.lists(st.binary(max_size=300), min_size=1, max_size=8))
def test_adts_frames_come_apart_as_they_were_put_together(rate_index: int, frames: list[bytes]) -> None:
    rate = aac.SAMPLE_RATES[rate_index]
    config = AudioConfig(2, rate, rate, 6)
    run = b"".join(aac.adts_header(config, len(frame)) + frame for frame in frames)
    split = list(aac.split_adts(run))
    assert [frame for _, frame in split] == frames
    assert {AudioConfig.parse(header.config) for header, _ in split} == {config}


def test_adts_with_a_checksum_is_stripped_and_what_is_broken_refused() -> None:
    frame = bytearray(aac.adts_header(AudioConfig(2, 48_000, 48_000, 2), 6) + b"CRdata")
    frame[1] &= 0xFE
    assert [payload for _, payload in aac.split_adts(bytes(frame))] == [b"data"]
    with pytest.raises(RemoteProtocolError, match="cut off"):
        list(aac.split_adts(bytes(frame[:-1])))
    with pytest.raises(RemoteProtocolError, match="no ADTS header"):
        list(aac.split_adts(bytes(frame) + b"rubbish"))
    frame[6] |= 1
    with pytest.raises(RemoteProtocolError, match="several raw data blocks"):
        list(aac.split_adts(bytes(frame)))
    with pytest.raises(RemoteProtocolError, match="ADTS"):
        aac.adts_header(AudioConfig(39, 48_000, 48_000, 2, 512), 100)
    with pytest.raises(RemoteProtocolError, match="ADTS"):
        aac.adts_header(AudioConfig(2, 48_000, 48_000, 2), 8185)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=64), garbage.damaged(CONFIGS)))
def test_garbage_gives_one_error(data: bytes) -> None:
    garbage.survives(lambda: aac.track_from_config(1, data))
    garbage.survives(lambda: AudioConfig.parse(data).build())
    garbage.survives(lambda: list(aac.split_adts(data)))
    garbage.survives(lambda: list(aac.split_adts(b"\xff\xf1" + data)))
