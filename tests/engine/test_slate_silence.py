"""Silence of constant bytes, as decoders hear it."""

from __future__ import annotations

from array import array

import pytest
from av.audio.frame import AudioFrame

from appliance.engine.slate_silence import silence
from appliance.media.codecs.aac import AudioConfig, track_from_config
from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder.messages import Frame, MediaFrame
from appliance.transcoder.worker.decode import TrackDecoder


def heard(track: Track) -> tuple[int, float]:
    """Samples that five packets decode to, and how loud the loudest is."""
    made = silence(track)
    assert made is not None
    payload, duration = made
    decoder = TrackDecoder(track)
    samples, loudest = 0, 0.0
    for number in range(5):
        at = number * duration
        for frame in decoder.decode(MediaFrame(Frame.PACKET, True, 1, at, at, duration, payload)):
            assert isinstance(frame, AudioFrame)
            samples += frame.samples
            kind = "f" if frame.format.name.startswith("flt") else "h"
            loudest = max(loudest, *(max(map(abs, array(kind, bytes(plane)))) for plane in frame.planes))
    assert not decoder.errors
    assert samples * track.timescale == 5 * duration * track.sample_rate
    return samples, loudest


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(("rate", "length"), [(48_000, 1024), (44_100, 1024), (8_000, 1024), (48_000, 960)])
def test_aac(channels: int, rate: int, length: int) -> None:
    track = track_from_config(1, AudioConfig(2, rate, rate, channels, length).build())
    assert heard(track) == (5 * length, 0)


@pytest.mark.parametrize("channels", [1, 2])
def test_aac_with_spectral_band_replication(channels: int) -> None:
    track = track_from_config(1, AudioConfig(2, 24_000, 48_000, channels, 1024, sbr=True).build())
    assert heard(track) == (5 * 2048, 0)


@pytest.mark.parametrize("channels", [1, 2])
def test_opus(channels: int) -> None:
    track = Track(id=1, media=MediaType.AUDIO, codec=Codec.OPUS, timescale=48_000, sample_rate=48_000,
                  channels=channels)  # fmt: skip
    assert heard(track) == (5 * 960, 0)


@pytest.mark.parametrize("codec", [Codec.PCMA, Codec.PCMU])
def test_g711(codec: Codec) -> None:
    track = Track(id=1, media=MediaType.AUDIO, codec=codec, timescale=8000, sample_rate=8000, channels=1)
    samples, loudest = heard(track)
    assert samples == 5 * 160
    assert loudest <= 8, "A-law has no zero"


@pytest.mark.parametrize(
    "track",
    [
        Track(id=1, media=MediaType.AUDIO, codec=Codec.MP3, timescale=48_000, sample_rate=48_000, channels=2),
        Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48_000, codec_config=b"\0"),
        Track(id=1, media=MediaType.AUDIO, codec=Codec.OPUS, timescale=48_000, sample_rate=48_000, channels=6),
    ],
)  # fmt: skip
def test_what_has_no_silence(track: Track) -> None:
    assert silence(track) is None
