"""What is due when, by arithmetic alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.transcoder.playout.model import MS, ChannelStream, Item, Program, Schedule
from appliance.transcoder.playout.timetable import Entry, Timetable

SECOND = 1_000_000_000
YEAR = 365 * 24 * 3600 * SECOND
T0 = 1_700_000_000 * SECOND


def program(begins: int, *durations: int, repeat: bool = False, name: str = "p") -> Program:
    items = tuple(Item(f"file://{number}.mp4", 0, duration) for number, duration in enumerate(durations))
    return Program(name, "", begins, repeat, items)


def table(*programs: Program, fallback: Program | None = None) -> Timetable:
    return Timetable(Schedule(ChannelStream("tv"), programs, fallback))


def test_it_is_joined_in_the_middle() -> None:
    joined = table(program(T0, 10_000, 20_000)).entry_at(T0 + 12 * SECOND)
    assert joined is not None
    assert (joined.index, joined.offset, joined.until) == (1, 2 * SECOND, T0 + 30 * SECOND)


def test_a_program_that_does_not_repeat_ends() -> None:
    one = table(program(T0, 10_000))
    assert one.entry_at(T0 + 10 * SECOND) is None
    assert one.entry_at(T0 - 1) is None
    entry = one.entry_at(T0)
    assert entry is not None
    assert one.entry_after(entry, T0 + 10 * SECOND) is None


def test_the_next_program_cuts_the_one_before() -> None:
    two = table(program(T0, -1, name="a"), program(T0 + 5 * SECOND, 10_000, name="b"))
    first = two.entry_at(T0 + SECOND)
    assert first is not None
    assert (first.program.name, first.until) == ("a", T0 + 5 * SECOND)
    following = two.entry_after(first, T0 + 5 * SECOND)
    assert following is not None
    assert (following.program.name, following.offset) == ("b", 0)


def test_an_unlimited_item_begins_with_the_first() -> None:
    entry = table(program(T0, 5000, -1)).entry_at(T0 + 100 * SECOND)
    assert entry is not None
    assert (entry.index, entry.offset) == (0, 0)


def test_a_gap_of_a_year() -> None:
    far = table(program(T0, 1000, name="a"), program(T0 + YEAR, 1000, repeat=True, name="b"))
    assert far.entry_at(T0 + YEAR // 2) is None
    assert far.next_begin(T0 + YEAR // 2) == T0 + YEAR
    assert far.entry_at(T0 + YEAR - 1) is None
    entry = far.entry_at(T0 + 2 * YEAR + 300 * MS)
    assert entry is not None
    assert (entry.program.name, entry.offset) == ("b", 300 * MS)


def test_a_fallback_goes_round() -> None:
    one = table(fallback=program(0, -1, 2000, repeat=True))
    entry = one.fallback_after(None)
    seen = []
    for _ in range(4):
        assert entry is not None
        seen.append(entry.index)
        entry = one.fallback_after(entry)
    assert seen == [0, 1, 0, 1]
    assert table().fallback_after(None) is None


def test_durations_below_a_second_are_a_second() -> None:
    entry = table(program(T0, 10, 5000)).entry_at(T0 + 1500 * MS)
    assert entry is not None
    assert (entry.index, entry.offset) == (1, 500 * MS)


DURATIONS = st.lists(st.integers(1000, 100_000), min_size=1, max_size=6)


@given(DURATIONS, st.booleans(), st.integers(0, 10**15))
def test_what_is_joined_is_what_was_played_to_there(durations: list[int], repeat: bool, after: int) -> None:
    """Joining at any time gives the item that playing from the beginning comes to."""
    one = table(program(T0, *durations, repeat=repeat))
    total = sum(durations) * MS
    joined = one.entry_at(T0 + after)
    if not repeat and after >= total:
        assert joined is None
        return
    assert joined is not None
    before = sum(durations[: joined.index]) * MS
    assert before + joined.offset == after % total
    assert joined.until == T0 + after + durations[joined.index] * MS - joined.offset


@given(DURATIONS, st.lists(st.integers(-400 * MS, 400 * MS), min_size=30, max_size=30))
def test_cuts_on_frames_do_not_add_up(durations: list[int], errors: list[int]) -> None:
    """Each item ends a little off its plan; the plan stays the clock's."""
    one = table(program(T0, *durations, repeat=True))
    entry = one.entry_at(T0)
    planned = T0
    for error in errors:
        assert entry is not None
        planned += durations[entry.index] * MS
        assert entry.until == planned
        entry = one.entry_after(entry, planned + error)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), st.integers(0, 10**6))
def test_windows_of_programs_tile_the_time(begins: list[int], at: int) -> None:
    one = table(*(program(T0 + each * SECOND, -1, name=str(each)) for each in begins))
    entry = one.entry_at(T0 + at * SECOND)
    due = [each for each in begins if each <= at]
    if not due:
        assert entry is None
        return
    assert entry is not None
    assert entry.program.name == str(max(due))
    later = [each for each in begins if each > at]
    assert entry.until == (T0 + min(later) * SECOND if later else None)


def test_a_change_keeps_what_is_on_the_air_when_it_is_still_due() -> None:
    before = table(program(T0, 10_000, 10_000, repeat=True))
    entry = before.entry_at(T0 + SECOND)
    assert entry is not None
    longer = table(program(T0, 10_000, 10_000, repeat=True), program(T0 + 5 * SECOND, -1, name="news"))
    kept = longer.replaced(entry, T0 + 2 * SECOND)
    assert kept is not None
    assert (kept.same_item(entry), kept.until) == (True, T0 + 5 * SECOND)
    other = table(program(T0, 1000, 10_000, repeat=True))
    assert other.replaced(entry, T0 + 2 * SECOND) is None
    gone = table()
    assert gone.replaced(entry, T0 + 2 * SECOND) is None


def test_a_change_keeps_the_fallback_that_is_the_same() -> None:
    fallback = program(0, -1, repeat=True)
    entry = Entry(fallback, 0, fallback=True)
    assert table(fallback=program(0, -1, repeat=True)).replaced(entry, T0) is entry
    assert table(fallback=program(0, 2000, repeat=True)).replaced(entry, T0) is None
