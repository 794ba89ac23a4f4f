"""The timeline: whatever the source's clock does, the stream's times run on."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.clock import NANOSECONDS
from appliance.media.timeline import Timeline
from appliance.media.track import Codec, MediaType, Track
from tests.media.timeline_bench import SECOND, Bench, picture, sound

RATES = {
    "23.976": Fraction(24000, 1001), "24": Fraction(24), "25": Fraction(25), "29.97": Fraction(30000, 1001),
    "30": Fraction(30), "50": Fraction(50), "59.94": Fraction(60000, 1001), "60": Fraction(60), "18": Fraction(18),
}  # fmt: skip
def ms(value: Fraction | int, timescale: int = SECOND) -> int:
    """A time in seconds as an RTMP source tells it: rounded to a millisecond, then in ticks."""
    return round(round(value * 1000) * Fraction(timescale, 1000))


def spacing(times: list[int]) -> set[int]:
    return {after - before for before, after in pairwise(times)}


# ---- constant rates that arrive rounded


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("rounding", ["nearest", "down"])
def test_a_known_rate_comes_out_exact_from_the_first_frame(name: str, rounding: str) -> None:
    rate, bench = RATES[name], Bench()
    track = picture(float(rate))
    source = []
    for number in range(1500):
        exact = 1000 * number / rate
        source.append((round(exact) if rounding == "nearest" else int(exact)) * 90)
        bench.send(track, source[-1])
    assert bench.dts(track) == [number * SECOND * rate.denominator // rate.numerator for number in range(1500)]
    assert max(abs(out - given) for out, given in zip(bench.dts(track), source, strict=True)) <= 135
    assert {duration for *_, duration in bench.out[0][:8]} == {0}
    assert {duration for *_, duration in bench.out[0][8:]} == spacing(bench.dts(track))
    assert bench.timeline.mended.regrids == 0


@pytest.mark.parametrize("name", RATES)
def test_an_untold_rate_is_found_and_comes_out_exact(name: str) -> None:
    rate, bench = RATES[name], Bench()
    track = picture()
    source = [ms(number / rate) for number in range(1500)]
    for given_dts in source:
        bench.send(track, given_dts)
    settled = bench.dts(track)[100:]
    first, last = settled[0], settled[-1]
    assert abs((last - first) - (len(settled) - 1) * SECOND / rate) <= 1
    whole = SECOND * rate.denominator % rate.numerator == 0
    assert max(spacing(settled)) - min(spacing(settled)) <= (0 if whole else 1)
    assert max(abs(out - given) for out, given in zip(bench.dts(track), source, strict=True)) <= 135


@pytest.mark.parametrize("rate", [44_100, 48_000, 32_000, 22_050, 96_000])
def test_sound_comes_out_sample_exact(rate: int) -> None:
    bench, track = Bench(), sound(rate)
    for number in range(3000):
        bench.send(track, ms(Fraction(1024 * number, rate), rate))
    assert bench.dts(track) == [1024 * number for number in range(3000)]
    assert {duration for *_, duration in bench.out[1]} == {1024}


def test_sound_durations_from_the_provider_count() -> None:
    bench, track = Bench(), sound(codec=Codec.OPUS)
    durations = [960, 960, 480, 120, 960, 2880, 960] * 50
    at = 0
    for duration in durations:
        bench.send(track, ms(Fraction(at, 48_000), 48_000), duration=duration)
        at += duration
    assert [after - before for before, after in pairwise(bench.dts(track))] == durations[:-1]


def test_frames_that_are_shown_later_come_out_exact_too() -> None:
    """Two B-frames: DTS run on, PTS are reordered, both rounded to a millisecond each for itself."""
    rate, bench = RATES["29.97"], Bench()
    track = picture(float(rate))
    for number in range(1200):
        shown = (number - 1) // 3 * 3 + (3, 1, 2)[(number - 1) % 3] if number else 0
        bench.send(track, ms(number / rate), ms((shown + 2) / rate))
    assert sorted(bench.pts(track))[:1100] == [3003 * (number + 2) for number in range(1100)]
    assert bench.dts(track) == [3003 * number for number in range(1200)]


def test_missing_frames_leave_the_rest_on_the_grid() -> None:
    bench, track = Bench(), picture(30.0)
    numbers = [number for number in range(600) if number % 7 and number % 31]
    for number in numbers:
        bench.send(track, ms(Fraction(number, 30)))
    first = numbers[0]
    assert bench.dts(track) == [3000 * (number - first) for number in numbers]


def test_a_lost_sound_frame_leaves_a_gap_of_exactly_one_frame() -> None:
    bench, track = Bench(), sound(44_100)
    numbers = [number for number in range(600) if number % 50 != 49]
    for number in numbers:
        bench.send(track, ms(Fraction(1024 * number, 44_100), 44_100))
    assert bench.dts(track) == [1024 * number for number in numbers]
    assert bench.timeline.mended.regrids == 0


def test_a_wrongly_told_rate_is_given_up_and_the_true_one_found() -> None:
    bench, track = Bench(), picture(30.0)
    rate = RATES["29.97"]
    source = [ms(number / rate) for number in range(3000)]
    for given_dts in source:
        bench.send(track, given_dts)
    assert spacing(bench.dts(track)[-1000:]) == {3003}
    assert max(abs(out - given) for out, given in zip(bench.dts(track), source, strict=True)) <= 180


@pytest.mark.parametrize(("told", "true"), [("60", "30"), ("50", "25"), ("59.94", "29.97"), ("60", "15"), ("24", "24")])
def test_a_rate_told_too_high_is_corrected_and_durations_are_never_wrong(told: str, true: str) -> None:
    """Encoders write the field rate, or twice the rate, into the SPS."""
    bench, track, rate = Bench(), picture(float(RATES[told])), RATES.get(true, Fraction(15))
    source = [ms(number / rate) for number in range(500)]
    for given_dts in source:
        bench.send(track, given_dts)
    period = SECOND / rate
    assert spacing(bench.dts(track)) <= {int(period), -int(-period // 1)}
    for (_, dts, duration), (_, following, _) in pairwise(bench.out[0]):
        assert duration in (0, following - dts)
    assert all(duration for *_, duration in bench.out[0][30:])
    assert max(abs(out - given) for out, given in zip(bench.dts(track), source, strict=True)) <= 135


def test_durations_of_a_variable_rate_are_left_to_the_next_frame() -> None:
    dice = random.Random(5)
    bench, track = Bench(), picture(30.0)
    at = 0
    for _ in range(500):
        bench.send(track, at)
        at += dice.choice([3000, 6000, 9000])
    wrong = sum(duration not in (0, after - dts) for (_, dts, duration), (_, after, _) in pairwise(bench.out[0]))
    assert wrong <= 2


def test_a_slow_clock_is_followed_in_small_counted_steps() -> None:
    """A camera 200 millionths slow, and sound 100 millionths fast: never further off than 2 ms and 3 ms."""
    bench, track = Bench(), picture(30.0)
    for number in range(30 * 300):
        given_dts = ms(Fraction(number, 30) * Fraction(10_002, 10_000))
        assert abs(bench.send(track, given_dts) - given_dts) <= 180
    assert 20 <= bench.timeline.mended.regrids <= 60
    bench, heard = Bench(), sound()
    for number in range(47 * 300):
        given_dts = ms(Fraction(1024 * number, 48_000) * Fraction(9_999, 10_000), 48_000)
        assert abs(bench.send(heard, given_dts) - given_dts) <= 144
    assert 5 <= bench.timeline.mended.regrids <= 30
    assert bench.timeline.mended.dts == 0


# ---- variable rates


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 30.0, 25.0, 60.0]))
def test_variable_frame_rates_pass_within_two_milliseconds(seed: int, told: float) -> None:
    dice = random.Random(seed)
    bench, track = Bench(), picture(told)
    at = 0
    first = None
    for _ in range(400):
        out = bench.send(track, at)
        first = at if first is None else first
        assert abs(out - (at - first)) <= 180
        at += dice.choice([3000, 3000, 6000, dice.randint(400, 9000), 1500])


def test_a_camera_with_jitter_keeps_its_times() -> None:
    dice = random.Random(4)
    bench, track = Bench(), picture()
    source = [0, *(number * 3000 + dice.randint(-900, 900) for number in range(1, 500))]
    for given_dts in source:
        bench.send(track, given_dts)
    assert bench.dts(track) == source


# ---- sound with picture


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-(2**31), 2**31),
    st.integers(0, 9_000),
    st.sampled_from(sorted(RATES)),
    st.sampled_from([44_100, 48_000]),
)
def test_sound_stays_with_picture(start_ms: int, lead_ms: int, name: str, samples: int) -> None:
    """Any start, sound up to 9 s before or after the picture: the offset between them stays within 2 ms."""
    rate, bench = RATES[name], Bench()
    track, heard = picture(float(rate)), sound(samples)
    packets: list[tuple[Fraction, Track]] = [(number / rate, track) for number in range(300)]
    packets += [(Fraction(1024 * number, samples) + Fraction(lead_ms, 1000), heard) for number in range(300)]
    packets.sort(key=lambda packet: packet[0])
    offsets = []
    for at, of in packets:
        source = ms(at + Fraction(start_ms, 1000), of.timescale)
        out = bench.send(of, source)
        offsets.append(Fraction(out, of.timescale) - at)
    assert max(offsets) - min(offsets) <= Fraction(2, 1000)
    assert bench.out[packets[0][1].id][0][1] == 0


def test_a_track_that_starts_before_the_first_packet_moves_everything_on() -> None:
    """MPEG-TS: sound comes half a second late in the multiplex, so it starts before the picture that came first."""
    bench, track, heard = Bench(), picture(25.0), sound()
    source = 5 * SECOND
    for number in range(5):
        bench.send(track, source + number * 3600)
    for number in range(40):
        bench.send(heard, 5 * 48_000 - 24_000 + number * 1024)
    for number in range(5, 30):
        bench.send(track, source + number * 3600)
    assert bench.dts(heard) == [1024 * number for number in range(40)]
    assert bench.dts(track)[:5] == [3600 * number for number in range(5)]
    assert bench.dts(track)[5:] == [SECOND // 2 + 3600 * number for number in range(5, 30)]
    assert bench.timeline.mended.overlaps == 1


# ---- jumps


def live(
    bench: Bench,
    tracks: list[Track],
    start: Fraction,
    seconds: Fraction,
    *,
    bits: int = 0,
    late: dict[int, Fraction] | None = None,
) -> Iterator[tuple[Track, Fraction, int]]:
    """Send 30 frames and 46.875 sound packets a second from source time ``start`` on, the clock going along.

    ``late``: seconds that a track's packets arrive late. Yields (track, source seconds, DTS).
    """
    packets = []
    for track in tracks:
        step = Fraction(1, 30) if track.is_video else Fraction(1024, 48_000)
        count = int(seconds / step)
        delay = (late or {}).get(track.id, Fraction(0))
        packets += [(step * number + delay, step * number, track) for number in range(count)]
    packets.sort(key=lambda packet: packet[:2])
    began = bench.now
    for arrival, at, track in packets:
        bench.now = began + int(arrival * NANOSECONDS)
        clock = {33: 90_000, 32: 1000}.get(bits, track.timescale)
        source = round((start + at) * track.timescale)
        if bits:
            source %= round(Fraction((1 << bits) * track.timescale, clock))
        yield track, start + at, bench.send(track, source, wrap_bits=bits)
    bench.now = began + int(seconds * NANOSECONDS)


@pytest.mark.parametrize("jump", [-3600, -20, -1, 11, 3600, 10**9])
@pytest.mark.parametrize("first", ["picture first", "sound first"])
def test_after_a_jump_the_stream_goes_on_without_a_gap_and_in_sync(jump: int, first: str) -> None:
    bench, tracks = Bench(), [picture(30.0), sound()]
    late = {0: Fraction(1, 10)} if first == "sound first" else {1: Fraction(1, 10)}
    outs = list(live(bench, tracks, Fraction(100), Fraction(10), late=late))
    before = len(outs)
    outs += list(live(bench, tracks, Fraction(110 + jump), Fraction(10), late=late))
    offsets = [Fraction(dts, track.timescale) - at for track, at, dts in outs[before + 20 :]]
    assert max(offsets) - min(offsets) <= Fraction(2, 1000)
    for track in tracks:
        assert max(spacing(bench.dts(track))) <= track.timescale * Fraction(15, 100)
        assert min(spacing(bench.dts(track))) >= track.timescale // 61
    assert bench.timeline.mended.jumps == 1
    assert bench.timeline.mended.dts == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**6), st.sampled_from([0, 2]), st.booleans()), min_size=2, max_size=5),
    st.booleans(),
)
def test_after_a_jump_no_frame_is_shown_before_or_with_an_older_one(
    segments: list[tuple[int, int, bool]], told: bool
) -> None:
    """Encoders with and without B-frames follow each other, with and without an encoder delay."""
    bench, track = Bench(), picture(30.0 if told else 0.0)
    shown: list[list[int]] = []
    at = 0
    for jump, b_frames, delayed in segments:
        at += jump * 1000
        if abs(jump * 1000) < 10 * SECOND and jump * 1000 > -SECOND:
            at += 11 * SECOND
        shown.append([])
        for number in range(61):
            position = (number - 1) // 3 * 3 + (3, 1, 2)[(number - 1) % 3] if number and b_frames else number
            pts = (position + (b_frames if delayed else 0)) * 3000
            bench.send(track, at + number * 3000, at + pts)
            shown[-1].append(bench.out[0][-1][0])
        at += 61 * 3000
    for before, after in pairwise(shown):
        assert max(before) < min(after)
    assert all(pts >= dts for pts, dts, _ in bench.out[0])
    assert all(after > before for before, after in pairwise(bench.dts(track)))


def test_after_a_pause_the_stream_goes_on_where_the_clock_is() -> None:
    bench, tracks = Bench(), [picture(30.0), sound()]
    list(live(bench, tracks, Fraction(0), Fraction(5)))
    bench.now += 60 * NANOSECONDS
    outs = list(live(bench, tracks, Fraction(0), Fraction(5)))
    assert outs[0][2] == 65 * SECOND
    assert abs(bench.timeline.drift_ns) < NANOSECONDS // 10


@pytest.mark.parametrize("gap", [Fraction(1), Fraction(9, 1), Fraction(999, 100), Fraction(10), Fraction(1001, 100)])
def test_gaps_of_a_source_whose_clock_goes_on_stay_what_they_are(gap: Fraction) -> None:
    """At the border between a gap and a jump both tracks are treated alike."""
    bench, tracks = Bench(), [picture(30.0), sound()]
    list(live(bench, tracks, Fraction(0), Fraction(5)))
    bench.now += int(gap * NANOSECONDS)
    outs = list(live(bench, tracks, Fraction(5) + gap, Fraction(5)))
    offsets = [Fraction(dts, track.timescale) - at for track, at, dts in outs]
    assert max(offsets) - min(offsets) <= Fraction(2, 1000)
    assert abs(offsets[0]) <= Fraction(40, 1000)


def test_one_track_may_be_silent_for_long_while_the_other_goes_on() -> None:
    bench, track, heard = Bench(), picture(30.0), sound()
    # Whole frames of both in each stretch.
    list(live(bench, [track, heard], Fraction(0), Fraction(32, 15)))
    list(live(bench, [heard], Fraction(32, 15), Fraction(32)))
    outs = list(live(bench, [track, heard], Fraction(512, 15), Fraction(2)))
    offsets = [Fraction(dts, of.timescale) - at for of, at, dts in outs]
    assert max(abs(offset) for offset in offsets) <= Fraction(2, 1000)
    assert bench.timeline.mended.jumps == 0


def test_tracks_of_different_clocks_each_keep_their_own_pace() -> None:
    bench, track, heard = Bench(), picture(30.0), sound()
    for number in range(300):
        bench.send(track, 10**9 + number * 3000)
        bench.send(heard, number * 1600, duration=1600)
    assert spacing(bench.dts(track)) == {3000}
    assert spacing(bench.dts(heard)) == {1600}
    assert bench.timeline.mended.jumps == 1


def test_a_late_track_joins_where_the_others_are() -> None:
    bench, track, heard = Bench(), picture(30.0), sound()
    list(live(bench, [track], Fraction(50), Fraction(15)))
    outs = list(live(bench, [track, heard], Fraction(65), Fraction(2)))
    assert next(dts for of, _, dts in outs if of is heard) == 15 * 48_000
    assert bench.timeline.mended.jumps == 0


@pytest.mark.parametrize("bits", [32, 33])
def test_counters_that_wrap_are_unwrapped(bits: int) -> None:
    wraps_at = Fraction(1 << bits, 1000 if bits == 32 else 90_000)
    bench, tracks = Bench(), [picture(30.0), sound()]
    outs = list(live(bench, tracks, wraps_at - 3, Fraction(6), bits=bits))
    offsets = [Fraction(dts, track.timescale) - at for track, at, dts in outs]
    assert max(offsets) - min(offsets) <= Fraction(1, 1000)
    assert bench.timeline.mended.as_dict() == dict.fromkeys(bench.timeline.mended.as_dict(), 0)


def test_a_track_that_starts_after_the_wrap_joins_the_one_that_started_before() -> None:
    bench, track, heard = Bench(), picture(30.0), sound()
    for number in range(60):
        bench.send(track, ((1 << 33) - 90_000 + number * 3000) % (1 << 33), wrap_bits=33)
    assert bench.send(heard, 48_000, wrap_bits=33) == 2 * 48_000


def test_pts_may_wrap_before_dts() -> None:
    bench, track = Bench(), picture(25.0)
    for number in range(10):
        dts = (1 << 33) - 5 * 3600 + number * 3600
        bench.send(track, dts % (1 << 33), (dts + 7200) % (1 << 33), wrap_bits=33)
    assert bench.pts(track) == [7200 + 3600 * number for number in range(10)]


# ---- what single packets do wrong


def test_times_that_do_not_increase_move_on_by_a_tick() -> None:
    bench, track = Bench(), picture()
    for given_dts in (0, 3000, 3000, 2000, 6000, 9000):
        bench.send(track, given_dts)
    assert bench.dts(track) == [0, 3000, 3001, 3002, 6000, 9000]
    assert bench.timeline.mended.dts == 2


def test_a_source_clock_that_stands_still_is_anchored_to_ours() -> None:
    bench, track = Bench(), picture()
    for number in range(300):
        bench.now = number * NANOSECONDS // 30
        bench.send(track, 1234)
    dts = bench.dts(track)
    assert all(after > before for before, after in pairwise(dts))
    assert bench.timeline.mended.stuck >= 8
    assert abs(dts[-1] - bench.now * SECOND // NANOSECONDS) <= 2 * SECOND


def test_negative_composition_offsets_move_dts_once_and_leave_every_pts() -> None:
    """A muxer that writes signed composition offsets: PTS 0 3 1 2 with DTS 0 1 2 3. One PTS gives way by a tick."""
    bench, track = Bench(), picture(30.0)
    shown = [0, *(base + step for base in range(0, 300, 3) for step in (3, 1, 2))]
    for number, position in enumerate(shown):
        bench.send(track, number * 3000, position * 3000)
    moved = [pts - position * 3000 for pts, position in zip(bench.pts(track), shown, strict=True)]
    assert [shift for shift in moved if shift] == [1]
    assert all(pts >= dts for pts, dts, _ in bench.out[0])
    assert spacing(bench.dts(track)[5:]) == {3000}
    assert bench.timeline.mended.reorders == 1


def test_a_stream_that_begins_with_a_negative_composition_offset_begins_at_zero() -> None:
    bench, track = Bench(), picture(30.0)
    for number in range(30):
        bench.send(track, 9000 + number * 3000, 3000 + number * 3000)
    assert bench.out[0][0][:2] == (0, 0)
    assert [pts for pts, _, _ in bench.out[0]] == [3000 * number for number in range(30)]


def test_absurd_presentation_times_are_mended() -> None:
    bench, track = Bench(), picture(30.0)
    bench.send(track, 0, 0)
    bench.send(track, 3000, 10**9)
    bench.send(track, 6000, -(10**9))
    assert bench.pts(track) == bench.dts(track) == [0, 3000, 6000]
    assert bench.timeline.mended.pts == 2


def test_a_new_generation_goes_on_in_its_own_timescale() -> None:
    bench, old, new = Bench(), sound(44_100), sound(48_000)
    for number in range(100):
        bench.send(old, number * 1024)
    end = 100 * Fraction(1024, 44_100)
    for number in range(100):
        bench.send(new, round(end * 48_000) + number * 1024)
    moved = bench.dts(new)[100:]
    assert abs(moved[0] - end * 48_000) <= 1
    assert spacing(moved) == {1024}


def test_a_new_picture_configuration_keeps_the_grid() -> None:
    bench = Bench()
    tracks = [picture(30.0), picture(30.0, generation=1)]
    for number in range(100):
        bench.send(tracks[number // 50], ms(Fraction(number, 30)))
    assert spacing(bench.dts(tracks[0])) == {3000}


def test_drift_is_measured_and_alters_nothing() -> None:
    """A source whose clock runs a hundredth fast."""
    bench, track = Bench(epoch=7), picture()
    for number in range(30 * 600):
        bench.now = 7 + number * NANOSECONDS // 30
        bench.send(track, number * 3030)
    assert bench.dts(track)[-1] == (30 * 600 - 1) * 3030
    assert bench.timeline.drift_ns == pytest.approx(6 * NANOSECONDS, rel=0.01)
    assert bench.timeline.drifting


# ---- whatever comes

_TIME = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-200_000, 200_000),
    st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**33 - 1, 900_000]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), _TIME, _TIME, st.integers(-(2**33), 2**33), st.sampled_from([0, 0, 32, 33]),
            st.integers(0, 20 * NANOSECONDS),
        ),
        max_size=120,
    )
)  # fmt: skip
def test_whatever_comes_times_increase(packets: list[tuple[int, int, int, int, int, int]]) -> None:
    bench = Bench()
    events = Track(id=2, media=MediaType.DATA, codec=Codec.ID3, timescale=1000)
    tracks = [picture(), picture(30.0, 0), sound(), sound(44_100), events]
    last: dict[int, Fraction] = {}
    for which, pts, dts, duration, bits, passed in packets:
        bench.now += passed
        track = tracks[which]
        bench.send(track, dts, pts, duration, bits)
        shown, decoded, lasts = bench.out[track.id][-1]
        at = Fraction(decoded, track.timescale)
        assert at > last.get(track.id, Fraction(-1))
        assert decoded <= shown <= decoded + 11 * track.timescale
        assert 0 <= lasts <= 10 * track.timescale
        last[track.id] = at


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-60_000, 60_000)), max_size=200), st.integers(0, 3))
def test_whatever_the_steps_are_times_increase(steps: list[tuple[int, int]], wobble: int) -> None:
    """Steps of a source that is roughly alive, sound and picture mixed."""
    bench, tracks = Bench(), [picture(25.0), sound()]
    at = [0, 0]
    for which, step in steps:
        bench.now += 40_000_000
        at[which] += step if step % 4 == wobble else 3600
        bench.send(tracks[which], at[which])
    for track in tracks:
        if track.id in bench.out:
            assert all(after > before for before, after in pairwise(bench.dts(track)))


def test_a_stamp_costs_little() -> None:
    """Two microseconds is the aim; the limit leaves room for a busy machine."""
    track, heard = picture(30.0), sound()
    timeline = Timeline(time.monotonic_ns, time.monotonic_ns())
    best = 1.0
    for round_ in range(10):
        begin = time.perf_counter()
        for number in range(round_ * 1000, round_ * 1000 + 1000):
            timeline.stamp(track, number * 3000 + 6000, number * 3000)
            timeline.stamp(heard, number * 1600, number * 1600, 1600)
        best = min(best, (time.perf_counter() - begin) / 2000)
    assert best < 8e-6
