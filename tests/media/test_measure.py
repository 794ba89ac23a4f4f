"""Measured figures: what the API shows of a track."""

from __future__ import annotations

import time

import pytest

from appliance.media.clock import NANOSECONDS
from appliance.media.measure import Measured
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track

VIDEO = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000)
AUDIO = Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48_000)


def feed(measured: Measured, count: int, *, step: int = 3000, size: int = 1000, gop: int = 60, start: int = 0) -> None:
    for number in range(start, start + count):
        dts = number * step
        measured.add(Packet(VIDEO, dts, dts, step, number % gop == 0, bytes(size)))


def test_a_steady_stream_measures_what_it_is() -> None:
    measured = Measured(VIDEO)
    feed(measured, 30 * 10 + 13)
    assert measured.values() == {
        "bitrateAvg": 240_000, "bitrateLatest": 240_000, "framerateAvg": 30.0, "framerateLatest": 30.0,
        "keyFrameIntervalAvg": 60.0, "keyFrameIntervalLatest": 60.0, "deltaFramesSinceLastKeyFrame": 12,
    }  # fmt: skip
    assert (measured.packets, measured.bytes, measured.dropped) == (313, 313_000, 0)


def test_the_last_second_follows_a_change_and_the_average_remembers() -> None:
    measured = Measured(VIDEO)
    feed(measured, 300)
    feed(measured, 61, size=4000, start=300)
    assert measured.bitrate_latest == 960_000
    assert measured.bitrate_avg == pytest.approx(240_000 * (300 + 60 * 4) / 360)


def test_frames_that_came_in_a_burst_are_measured_in_their_own_time() -> None:
    measured = Measured(VIDEO, lambda: 0)
    feed(measured, 100, step=1800)
    assert measured.framerate_avg == measured.framerate_latest == 50.0


def test_before_a_whole_second_the_average_stands_in() -> None:
    measured = Measured(VIDEO)
    assert set(measured.values().values()) == {0}
    feed(measured, 1)
    assert measured.values()["framerateLatest"] == 0.0
    feed(measured, 14, start=1)
    assert measured.framerate_latest == 30.0
    assert measured.bitrate_latest == 240_000


def test_a_stream_that_stops_falls_to_zero() -> None:
    now = 5 * NANOSECONDS
    measured = Measured(VIDEO, lambda: now)
    feed(measured, 100)
    assert measured.framerate_latest == 30.0
    now += 4 * NANOSECONDS
    assert (measured.bitrate_latest, measured.framerate_latest) == (0, 0.0)
    assert measured.framerate_avg == 30.0


def test_key_frame_intervals_before_and_after_the_second_key_frame() -> None:
    measured = Measured(VIDEO)
    for number, keyframe in enumerate([False, False, True, False, False, True, False, True]):
        measured.add(Packet(VIDEO, number, number, 1, keyframe, b"x"))
    assert measured.key_frame_interval_latest == 2.0
    assert measured.key_frame_interval_avg == 2.5
    assert measured.delta_frames_since_last_key_frame == 0


def test_b_frames_are_seen() -> None:
    measured = Measured(VIDEO)
    feed(measured, 10)
    assert not measured.reordered
    measured.add(Packet(VIDEO, 40_000, 31_000, 0, False, b""))
    measured.add(Packet(VIDEO, 35_000, 34_000, 0, False, b""))
    assert measured.reordered


def test_sound_has_bit_rates_alone() -> None:
    measured = Measured(AUDIO)
    for number in range(100):
        measured.add(Packet(AUDIO, number * 1024, number * 1024, 1024, True, bytes(341)))
    assert measured.values() == {"bitrateAvg": 127_875, "bitrateLatest": 127_875}


def test_a_new_timescale_goes_on_measuring() -> None:
    measured = Measured(AUDIO)
    slower = Track(id=1, generation=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=24_000)
    for number in range(100):
        measured.add(Packet(AUDIO, number * 1024, number * 1024, 1024, True, bytes(341)))
    for number in range(100, 200):
        measured.add(Packet(slower, number * 512, number * 512, 512, True, bytes(341)))
    assert measured.bitrate_avg == measured.bitrate_latest == 127_875


def test_a_packet_costs_little() -> None:
    measured = Measured(VIDEO, time.monotonic_ns)
    packets = [Packet(VIDEO, number * 3000, number * 3000, 3000, number % 60 == 0, b"x") for number in range(2000)]
    best = 1.0
    for _ in range(5):
        begin = time.perf_counter()
        for packet in packets:
            measured.add(packet)
        best = min(best, (time.perf_counter() - begin) / len(packets))
    assert best < 4e-6
