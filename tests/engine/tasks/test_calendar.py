"""Calendars: what may be written, when it is on, through changes of daylight saving, and what the board makes of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.tasks.agenda import Agenda
from appliance.engine.tasks.calendar import DAYS, Calendar
from appliance.engine.tasks.kinds import RECORD
from appliance.errors import BadRequest
from appliance.media.clock import Clock
from appliance.media.tasks import TaskState
from appliance.settings.store import Result, Store, Transaction, _transact
from tests.engine.tasks.stage import record, send, stage, state


def moment(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 10**9


def shown(calendar: dict[str, Any], after: str, count: int) -> list[str]:
    """In UTC: ``<month>-<day>T<hour>:<minute>/<day>T<hour>:<minute>``."""
    def told(time: int, form: str) -> str:
        return datetime.fromtimestamp(time // 10**9, UTC).strftime(form)

    windows = islice(Calendar.parse(calendar).windows(moment(after)), count)
    return [told(window.start, "%m-%dT%H:%M") + told(window.stop, "/%dT%H:%M") for window in windows]


ONCE = {"start": "2026-11-22T10:00:00+01:00", "stop": "2026-11-22T11:30:00+01:00"}


def test_once() -> None:
    assert shown(ONCE, "2026-01-01T00:00:00Z", 5) == ["11-22T09:00/22T10:30"]
    assert shown(ONCE, "2026-11-22T10:29:59Z", 5) == ["11-22T09:00/22T10:30"]
    assert shown(ONCE, "2026-11-22T10:30:00Z", 5) == []


def test_the_offsets_of_start_and_stop_may_differ() -> None:
    calendar = {"start": "2026-11-22T10:00:00+01:00", "stop": "2026-11-22T09:30:00Z"}
    assert shown(calendar, "2026-01-01T00:00:00Z", 5) == ["11-22T09:00/22T09:30"]


def test_weekly_on_some_days_from_its_start_on() -> None:
    calendar = ONCE | {"repeat": "weekly", "days": ["sun", "wed"]}
    expected = ["11-22T09:00/22T10:30", "11-25T09:00/25T10:30", "11-29T09:00/29T10:30"]
    assert shown(calendar, "2026-01-01T00:00:00Z", 3) == expected
    assert shown(calendar, "2026-11-22T10:30:00Z", 2) == expected[1:]
    assert shown(ONCE | {"repeat": "weekly"}, "2027-03-01T00:00:00Z", 1) == ["03-07T09:00/07T10:30"]


def test_over_midnight() -> None:
    calendar = {"start": "2026-11-21T23:00:00Z", "stop": "2026-11-22T02:00:00Z", "repeat": "weekly"}
    assert shown(calendar, "2026-11-22T01:00:00Z", 2) == ["11-21T23:00/22T02:00", "11-28T23:00/29T02:00"]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        # The time of day stays: an hour of UTC is left out on 29 March, another is there twice on 25 October.
        ("2026-03-22T10:00:00", "2026-03-22T11:00:00", ["03-22T09:00/22T10:00", "03-29T08:00/29T09:00"]),
        ("2026-10-18T10:00:00", "2026-10-18T11:00:00", ["10-18T08:00/18T09:00", "10-25T09:00/25T10:00"]),
        # Across the change the window ends at its time of day.
        ("2026-03-22T01:00:00", "2026-03-22T04:00:00", ["03-22T00:00/22T03:00", "03-29T00:00/29T02:00"]),
        ("2026-10-18T01:00:00", "2026-10-18T04:00:00", ["10-17T23:00/18T02:00", "10-24T23:00/25T03:00"]),
        # A beginning in the hour that is left out: the length stays.
        ("2026-03-22T02:50:00", "2026-03-22T03:10:00", ["03-22T01:50/22T02:10", "03-29T00:50/29T01:10"]),
        ("2026-03-22T02:10:00", "2026-03-22T02:40:00", ["03-22T01:10/22T01:40", "03-29T01:10/29T01:40"]),
        # In the hour that is there twice: the first of the two.
        ("2026-10-18T02:10:00", "2026-10-18T02:40:00", ["10-18T00:10/18T00:40", "10-25T00:10/25T00:40"]),
    ],
)  # fmt: skip
def test_daylight_saving(start: str, stop: str, expected: list[str]) -> None:
    calendar = {"start": start, "stop": stop, "repeat": "weekly", "timezone": "Europe/Berlin"}
    assert shown(calendar, "2026-01-01T00:00:00Z", 2) == expected


def test_an_offset_alone_knows_no_daylight_saving() -> None:
    calendar = {"start": "2026-03-22T10:00:00+01:00", "stop": "2026-03-22T11:00:00+01:00", "repeat": "weekly"}
    assert shown(calendar, "2026-03-23T00:00:00Z", 1) == ["03-29T09:00/29T10:00"]


@pytest.mark.parametrize(
    ("calendar", "reason"),
    [
        ([], "must be an object"),
        ({}, r"\[start\] must be a time"),
        (ONCE | {"start": "2026-11-22 10:00"}, r"\[start\] must be a time"),
        (ONCE | {"start": "2026-11-22T10:00:00"}, "needs an offset"),
        (ONCE | {"start": "2026-13-22T10:00:00Z"}, "month"),
        (ONCE | {"start": "9999-11-22T10:00:00Z"}, "out of range"),
        (ONCE | {"start": 5}, r"\[start\] must be a time"),
        (ONCE | {"stop": ONCE["start"]}, "later than"),
        (ONCE | {"stop": "2026-11-22T08:00:00Z"}, "later than"),
        (ONCE | {"repeat": "daily"}, "weekly"),
        (ONCE | {"repeat": 1}, "weekly"),
        (ONCE | {"days": ["sun"]}, "needs"),
        (ONCE | {"repeat": "weekly", "days": []}, "array of mon"),
        (ONCE | {"repeat": "weekly", "days": "sun"}, "array of mon"),
        (ONCE | {"repeat": "weekly", "days": ["sunday"]}, "array of mon"),
        (ONCE | {"repeat": "weekly", "days": [1]}, "array of mon"),
        (ONCE | {"repeat": "weekly", "days": ["sun", "sun"]}, "each once"),
        (ONCE | {"stop": "2026-11-24T11:30:00+01:00", "repeat": "weekly", "days": ["sun", "mon"]}, "next one"),
        (ONCE | {"stop": "2026-11-30T11:30:00+01:00", "repeat": "weekly"}, "next one"),
        (ONCE | {"timezone": "Nowhere/Land"}, "knows no time zone"),
        (ONCE | {"timezone": "../etc/passwd"}, "must be a name"),
        (ONCE | {"timezone": 1}, "must be a name"),
        (ONCE | {"begin": 1}, r"has no \[begin\]"),
    ],
)
def test_what_is_refused(calendar: Any, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        Calendar.parse(calendar)


@hypothesis.settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v, max_size=3)),
       st.sampled_from(["start", "stop", "repeat", "days", "timezone"]))  # fmt: skip
def test_anything_is_a_calendar_or_refused(value: Any, key: str) -> None:
    with suppress(BadRequest):
        assert Calendar.parse(ONCE | {key: value}).start


@hypothesis.settings(deadline=None)
@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2035, 1, 1)), st.integers(1, 24 * 60 - 1),
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Seoul", "Australia/Lord_Howe", "UTC"]),
)  # fmt: skip
def test_weekly_windows_are_in_order_apart_and_not_empty(
    start: datetime, minutes: int, days: list[str], zone: str
) -> None:
    start = start.replace(second=0, microsecond=0)
    stop = start + timedelta(minutes=minutes)
    written = {"start": start.isoformat(), "stop": stop.isoformat(), "repeat": "weekly", "days": days, "timezone": zone}
    try:
        calendar = Calendar.parse(written)
    except BadRequest:
        return
    windows = list(islice(calendar.windows(0), 60))
    assert all(window.start < window.stop for window in windows)
    assert all(later.start > earlier.start for earlier, later in pairwise(windows))
    assert next(calendar.windows(windows[20].stop - 1)).stop >= windows[20].stop - 1
    assert Agenda.restore(Agenda(calendar, 5).store()) == Agenda(calendar, 5)


# On the board


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """Virtual time, which does not wait for a thread: the store works in the loop's own."""

    async def transaction(store: Store, work: Callable[[Transaction], Result]) -> Result:
        await trio.lowlevel.checkpoint()
        return _transact(store._connection, work)

    monkeypatch.setattr(Store, "transaction", transaction)
    return trio.testing.MockClock(autojump_threshold=0)


BASE = moment("2026-11-22T08:00:00Z")


def virtual(offset: float = 0.0) -> Clock:
    """Wall clock and monotonic clock go with trio's."""
    began = trio.current_time()

    def elapsed() -> int:
        return round((trio.current_time() - began) * 1e9)

    return Clock(lambda: 10**9 + elapsed(), lambda: BASE + round(offset * 1e9) + elapsed())


def agenda(clock: Clock, written: dict[str, Any] = ONCE) -> Agenda:
    return Agenda(Calendar.parse(written), clock.wall())


async def settled() -> None:
    """Virtual time goes on only when nobody has anything to do."""
    await trio.sleep(0.25)


async def until(clock: Clock, text: str) -> None:
    await trio.sleep((moment(text) - clock.wall()) / 1e9)
    await settled()


async def test_it_runs_in_its_window_alone(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    clock = virtual()
    async with stage(tmp_path, clock=clock) as on:
        stream = on.open()
        await settled()
        entry = await on.board.start(RECORD, record(), agenda(clock))
        send(stream, b"before")
        await until(clock, "2026-11-22T08:59:50Z")
        assert state(entry) is TaskState.READY
        await until(clock, "2026-11-22T09:00:08Z")
        assert state(entry) is TaskState.RECORDING
        send(stream, b"within", 1)
        await until(clock, "2026-11-22T10:29:50Z")
        assert state(entry) is TaskState.RECORDING
        await until(clock, "2026-11-22T10:30:08Z")
        assert (entry.task.state, entry.task.error) == (TaskState.STOPPED, "")
        send(stream, b"after", 2)
        assert on.content("r1-0").endswith(b"within")
        assert entry.agenda is not None
        assert entry.agenda.missed == []
        assert not stream.closed
        assert on.board.find(RECORD, "default", "app", "r1") is entry


async def test_one_that_is_missed_says_so(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    clock = virtual()
    async with stage(tmp_path, clock=clock) as on:
        entry = await on.board.start(RECORD, record(), agenda(clock))
        await until(clock, "2026-11-22T10:30:08Z")
        assert state(entry) is TaskState.ERROR
        assert "the stream was not there" in entry.task.error
        assert "the stream was not there" in on.alarms["task:record:default/app/cam#r1"]
        await on.board.stop(entry)
        assert on.alarms == {}


async def test_a_stream_that_comes_late_is_recorded_from_then_on(
    tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    clock = virtual()
    async with stage(tmp_path, clock=clock) as on:
        entry = await on.board.start(RECORD, record(), agenda(clock))
        await until(clock, "2026-11-22T10:00:00Z")
        on.open()
        await settled()
        assert state(entry) is TaskState.RECORDING
        await until(clock, "2026-11-22T10:31:00Z")
        assert (entry.task.state, entry.task.error, on.alarms) == (TaskState.STOPPED, "", {})


async def test_what_the_box_missed_while_it_was_off_is_told(
    tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    weekly = ONCE | {"repeat": "weekly"}
    clock = virtual()
    async with stage(tmp_path, clock=clock) as on:
        on.open()
        await settled()
        await on.board.start(RECORD, record(), agenda(clock, weekly))
        await until(clock, "2026-11-22T10:31:00Z")
        assert on.runner.lives == ["r1"]
    clock = virtual(21 * 24 * 3600)
    async with stage(tmp_path, clock=clock) as on:
        await settled()
        (entry,) = on.board.all()
        assert entry.agenda is not None
        assert [missed.reason for missed in entry.agenda.missed] == ["the box was off"] * 2
        assert "the box was off" in next(iter(on.alarms.values()))
        assert state(entry) is TaskState.READY
        on.open()
        await until(clock, "2026-12-13T09:00:10Z")
        assert (entry.task.state, entry.task.error, on.alarms) == (TaskState.RECORDING, "", {})


async def test_a_restart_within_the_window_goes_on(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    clock = virtual(3600)
    async with stage(tmp_path, clock=clock) as on:
        on.open()
        await settled()
        await on.board.start(RECORD, record(), agenda(clock))
        assert on.runner.lives == ["r1"]
    clock = virtual(3600 + 600)
    async with stage(tmp_path, clock=clock) as on:
        on.open()
        await settled()
        (entry,) = on.board.all()
        assert state(entry) is TaskState.RECORDING
        await until(clock, "2026-11-22T10:31:00Z")
        assert state(entry) is TaskState.STOPPED


async def test_the_clock_may_step_into_a_window(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    steps = [0]
    base = virtual()
    clock = Clock(base.monotonic, lambda: base.wall() + steps[0])
    async with stage(tmp_path, clock=clock) as on:
        on.open()
        await settled()
        entry = await on.board.start(RECORD, record(), agenda(clock))
        await trio.sleep(10)
        assert state(entry) is TaskState.READY
        steps[0] = 3700 * 10**9
        await trio.sleep(7)
        assert state(entry) is TaskState.RECORDING
