from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.publishers.llhls.packager import Packager
from appliance.publishers.llhls.tracks import SHORTEST_PART, TrackPackager
from appliance.publishers.llhls.window import Boundary, Part, Segment, TrackWindow
from tests.conformance.llhls.mp4 import Sample, parse_fragments, parse_init
from tests.publishers.llhls.kit import AVCC, Feed, audio_track, video_track
from tests.publishers.llhls.media import encoded

ONE_SECOND = 90000


class Keeping(TrackWindow):
    """Remembers every segment, whatever leaves the playlist."""

    every: list[Segment]

    def open(self, boundary: Boundary, pts: int, timescale: int) -> None:
        super().open(boundary, pts, timescale)
        assert self.current is not None
        self.every.append(self.current)

    def skip(self, boundary: Boundary, duration: float) -> None:
        super().skip(boundary, duration)
        self.every.append(self.listed[-1])


@dataclass
class Bench:
    """A packager with everything that it writes."""

    tracks: Sequence[Track]
    segment_duration: float = 2.0
    part_duration: float = 0.5
    offset: int = 0
    targets: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.windows: dict[int, Keeping] = {}
        self.numbers = iter(range(100, 100000))
        packagers = []
        for track in self.tracks:
            window = Keeping(track, "key", 5, {}, lambda _: None)
            window.every = []
            self.windows[track.id] = window
            packagers.append(TrackPackager(track, window, self.part_duration))
        self.packager = Packager(
            "v/a/s",
            packagers,
            self.segment_duration,
            number=lambda: next(self.numbers),
            wall_offset=lambda: self.offset,
            on_target=self._target,
            on_discontinuity=lambda: None,
        )

    def _target(self, seconds: int) -> None:
        self.targets.append(seconds)
        for window in self.windows.values():
            window.target_duration = seconds

    def push(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self.packager.push(packet)

    def finish(self) -> None:
        self.packager.finish()

    def segments(self, track_id: int) -> list[Segment]:
        return [segment for segment in self.windows[track_id].every if segment.parts or segment.gap]

    def parts(self, track_id: int) -> list[Part]:
        return [part for segment in self.segments(track_id) for part in segment.parts]

    def samples(self, track_id: int) -> list[Sample]:
        found = []
        for segment in self.segments(track_id):
            init = parse_init(segment.init.payload)
            for part in segment.parts:
                (fragment,) = parse_fragments(init, part.payload)
                found += fragment
        return found


def feed_packets(feed: Feed, seconds: float) -> list[Packet]:
    return [packet for _, packet in feed.packets(seconds)]


def check_parts(bench: Bench) -> None:
    """Parts by their own boxes: never over the target, none too short but the last of a segment."""
    for track in bench.tracks:
        target = bench.windows[track.id].part_target
        for segment in bench.segments(track.id):
            init = parse_init(segment.init.payload)
            for part in segment.parts:
                (samples,) = parse_fragments(init, part.payload)
                duration = sum(sample.duration for sample in samples) / init.timescale
                assert duration == pytest.approx(part.duration)
                assert duration <= target + 1e-9
                assert part.independent == samples[0].sync
                if part is not segment.parts[-1]:
                    assert duration >= SHORTEST_PART * target - 1e-9
            assert segment.duration == pytest.approx(sum(part.duration for part in segment.parts) or segment.duration)
            assert round(segment.duration) <= bench.packager.target_duration


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("gop", [15, 30, 45, 60, 50])
def test_segments_begin_at_the_same_moment_under_the_same_number(known: bool, gop: int) -> None:
    video, audio = video_track(), audio_track()
    bench = Bench([video, audio])
    bench.push(feed_packets(Feed([video, audio], gop=gop, known_durations=known), 30))
    bench.finish()
    check_parts(bench)
    pictures, sounds = bench.segments(0), bench.segments(1)
    assert [segment.msn for segment in pictures] == [segment.msn for segment in sounds]
    assert [segment.msn for segment in pictures] == list(range(100, 100 + len(pictures)))
    for picture, sound in zip(pictures, sounds, strict=True):
        first = parse_fragments(parse_init(picture.init.payload), picture.parts[0].payload)[0][0]
        heard = parse_fragments(parse_init(sound.init.payload), sound.parts[0].payload)[0][0]
        assert first.sync
        assert 0 <= heard.pts / 48000 - first.pts / 90000 < 1024 / 48000
    assert len(bench.samples(0)) == 900
    assert len(bench.samples(1)) == pytest.approx(30 * 48000 / 1024, abs=1)


def test_audio_ahead_of_its_video_waits_for_it() -> None:
    video, audio = video_track(), audio_track()
    pictures = feed_packets(Feed([video]), 8)
    sounds = feed_packets(Feed([audio]), 8)
    bench = Bench([video, audio])
    # Audio comes 0.4 s early, in lumps.
    while pictures or sounds:
        heard = sounds[0].dts / 48000 if sounds else 99.0
        if (pictures and pictures[0].dts / 90000 <= heard - 0.4) or not sounds:
            bench.push([pictures.pop(0)])
        else:
            bench.push(sounds[:5])
            del sounds[:5]
    bench.finish()
    check_parts(bench)
    for picture, sound in zip(bench.segments(0), bench.segments(1), strict=True):
        assert abs(picture.duration - sound.duration) < 0.03


def test_three_renditions_cut_at_the_same_key_frames() -> None:
    tracks = [video_track(0), video_track(1, has_b_frames=True), video_track(2, timescale=30000), audio_track(3)]
    bench = Bench(tracks)
    bench.push(feed_packets(Feed(tracks, gop=30, reorder={1: 6006}), 20))
    bench.finish()
    check_parts(bench)
    numbers = [[segment.msn for segment in bench.segments(track.id)] for track in tracks]
    assert numbers[0] == numbers[1] == numbers[2] == numbers[3]
    for each in zip(*(bench.segments(track) for track in (0, 1, 2)), strict=True):
        starts = set()
        for segment in each:
            init = parse_init(segment.init.payload)
            sample = parse_fragments(init, segment.parts[0].payload)[0][0]
            assert sample.sync
            starts.add(round((sample.pts - (6006 if segment.init.track.id == 1 else 0)) / init.timescale, 2))
        assert len(starts) == 1


def test_the_target_duration_is_the_first_gop_rounded_up() -> None:
    video = video_track()
    bench = Bench([video])
    bench.push(feed_packets(Feed([video], gop=75), 20))
    assert bench.targets == [3]
    bench = Bench([video], segment_duration=6.0)
    bench.push(feed_packets(Feed([video], gop=75), 20))
    bench.finish()
    assert bench.targets == [6]
    # 3 x 2.5 s would be longer than 6.
    assert {segment.duration for segment in bench.segments(0)[:-1]} == {5.0}
    check_parts(bench)


def test_a_later_long_gop_is_cut_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    video, audio = video_track(), audio_track()
    feed = Feed([video, audio], gop=60)
    bench = Bench([video, audio])
    bench.push(feed_packets(feed, 8))
    feed.gop = 3000
    bench.push(feed_packets(feed, 10))
    bench.finish()
    check_parts(bench)
    assert bench.targets == [2]
    assert bench.packager.long_gops >= 3
    assert "cut without" in caplog.text
    assert [one.msn for one in bench.segments(0)] == [one.msn for one in bench.segments(1)]
    forced = [segment for segment in bench.segments(0) if not segment.boundary.independent]
    assert forced
    assert not any(segment.parts[0].independent for segment in forced)


def test_a_first_gop_without_end_is_cut_too() -> None:
    video = video_track()
    bench = Bench([video])
    bench.push(feed_packets(Feed([video], gop=100000), 50))
    bench.finish()
    assert bench.targets == [20]
    check_parts(bench)


def test_audio_alone_needs_no_key_frame() -> None:
    audio = audio_track()
    bench = Bench([audio], segment_duration=4.0)
    bench.push(feed_packets(Feed([audio], known_durations=True), 20))
    bench.finish()
    assert bench.targets == [4]
    assert all(abs(segment.duration - 4) < 0.022 for segment in bench.segments(1)[:-1])
    assert bench.windows[1].part_target == pytest.approx(23 * 1024 / 48000, abs=1e-6)
    check_parts(bench)


@pytest.mark.parametrize(
    ("rate", "wished", "target"),
    [
        (30, 0.5, 0.5),
        (30000 / 1001, 0.5, 0.5005),
        (25, 0.5, 0.48),
        (50, 0.2, 0.2),
        (60, 1.0, 1.0),
        (5, 0.5, 0.4),
        # A single frame says nothing about jitter: some room is left.
        (1, 0.5, 1.05),
    ],
)
def test_the_part_target_is_a_whole_number_of_frames(rate: float, wished: float, target: float) -> None:
    video = video_track()
    bench = Bench([video], part_duration=wished)
    bench.push(feed_packets(Feed([video], frame_rate=rate, gop=max(1, round(rate)), known_durations=True), 20))
    bench.finish()
    assert bench.windows[0].part_target == pytest.approx(target, abs=0.003)
    check_parts(bench)


def test_millisecond_times_keep_parts_even() -> None:
    """RTMP tells times in whole milliseconds: 33, 33, 34 …"""
    video = video_track()
    packets = [
        Packet(video, round(number * 1000 / 30) * 90, round(number * 1000 / 30) * 90, 0, number % 60 == 0, b"x")
        for number in range(900)
    ]
    bench = Bench([video])
    bench.push(packets)
    bench.finish()
    check_parts(bench)
    init = parse_init(bench.segments(0)[0].init.payload)
    assert {len(parse_fragments(init, part.payload)[0]) for part in bench.parts(0)} == {15}


def test_a_new_configuration_is_a_discontinuity_in_every_track() -> None:
    video, audio = video_track(), audio_track()
    feed = Feed([video, audio], gop=60)
    bench = Bench([video, audio])
    bench.push(feed_packets(feed, 6))
    changed = video_track(generation=1, codec_config=AVCC[:-1] + b"\x30", width=640, height=360)
    feed.tracks = [changed, audio]
    bench.push(feed_packets(feed, 6))
    bench.finish()
    check_parts(bench)
    marked = [[one.msn for one in bench.segments(track) if one.boundary.discontinuity] for track in (0, 1)]
    assert marked == [[103], [103]]
    names = {segment.init.name for segment in bench.segments(0)}
    assert names == {"init_0_video_key_llhls.m4s", "init_0_video_key_1_llhls.m4s"}
    assert {segment.init.name for segment in bench.segments(1)} == {"init_1_audio_key_llhls.m4s"}
    assert len(bench.samples(0)) == 360


@pytest.mark.parametrize("late", [-0.3, 0.05, 0.3])
def test_both_tracks_change_about_the_same_time(late: float) -> None:
    """A source that is replaced changes both configurations, never at quite the same moment."""
    video, audio = video_track(), audio_track()
    new_video = video_track(generation=1, width=640)
    new_audio = audio_track(generation=1, timescale=44100, sample_rate=44100, codec_config=bytes.fromhex("1210"))
    packets = []
    for at, packet in Feed([video, audio], gop=60).packets(12):
        if packet.track is video and at >= 6:
            packet = Packet(new_video, packet.pts, packet.dts, 0, packet.keyframe, packet.payload)
        elif packet.track is audio and at >= 6 + late:
            packet = Packet(new_audio, round(at * 44100), round(at * 44100), 0, True, packet.payload)
        packets.append(packet)
    bench = Bench([video, audio])
    bench.push(packets)
    bench.finish()
    check_parts(bench)
    for track in (0, 1):
        segments = bench.segments(track)
        assert [one.msn for one in segments] == list(range(100, 100 + len(segments)))
        inits = [segment.init.name for segment in segments]
        for before, after in pairwise(segments):
            if before.init is not after.init:
                assert after.boundary.discontinuity
        assert len(set(inits)) == 2
    marks = [
        {one.msn: (one.boundary.discontinuity, one.boundary.discontinuities) for one in bench.segments(track)}
        for track in (0, 1)
    ]
    shared = marks[0].keys() & marks[1].keys()
    assert all(marks[0][msn] == marks[1][msn] for msn in shared)
    assert len(shared) >= 5


def test_video_that_stops_leaves_gaps_and_comes_back() -> None:
    video, audio = video_track(), audio_track()
    packets = [
        packet
        for at, packet in Feed([video, audio], gop=60).packets(40)
        if packet.track is audio or at < 10.5 or at >= 25.5
    ]
    bench = Bench([video, audio])
    bench.push(packets)
    bench.finish()
    check_parts(bench)
    pictures, sounds = bench.segments(0), bench.segments(1)
    assert [one.msn for one in pictures] == [one.msn for one in sounds] == list(range(100, 100 + len(pictures)))
    assert any(one.gap for one in pictures)
    assert not any(one.gap for one in sounds)
    assert all(one.parts[0].independent for one in pictures if not one.gap)
    # Audio lost nothing.
    assert len(bench.samples(1)) == len([packet for packet in packets if packet.track is audio])
    # The playlist's own time runs on: gaps are as long as what they stand for.
    ends = [sum(one.duration for one in row) for row in (pictures, sounds)]
    assert ends[0] == pytest.approx(ends[1], abs=2.2)


def test_audio_that_stops_leaves_gaps_and_comes_back() -> None:
    video, audio = video_track(), audio_track()
    packets = [
        packet
        for at, packet in Feed([video, audio], gop=60).packets(40)
        if packet.track is video or at < 10.5 or at >= 25.5
    ]
    bench = Bench([video, audio])
    bench.push(packets)
    bench.finish()
    check_parts(bench)
    assert [one.msn for one in bench.segments(0)] == [one.msn for one in bench.segments(1)]
    assert any(one.gap for one in bench.segments(1))
    assert len(bench.samples(0)) == 1200


@pytest.mark.parametrize(
    ("missing", "seconds", "complete"),
    [("audio", 3, False), ("audio", 6, True), ("video", 8, False), ("video", 12, True)],
)
def test_a_track_that_never_comes_is_waited_for_a_while(missing: str, seconds: float, complete: bool) -> None:
    video, audio = video_track(), audio_track()
    bench = Bench([video, audio])
    bench.push(feed_packets(Feed([video if missing == "audio" else audio]), seconds))
    assert bench.packager.complete is complete
    assert bench.windows[1].started is (missing == "video" and complete)


def test_a_pause_of_the_whole_source_is_no_absence() -> None:
    video, audio = video_track(), audio_track()
    feed = Feed([video, audio], gop=60)
    bench = Bench([video, audio])
    before = feed_packets(feed, 7)
    after = [
        structs.replace(one, pts=one.pts + 10 * one.track.timescale, dts=one.dts + 10 * one.track.timescale)
        for one in feed_packets(feed, 7)
    ]
    bench.push(before + after)
    bench.finish()
    check_parts(bench)
    assert bench.packager.departures == 0
    assert len(bench.samples(0)) == 420
    assert [one.msn for one in bench.segments(0)] == [one.msn for one in bench.segments(1)]
    marks = [[one.msn for one in bench.segments(track) if one.boundary.discontinuity] for track in (0, 1)]
    assert marks[0] == marks[1]
    assert len(marks[0]) == 1
    # The time line of the media has the hole that the source made.
    times = [sample.pts / 90000 for sample in bench.samples(0)]
    assert max(b - a for a, b in pairwise(times)) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("missing", [2, 9, 13, 14, 20, 40])
def test_frames_that_are_missing_make_no_short_parts(missing: int) -> None:
    """An encoder that can't keep up leaves frames out: the last one before stands longer."""
    video, audio = video_track(), audio_track()
    packets = [
        packet
        for at, packet in Feed([video, audio], gop=60).packets(20)
        if packet.track is audio or not 5.13 < at < 5.13 + missing / 30
    ]
    bench = Bench([video, audio])
    bench.push(packets)
    bench.finish()
    check_parts(bench)
    assert bench.packager.departures == 0
    assert [one.msn for one in bench.segments(0)] == [one.msn for one in bench.segments(1)]
    assert [sample.payload for sample in bench.samples(0)] == [one.payload for one in packets if one.track is video]


def test_real_b_frames_keep_their_times() -> None:
    track, packets = encoded(Codec.H264)
    bench = Bench([track], part_duration=0.2)
    bench.push(packets)
    bench.finish()
    got = [(one.pts - 90000, one.dts - 90000, one.sync, one.payload) for one in bench.samples(0)]
    assert got == [(one.pts, one.dts, one.keyframe, one.payload) for one in packets]


def test_an_av1_temporal_delimiter_is_left_out() -> None:
    track = video_track(codec=Codec.AV1, codec_config=bytes([0x81, 0x05, 0x0C, 0]))
    bench = Bench([track])
    bench.push(Packet(track, number * 3000, number * 3000, 3000, number == 0, b"\x12\0frame") for number in range(90))
    bench.finish()
    assert {sample.payload for sample in bench.samples(0)} == {b"frame"}


@dataclass(frozen=True)
class Timing:
    """Any video timing that a time line may give: strictly rising dts, jitter, holes, key frames anywhere."""

    seed: int
    frames: int
    known: bool
    with_audio: bool
    steps: tuple[int, int]
    holes: float

    def packets(self) -> list[Packet]:
        chance = random.Random(self.seed)
        video, audio = video_track(), audio_track()
        packets = []
        dts = chance.randint(-9000, 900000)
        audio_dts = max(0, dts) * 48000 // 90000
        for number in range(self.frames):
            step = 900000 if chance.random() < self.holes else chance.randint(*self.steps)
            key = number == 0 or chance.random() < 0.03
            pts = dts + chance.choice([0, 0, 3000, 6000])
            packets.append(Packet(video, pts, dts, step if self.known else 0, key, b"v%d" % number))
            dts += step
            while self.with_audio and audio_dts * 90000 < dts * 48000:
                packets.append(Packet(audio, audio_dts, audio_dts, 1024 if self.known else 0, True, b"a%d" % audio_dts))
                audio_dts += 1024
        return packets


TIMINGS = st.builds(
    Timing,
    seed=st.integers(0, 2**32),
    frames=st.integers(1, 300),
    known=st.booleans(),
    with_audio=st.booleans(),
    steps=st.sampled_from([(3000, 3000), (2900, 3100), (1, 20000), (3003, 3003), (40000, 50000), (200000, 300000)]),
    holes=st.sampled_from([0.0, 0.0, 0.02]),
)


@settings(max_examples=100, deadline=None)
@given(TIMINGS, st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from([1.0, 2.0, 6.0]))
def test_no_sample_is_lost_or_doubled(timing: Timing, part: float, segment: float) -> None:
    packets = timing.packets()
    tracks = list({packet.track.id: packet.track for packet in packets}.values())
    bench = Bench(tracks, segment, part)
    bench.push(packets)
    bench.finish()
    if timing.steps[1] <= 3100:
        check_parts(bench)
    shift = bench.packager.tracks[0].shift
    video = [packet for packet in packets if packet.track.id == 0]
    written = bench.samples(0)
    if bench.packager.departures == 0:
        assert [sample.payload for sample in written] == [packet.payload for packet in video]
        for sample, packet in zip(written, video, strict=True):
            assert sample.pts - shift == packet.pts
            assert sample.sync == packet.keyframe
    payloads = [sample.payload for track in tracks for sample in bench.samples(track.id)]
    assert len(payloads) == len(set(payloads))
    assert [sample.dts for sample in written] == sorted(sample.dts for sample in written)
    for track in tracks:
        window = bench.windows[track.id]
        for one in bench.parts(track.id):
            assert one.duration <= window.part_target + 1e-9
        numbers = [one.msn for one in bench.segments(track.id)]
        assert numbers == list(range(min(numbers, default=0), min(numbers, default=0) + len(numbers)))
        if numbers and timing.steps[1] < ONE_SECOND:
            # Frames that last for seconds have no place in low latency; all else keeps the target duration.
            longest = max(one.duration for one in bench.segments(track.id))
            assert round(longest) <= bench.packager.target_duration
        assert window.edge == pytest.approx(sum(one.duration for one in bench.segments(track.id)), abs=1e-6)


def troubled(seed: int) -> tuple[list[Track], list[Packet], bool]:
    """A stream whose tracks stop and come back, change their configuration, and come in any lumps.

    The last is whether they come in step.
    """
    chance = random.Random(seed)
    tracks = [video_track(0), audio_track(1)]
    if chance.random() < 0.4:
        tracks.insert(1, video_track(2, has_b_frames=True))
    feed = Feed(tracks, gop=chance.choice([15, 30, 60, 100]), known_durations=chance.random() < 0.5, size=40)
    away = {track.id: sorted(chance.uniform(0, 40) for _ in range(chance.choice([0, 0, 2, 4]))) for track in tracks}
    changes = {track.id: chance.choice([99.0, chance.uniform(3, 35)]) for track in tracks}
    if chance.random() < 0.3:
        changes = dict.fromkeys(changes, changes[0])
    pause = chance.choice([0, 0, 10])
    late = {track.id: chance.choice([0.0, 0.0, 0.3, 1.5]) for track in tracks}
    newer = {track.id: structs.replace(track, generation=1, public_name="new") for track in tracks}
    found: list[tuple[float, int, Packet]] = []
    for at, packet in feed.packets(40):
        track = packet.track
        gone = sum(1 for edge in away[track.id] if at >= edge) % 2
        if gone:
            continue
        if at >= changes[track.id]:
            packet = structs.replace(packet, track=newer[track.id])
        if at >= 20 and pause:
            step = pause * track.timescale
            packet = structs.replace(packet, pts=packet.pts + step, dts=packet.dts + step)
        found.append((at + late[track.id], len(found), packet))
    return tracks, [packet for _, _, packet in sorted(found, key=lambda each: each[:2])], not any(late.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_numbers_and_discontinuities_agree(seed: int) -> None:
    tracks, packets, in_step = troubled(seed)
    bench = Bench(tracks, 2.0, 0.5)
    bench.push(packets)
    bench.finish()
    marks: dict[int, tuple[bool, int]] = {}
    for track in tracks:
        segments = bench.segments(track.id)
        numbers = [one.msn for one in segments]
        assert numbers == list(range(min(numbers, default=0), min(numbers, default=0) + len(numbers)))
        for one in segments:
            told = (one.boundary.discontinuity, one.boundary.discontinuities)
            assert marks.setdefault(one.msn, told) == told
            assert bool(one.parts) is not one.gap
            if not one.gap and in_step and bench.packager.departures < 2:
                assert round(one.duration) <= bench.packager.target_duration
            if one.parts and one.boundary.independent and track is tracks[0] and not bench.packager.departures:
                assert one.parts[0].independent
        for before, after in pairwise(segments):
            assert after.begins == pytest.approx(before.begins + before.duration)
        for before, after in pairwise(one for one in segments if not one.gap):
            if before.init is not after.init:
                assert before.boundary.discontinuities < after.boundary.discontinuities
        payloads = [sample.payload for sample in bench.samples(track.id)]
        assert len(payloads) == len(set(payloads))
        times = [sample.dts for sample in bench.samples(track.id)]
        assert times == sorted(times)
    if bench.packager.departures == 0 and bench.packager.dropped == 0:
        pictures = [packet for packet in packets if packet.track.id == 0]
        first = min(packet.pts for packet in pictures if packet.keyframe)
        due = [packet for packet in pictures if packet.pts >= first]
        assert len(bench.samples(0)) == len(due)
