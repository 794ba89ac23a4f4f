"""What is put into a timeline while its source gives nothing, and where the source goes on behind it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.clock import NANOSECONDS
from tests.media.timeline_bench import SECOND, Bench, picture, sound


def test_what_is_put_in_goes_on_where_the_track_ends_and_the_next_source_behind_it() -> None:
    bench, video, audio = Bench(), picture(25), sound()
    for number in range(50):
        bench.send(video, 7_000_000 + number * 3600)
        bench.send(audio, 3_733_333 + number * 1920, duration=1920)
    end = bench.timeline.end(video)
    assert end == 50 * 3600
    assert bench.timeline.place(video, 0, 3600) == end, "never over what there is"
    assert bench.timeline.place(video, end + 3600, 3600) == end + 3600
    assert bench.timeline.reached_ns == (end + 2 * 3600) * NANOSECONDS // SECOND
    bench.timeline.cut()
    bench.now = 100 * NANOSECONDS
    assert bench.send(video, 5) == end + 2 * 3600, "where the stream ends, wherever the clock is"
    assert bench.send(audio, 3 + 1920, duration=1920) == (end + 2 * 3600) * 48 // 90 + 1920
    assert bench.timeline.mended.jumps == 0


def test_the_time_that_a_frame_would_have_is_told_and_nothing_is_changed() -> None:
    bench, video, audio = Bench(), picture(25), sound()
    assert bench.timeline.expected(video, 0) is None
    for number in range(10):
        bench.send(video, 900_000 + number * 3600)
    assert bench.timeline.expected(video, 900_000 + 20 * 3600) == 20 * 3600
    assert bench.timeline.expected(video, 900_000 + 20 * SECOND) is None, "that would be a jump"
    assert bench.timeline.expected(audio, 480_000) is None, "nothing came of it yet"
    assert bench.send(video, 900_000 + 10 * 3600) == 10 * 3600


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "send", "place", "cut"]), st.booleans(),
            st.integers(-(1 << 34), 1 << 34), st.integers(0, 100_000), st.integers(0, 3 * NANOSECONDS),
        ),
        max_size=60,
    )
)  # fmt: skip
def test_whatever_is_put_in_between_times_increase(acts: list[tuple[str, bool, int, int, int]]) -> None:
    bench = Bench()
    tracks = picture(30), sound()
    shown = {track.id: -1 for track in tracks}
    for act, first, time_, composition, passed in acts:
        track = tracks[0] if first else tracks[1]
        bench.now += passed
        if act == "cut":
            bench.timeline.cut()
        elif act == "place":
            before = bench.timeline.end(track)
            at = bench.timeline.place(track, abs(time_) % (60 * SECOND), 3000)
            assert at >= before
            bench.out.setdefault(track.id, []).append((at, at, 3000))
            assert at > shown[track.id], "not before what was shown"
            shown[track.id] = at
        else:
            bench.timeline.expected(track, time_)
            bench.send(track, time_, time_ + composition)
            shown[track.id] = max(shown[track.id], bench.out[track.id][-1][0])
    for out in bench.out.values():
        assert all(one[1] < other[1] for one, other in pairwise(out))
        assert all(pts >= dts >= 0 for pts, dts, _ in out)
