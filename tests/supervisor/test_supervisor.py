from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from appliance.errors import Unavailable
from appliance.supervisor import (
    Alarm,
    ChildSpec,
    Excess,
    Intensity,
    Progress,
    Restart,
    State,
    Strategy,
    Supervisor,
    SupervisorFailed,
)

Start = Callable[[Progress], Awaitable[None]]


def steady() -> float:
    """A `random` that makes the jitter nothing."""
    return 0.5


async def forever(progress: Progress) -> None:
    progress()
    await trio.sleep_forever()


def failing(times: list[float], lives: int = 10**9, after: float = 0.0) -> Start:
    """A child that notes when it starts and crashes `lives` times, `after` seconds into each life."""

    async def start(progress: Progress) -> None:
        times.append(trio.current_time())
        if after:
            await trio.sleep(after)
        if len(times) <= lives:
            raise RuntimeError("crash on purpose")
        progress()
        await trio.sleep_forever()

    return start


def gaps(times: list[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(times)]


async def test_crash_loop_backs_off_and_then_runs(autojump_clock: MockClock) -> None:
    times: list[float] = []
    async with Supervisor("root", random=steady) as supervisor:
        child = supervisor.add(ChildSpec(name="flaky", start=failing(times, lives=5), health=60))
        await trio.sleep(20)
        assert gaps(times) == [0.25, 0.5, 1.0, 2.0, 5.0]
        assert child.state is State.RUNNING
        assert child.restarts == 5
        assert child.last_fault == "RuntimeError: crash on purpose"
        assert child.progress_count == 1


@pytest.mark.parametrize(("random", "first"), [(lambda: 0.0, 0.2), (lambda: 1.0, 0.3)])
async def test_backoff_has_jitter(autojump_clock: MockClock, random: Callable[[], float], first: float) -> None:
    times: list[float] = []
    async with Supervisor("root", random=random) as supervisor:
        supervisor.add(ChildSpec(name="flaky", start=failing(times, lives=1)))
        await trio.sleep(5)
    assert gaps(times) == [first]


async def test_backoff_ends_at_ten_seconds(autojump_clock: MockClock) -> None:
    times: list[float] = []
    async with Supervisor("root", random=steady) as supervisor:
        supervisor.add(ChildSpec(name="flaky", start=failing(times), intensity=Intensity(100, 60)))
        await trio.sleep(60)
    assert gaps(times)[:8] == [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0]


async def test_a_minute_of_health_forgives(autojump_clock: MockClock) -> None:
    times: list[float] = []
    async with Supervisor("root", random=steady) as supervisor:
        supervisor.add(ChildSpec(name="hourly", start=failing(times, after=61.0)))
        await trio.sleep(1000)
    assert gaps(times) == pytest.approx([61.25] * 16)


async def test_excess_parks_alarms_once_and_retries_every_30_s(autojump_clock: MockClock) -> None:
    times: list[float] = []
    alarms: list[Alarm] = []
    async with Supervisor("root", random=steady, on_alarm=alarms.append) as supervisor:
        child = supervisor.add(ChildSpec(name="push", start=failing(times, lives=8)))
        await trio.sleep(20)
        assert child.state == "parked"
        assert gaps(times) == [0.25, 0.5, 1.0, 2.0, 5.0]
        await trio.sleep(100)
        assert gaps(times)[5:] == [30.0, 30.0, 30.0]
        assert [alarm.active for alarm in alarms] == [True]
        assert alarms[0].path == "root/push"
        assert "crash on purpose" in alarms[0].text
        await trio.sleep(62)
        assert child.state is State.RUNNING
        assert [alarm.active for alarm in alarms] == [True, False]


async def test_crash_loop_writes_a_traceback_once_and_at_most_a_line_a_second(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    times: list[float] = []
    async with Supervisor("root", random=steady) as supervisor:
        supervisor.add(ChildSpec(name="flaky", start=failing(times), intensity=Intensity(1000, 60)))
        await trio.sleep(1.9)
    failures = [record for record in caplog.records if "child failed" in record.getMessage()]
    assert len(times) == 4
    assert len(failures) == 2
    assert [bool(record.exc_info) for record in failures] == [True, False]
    assert "repeated=3" in failures[1].getMessage()


async def test_excess_escalates_to_the_parent(autojump_clock: MockClock) -> None:
    times: list[float] = []
    inner_lives: list[float] = []

    async def core(progress: Progress) -> None:
        inner_lives.append(trio.current_time())
        async with Supervisor("core", random=steady) as inner:
            inner.add(ChildSpec(name="good", start=forever))
            inner.add(
                ChildSpec(name="bad", start=failing(times), intensity=Intensity(2, 60), on_excess=Excess.ESCALATE)
            )
            await trio.sleep_forever()

    async with Supervisor("root", random=steady) as supervisor:
        child = supervisor.add(ChildSpec(name="core", start=core))
        await trio.sleep(2.5)
        assert gaps(inner_lives) == [1.0, 1.25]
        assert child.last_fault.startswith("SupervisorFailed: root/core/bad failed more than 2 times in 60 s")


async def test_escalation_at_the_root_raises(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("root", random=steady)
    supervisor.add(ChildSpec(name="bad", start=failing([]), intensity=Intensity(1, 60), on_excess=Excess.ESCALATE))
    with pytest.raises(SupervisorFailed, match="crash on purpose"):
        await supervisor.run()


async def test_siblings_see_no_gap_through_a_hundred_crashes(autojump_clock: MockClock) -> None:
    crashes: list[float] = []
    ticks: list[float] = []

    async def count(progress: Progress) -> None:
        while True:
            progress()
            ticks.append(trio.current_time())
            await trio.sleep(0.010)

    async with Supervisor("root", random=steady) as supervisor:
        sibling = supervisor.add(ChildSpec(name="sibling", start=count, health=1))
        supervisor.add(ChildSpec(name="flaky", start=failing(crashes), intensity=Intensity(1000, 60)))
        await trio.sleep(990)
        assert sibling.restarts == 0
    assert len(crashes) >= 100
    assert max(later - earlier for earlier, later in pairwise(ticks)) < 0.011
    assert len(ticks) > 90_000


@pytest.mark.parametrize(
    ("restart", "fault", "lives"),
    [
        (Restart.PERMANENT, False, 4),
        (Restart.PERMANENT, True, 4),
        (Restart.TRANSIENT, False, 1),
        (Restart.TRANSIENT, True, 4),
        (Restart.TEMPORARY, False, 1),
        (Restart.TEMPORARY, True, 1),
    ],
)
async def test_restart_kinds(autojump_clock: MockClock, restart: Restart, fault: bool, lives: int) -> None:
    times: list[float] = []

    async def start(progress: Progress) -> None:
        times.append(trio.current_time())
        if fault:
            raise OSError("gone")

    async with Supervisor("root", random=steady) as supervisor:
        child = supervisor.add(ChildSpec(name="child", start=start, restart=restart))
        await trio.sleep(2)
        assert len(times) == lives
        assert ("child" in supervisor.children) is (lives > 1)
    expected = State.FAILED if restart is Restart.TEMPORARY and fault else State.STOPPED
    assert child.state is expected


async def test_no_progress_is_cancelled_and_replaced_within_a_second_of_the_deadline(
    autojump_clock: MockClock,
) -> None:
    lives: list[float] = []
    cancelled: list[float] = []

    async def hangs(progress: Progress) -> None:
        lives.append(trio.current_time())
        for _ in range(30):
            progress()
            await trio.sleep(0.1)
        if len(lives) > 1:
            while True:
                progress()
                await trio.sleep(0.1)
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(trio.current_time() - lives[0])

    async with Supervisor("root", random=steady) as supervisor:
        child = supervisor.add(ChildSpec(name="encoder", start=hangs, health=2))
        await trio.sleep(30)
        assert len(lives) == 2
        assert child.last_fault == "no progress for 2 s"
        assert child.state is State.RUNNING
    # The last progress was at 2.9 s.
    assert len(cancelled) == 1
    assert 4.9 <= cancelled[0] <= 5.9
    assert lives[1] - lives[0] - cancelled[0] == pytest.approx(0.25)


async def test_the_first_progress_has_its_own_deadline(autojump_clock: MockClock) -> None:
    async def slow_start(progress: Progress) -> None:
        await trio.sleep(8)
        while True:
            progress()
            await trio.sleep(0.5)

    async with Supervisor("root") as supervisor:
        child = supervisor.add(ChildSpec(name="worker", start=slow_start, health=1, first_health=10))
        assert child.state is State.STARTING
        await trio.sleep(30)
        assert (child.restarts, child.state) == (0, State.RUNNING)
        never = supervisor.add(ChildSpec(name="never", start=sleeps, first_health=3))
        await trio.sleep(5)
        assert never.last_fault == "no progress for 3 s"


async def sleeps(progress: Progress) -> None:
    await trio.sleep_forever()


async def test_nothing_to_do_is_not_a_hang(autojump_clock: MockClock) -> None:
    waiting = True
    async with Supervisor("root") as supervisor:
        child = supervisor.add(ChildSpec(name="idle", start=sleeps, health=1, idle=lambda: waiting))
        await trio.sleep(20)
        assert child.restarts == 0
        waiting = False
        await trio.sleep(3)
        assert child.last_fault == "no progress for 1 s"


async def test_ordered_stop(autojump_clock: MockClock) -> None:
    log: list[tuple[str, float]] = []

    def closing(name: str, takes: float) -> Start:
        async def start(progress: Progress) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(takes)
                log.append((name, trio.current_time()))

        return start

    supervisor = Supervisor("root")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for name, order, takes in [("capture", 0, 0.1), ("push", 9, 1.0), ("record", 9, 2.0), ("encoder", 5, 0.5)]:
            supervisor.add(ChildSpec(name=name, start=closing(name, takes), order=order))
        await trio.sleep(1)
        began = trio.current_time()
        await supervisor.shut_down()
    assert [(name, round(at - began, 3)) for name, at in log] == [
        ("push", 1.0),
        ("record", 2.0),
        ("encoder", 2.5),
        ("capture", 2.6),
    ]
    assert not supervisor.children
    with pytest.raises(Unavailable, match="stopping"):
        supervisor.add(ChildSpec(name="late", start=forever))


async def test_cancelling_the_supervisor_is_an_ordered_stop_too(autojump_clock: MockClock) -> None:
    ended: list[str] = []

    def noting(name: str) -> Start:
        async def start(progress: Progress) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.1)
                ended.append(name)

        return start

    with trio.move_on_after(1):
        async with Supervisor("root") as supervisor:
            for order, name in enumerate(["last", "middle", "first"]):
                supervisor.add(ChildSpec(name=name, start=noting(name), order=order))
            await trio.sleep_forever()
    assert ended == ["first", "middle", "last"]


async def test_a_child_that_is_asked_finishes_its_work(autojump_clock: MockClock) -> None:
    asked = trio.Event()
    finished: list[str] = []

    async def recorder(progress: Progress) -> None:
        await asked.wait()
        await trio.sleep(3)
        finished.append("closed the file")

    async with Supervisor("root") as supervisor:
        supervisor.add(ChildSpec(name="record", start=recorder, ask_to_stop=asked.set))
        await trio.sleep(1)
        await supervisor.stop("record")
        assert finished == ["closed the file"]
        assert trio.current_time() == pytest.approx(autojump_clock.current_time())


async def test_a_child_that_ignores_being_asked_is_cancelled(autojump_clock: MockClock) -> None:
    async with Supervisor("root") as supervisor:
        supervisor.add(ChildSpec(name="deaf", start=forever, ask_to_stop=lambda: None, stop_after=2))
        await trio.sleep(1)
        began = trio.current_time()
        await supervisor.stop("deaf")
        assert trio.current_time() - began == pytest.approx(2)
        assert "deaf" not in supervisor.children


async def test_stop_while_backing_off_is_at_once(autojump_clock: MockClock) -> None:
    times: list[float] = []
    async with Supervisor("root", random=steady) as supervisor:
        child = supervisor.add(ChildSpec(name="flaky", start=failing(times)))
        await trio.sleep(15)
        assert child.state == "parked"
        began = trio.current_time()
        await supervisor.stop("flaky")
        assert trio.current_time() == began
        assert child.state is State.STOPPED
        with pytest.raises(KeyError):
            await supervisor.stop("flaky")


async def test_a_child_that_shields_itself_is_given_up_and_replaced(autojump_clock: MockClock) -> None:
    release = trio.Event()
    alarms: list[Alarm] = []
    lives = 0

    async def stubborn(progress: Progress) -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            with trio.CancelScope(shield=True):
                await release.wait()
            raise OSError("too late to matter")
        while True:
            progress()
            await trio.sleep(0.2)

    async with Supervisor("root", random=steady, on_alarm=alarms.append) as supervisor:
        child = supervisor.add(ChildSpec(name="stubborn", start=stubborn, health=2, stop_after=3))
        await trio.sleep(10)
        assert lives == 2
        assert child.state is State.RUNNING
        assert supervisor.abandoned == ["root/stubborn"]
        assert [alarm.text for alarm in alarms] == ["does not stop when cancelled, given up after 3 s"]
        release.set()
        await trio.sleep(0.1)
        assert supervisor.abandoned == []
        assert child.restarts == 1


async def test_shut_down_returns_although_a_child_is_stuck(autojump_clock: MockClock) -> None:
    release = trio.Event()

    async def stuck(progress: Progress) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    async with Supervisor("root") as supervisor:
        supervisor.add(ChildSpec(name="stuck", start=stuck, stop_after=2))
        await trio.sleep(1)
        began = trio.current_time()
        await supervisor.shut_down()
        assert trio.current_time() - began == pytest.approx(2)
        assert supervisor.abandoned == ["root/stuck"]
        release.set()


async def test_groups_of_faults_are_contained(autojump_clock: MockClock) -> None:
    async def group(progress: Progress) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises, OSError("one"))
            nursery.start_soon(raises, ValueError("two"))

    async with Supervisor("root") as supervisor:
        child = supervisor.add(ChildSpec(name="group", start=group))
        await trio.sleep(0.1)
        assert sorted(child.last_fault.split("; ")) == ["OSError: one", "ValueError: two"]


async def raises(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_program_passes(autojump_clock: MockClock, kind: type[BaseException]) -> None:
    async def child(progress: Progress) -> None:
        raise kind

    supervisor = Supervisor("root")
    supervisor.add(ChildSpec(name="child", start=child))
    with pytest.raises(BaseExceptionGroup) as caught:
        await supervisor.run()
    assert caught.group_contains(kind)


async def test_an_error_of_the_body_leaves_as_it_came(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("root")
    supervisor.add(ChildSpec(name="child", start=forever))

    async def body() -> None:
        async with supervisor:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await body()
    assert not supervisor.children


async def test_nested_tree_alarms_and_paths(autojump_clock: MockClock) -> None:
    alarms: list[Alarm] = []

    async def application(progress: Progress) -> None:
        async with Supervisor("outputs", random=steady) as inner:
            inner.add(ChildSpec(name="llhls", start=forever, health=5, idle=lambda: True))
            inner.add(ChildSpec(name="push", start=failing([])))
            await trio.sleep_forever()

    async with Supervisor("kiln", on_alarm=alarms.append) as supervisor:
        supervisor.add(ChildSpec(name="app", start=application))
        await trio.sleep(20)
        assert supervisor.tree().splitlines() == [
            "kiln",
            "  app state='running' restarts=0",
            "    llhls state='running' restarts=0",
            "    push state='parked' restarts=5 last_fault='RuntimeError: crash on purpose'",
        ]
        assert [alarm.path for alarm in alarms] == ["kiln/app/outputs/push"]
        await supervisor.stop("app")
        assert supervisor.tree() == "kiln"


async def test_a_chain_restarts_what_comes_after(autojump_clock: MockClock) -> None:
    events: list[str] = []
    crash = trio.Event()

    def link(name: str) -> Start:
        async def start(progress: Progress) -> None:
            events.append(f"+{name}")
            try:
                if name == "encode" and not crash.is_set():
                    await crash.wait()
                    raise RuntimeError("encoder")
                await trio.sleep_forever()
            finally:
                events.append(f"-{name}")

        return start

    async with Supervisor("chain", strategy=Strategy.REST_FOR_ONE, random=steady) as supervisor:
        for name in ("capture", "encode", "package", "deliver"):
            supervisor.add(ChildSpec(name=name, start=link(name)))
        await trio.sleep(1)
        assert events == ["+capture", "+encode", "+package", "+deliver"]
        events.clear()
        crash.set()
        await trio.sleep(1)
        assert events == ["-encode", "-deliver", "-package", "+encode", "+package", "+deliver"]
        assert [child.last_fault for child in supervisor.children.values()] == ["", "RuntimeError: encoder", "", ""]
        await supervisor.stop("capture")
        assert list(supervisor.children) == ["encode", "package", "deliver"]


async def test_names_are_unique_and_free_again_after_the_end(autojump_clock: MockClock) -> None:
    async with Supervisor("root") as supervisor:
        supervisor.add(ChildSpec(name="cam1", start=forever))
        with pytest.raises(ValueError, match="cam1"):
            supervisor.add(ChildSpec(name="cam1", start=forever))
        await trio.lowlevel.checkpoint()
        await supervisor.stop("cam1")
        second = supervisor.add(ChildSpec(name="cam1", start=forever))
        await trio.sleep(0.1)
        assert second.state is State.RUNNING


async def test_a_failing_alarm_callback_harms_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(alarm: Alarm) -> None:
        raise RuntimeError("no alarm today")

    times: list[float] = []
    async with Supervisor("root", random=steady, on_alarm=broken) as supervisor:
        supervisor.add(ChildSpec(name="flaky", start=failing(times)))
        await trio.sleep(60)
        assert len(times) == 7
    assert any(record.levelno == logging.ERROR and "callback failed" in record.message for record in caplog.records)


async def test_the_watch_sleeps_when_there_is_nothing_to_watch(autojump_clock: MockClock) -> None:
    async with Supervisor("root") as supervisor:
        supervisor.add(ChildSpec(name="plain", start=sleeps))
        await trio.sleep(0.1)
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        supervisor.add(ChildSpec(name="watched", start=sleeps, health=1))
        await trio.sleep(3)
        assert supervisor.children["watched"].last_fault


async def test_a_hundred_children_cost_one_timer(autojump_clock: MockClock) -> None:
    async with Supervisor("root") as supervisor:
        for number in range(100):
            supervisor.add(ChildSpec(name=f"child{number}", start=forever, health=60))
        await trio.sleep(0.5)
        # One for the watch, none for the children.
        assert trio.lowlevel.current_statistics().tasks_living >= 200
        wakes = 0

        class Count(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                nonlocal wakes
                wakes += 1

        instrument = Count()
        trio.lowlevel.add_instrument(instrument)
        await trio.sleep(10)
        trio.lowlevel.remove_instrument(instrument)
        assert wakes <= 25
