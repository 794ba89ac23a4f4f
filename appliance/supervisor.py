"""Supervision: who is restarted, how often, and what happens then.

Erlang/OTP's ideas on trio: a child is described by a spec, a restart is a new call of its ``start``, a fault never
touches the siblings, too many faults in a short time are somebody else's decision. Health is progress made, not being
alive. A supervisor watches all its children from one task that looks once a second; children cost no timer.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType, TracebackType

import trio

from appliance.child_spec import Alarm, ChildSpec, Excess, Intensity, Progress, Restart, State, Strategy
from appliance.errors import KilnError, Unavailable
from appliance.logs import RateLimited

__all__ = [
    "Alarm",
    "Child",
    "ChildSpec",
    "Excess",
    "Intensity",
    "Progress",
    "Restart",
    "State",
    "Strategy",
    "Supervisor",
    "SupervisorFailed",
]

log = logging.getLogger("kiln.supervisor")

BACKOFF = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
JITTER = 0.2
HEALTHY_AFTER = 60.0
PARKED_RETRY = 30.0
LOOK_EVERY = 1.0
#: How long a child that did not stop when asked may take once it is cancelled.
HARD_STOP = 1.0


class SupervisorFailed(KilnError):
    """A child whose excess escalates failed too often, so its supervisor fails."""

    status = 503


class _Life:
    """One run of a child's ``start``."""

    def __init__(self, now: float) -> None:
        self.began = now
        self.progress = Progress()
        self.scope = trio.CancelScope(shield=True)
        self.done = trio.Event()
        self.fault: Exception | None = None
        self.entered = False
        self.hung = ""
        self.retired = False
        self.abandoned = False
        self.give_up_at = float("inf")
        self.seen = 0
        self.seen_at = now


class Child:
    """A child as it is seen from outside. ``since``: trio time of the last change of state; ``restarts`` and
    ``progress_count`` count over all its lives; ``last_fault`` is "" until there was one."""

    def __init__(self, spec: ChildSpec, path: str) -> None:
        self.spec = spec
        self.path = path
        self.restarts = 0
        self.last_fault = ""
        self.since = 0.0
        self.supervisors: list[Supervisor] = []
        self._state = State.STARTING
        self._life: _Life | None = None
        self._progress_before = 0
        self._faults: deque[float] = deque()
        self._unhealthy = 0
        self._alarm = False
        self._stop = trio.Event()
        self._gone = trio.Event()
        self._repeats = RateLimited(log, clock=trio.current_time)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def state(self) -> State:
        if self._state is State.STARTING and self._life is not None and self._life.progress.count:
            return State.RUNNING
        return self._state

    @property
    def progress_count(self) -> int:
        return self._progress_before + (self._life.progress.count if self._life else 0)

    @property
    def watched(self) -> bool:
        return self.spec.health is not None or self.spec.first_health is not None

    async def wait_ended(self) -> None:
        """Until the child has ended for good: stopped, done and not restarted, or failed."""
        await self._gone.wait()

    def _wanted(self) -> bool:
        return not self._stop.is_set()

    def _enter(self, state: State) -> None:
        self._state = state
        self.since = trio.current_time()

    def _begin(self) -> _Life:
        life = self._life = _Life(trio.current_time())
        self._enter(State.STARTING if self.watched else State.RUNNING)
        return life

    def _finish(self, life: _Life) -> None:
        self._progress_before += life.progress.count
        self._life = None
        if trio.current_time() - life.began >= HEALTHY_AFTER and not life.hung:
            self._forgive()

    def _forgive(self) -> None:
        self._unhealthy = 0
        self._faults.clear()

    def _count_fault(self) -> bool:
        """Note a fault now; True when there are more than the intensity allows."""
        now = trio.current_time()
        intensity = self.spec.intensity
        self._unhealthy += 1
        self._faults.append(now)
        while now - self._faults[0] > intensity.seconds:
            self._faults.popleft()
        return self._alarm or len(self._faults) > intensity.faults


_current: ContextVar[tuple[Supervisor, Child] | None] = ContextVar("kiln_supervised_by", default=None)


class Supervisor:
    """Runs children, contains their faults and restarts them.

    ``async with Supervisor("engine") as supervisor: …`` or ``await nursery.start(supervisor.run)``. Leaving the block,
    also by cancellation, is an ordered stop. A supervisor entered inside a child belongs to that child's supervisor:
    it takes over its alarm callback and appears in its ``tree``. A child that escalates makes the block raise
    ``SupervisorFailed``. ``random`` (0 to 1) is what the jitter of the back-off is made of.

    Faults of children (Exception and groups of them) are contained; KeyboardInterrupt and SystemExit pass.

    What can't be done: trio can't take a task off that swallows or shields itself from cancellation, nor one that sits
    in a thread that never returns (start those with ``abandon_on_cancel=True``, or better in a process). Such a life
    is given up after ``stop_after`` with an alarm, listed in ``abandoned``, and replaced; but it keeps what it holds,
    and the ``async with`` block can't be left before it ends. The composition root therefore looks at ``abandoned``
    after ``shut_down`` and ends the process by itself. A child that never awaits stops the whole loop; only the
    watchdog outside helps then (``appliance.notify``).
    """

    def __init__(
        self,
        name: str,
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        on_alarm: Callable[[Alarm], None] | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.path = name
        self.strategy = strategy
        self.abandoned: list[str] = []
        self._on_alarm = on_alarm
        self._random = random
        self._children: dict[str, Child] = {}
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None
        self._failure: SupervisorFailed | None = None
        self._stopping = False
        self._stopped = trio.Event()
        self._watch_wanted = trio.Event()
        self._turn = trio.Event()

    @property
    def children(self) -> Mapping[str, Child]:
        """Those that run or will run again, in the order they were added. Who has ended for good leaves."""
        return MappingProxyType(self._children)

    def add(self, spec: ChildSpec) -> Child:
        """Start a child (at once, or when the supervisor starts). Raises ValueError when the name is in use and
        Unavailable after the stop has begun."""
        if self._stopping:
            raise Unavailable(f"supervisor {self.path} is stopping: no new child {spec.name}")
        if spec.name in self._children:
            raise ValueError(f"supervisor {self.path} has a child {spec.name} already")
        child = Child(spec, f"{self.path}/{spec.name}")
        self._children[spec.name] = child
        if self._nursery is not None:
            self._admit(child)
        return child

    def release(self, child: Child) -> None:
        """Have a child stop for good, as ``stop`` does, without waiting for it."""
        self._request_stop(child)

    async def stop(self, name: str) -> None:
        """Stop one child for good, within its ``stop_after`` (and a second more when it has to be forced). Raises
        KeyError when there is none."""
        child = self._children[name]
        self._request_stop(child)
        await child.wait_ended()

    async def shut_down(self) -> None:
        """Stop all children, the highest order first. Returns when all have ended or are given up."""
        if self._nursery is None:
            self._stopping = True
            self._stopped.set()
            return
        if not self._stopping:
            self._stopping = True
            self._nursery.start_soon(self._stop_all)
        await self._stopped.wait()

    async def run(self, task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervise until ``shut_down`` is called or the task is cancelled. Raises SupervisorFailed."""
        async with self:
            task_status.started(self)
            await self._stopped.wait()

    def tree(self) -> str:
        """All children and their children, a line each."""
        return "\n".join([self.name, *self._branches("  ")])

    def _branches(self, indent: str) -> list[str]:
        lines = []
        for child in self._children.values():
            fault = f" last_fault={child.last_fault!r}" if child.last_fault else ""
            lines.append(f"{indent}{child.name} state={child.state.value!r} restarts={child.restarts}{fault}")
            for inner in child.supervisors:
                lines.extend(inner._branches(indent + "  "))
        return lines

    async def __aenter__(self) -> Supervisor:
        parent = _current.get()
        if parent is not None:
            supervisor, child = parent
            child.supervisors.append(self)
            self.path = f"{child.path}/{self.name}" if self.name != child.name else child.path
            self._on_alarm = self._on_alarm or supervisor._on_alarm
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._watch, name=f"{self.path} watch")
        for added in self._children.values():
            added.path = f"{self.path}/{added.name}"
            self._admit(added)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._nursery is not None
        with trio.CancelScope(shield=True):
            await self.shut_down()
        parent = _current.get()
        if parent is not None:
            parent[1].supervisors.remove(self)
        self._nursery.cancel_scope.cancel()
        # Only cancellation is the nursery's to absorb; any other error leaves as it came, not in a group.
        ours = error if error is not None and _cancelled(error) else None
        absorbed = await self._manager.__aexit__(type(ours) if ours else None, ours, trace if ours else None)
        if self._failure is not None and (error is None or (ours is not None and absorbed)):
            raise self._failure
        return bool(absorbed) if ours is not None else False

    def _admit(self, child: Child) -> None:
        assert self._nursery is not None
        if child.watched:
            self._watch_wanted.set()
        self._nursery.start_soon(self._keep, child, name=f"{child.path} keeper")

    # A child's course: begin, end, judge, pause, begin …

    async def _keep(self, child: Child) -> None:
        with trio.CancelScope(shield=True):
            while child._wanted():
                await self._wait_for_turn(child)
                if not child._wanted():
                    break
                life = self._start_life(child)
                await life.done.wait()
                child._finish(life)
                if not await self._judge(child, life):
                    break
                child.restarts += 1
        if child._state is not State.FAILED:
            child._enter(State.STOPPED)
        if self._children.get(child.name) is child:
            del self._children[child.name]
        child._gone.set()
        self._tell_waiting()

    def _start_life(self, child: Child) -> _Life:
        assert self._nursery is not None
        life = child._begin()
        self._nursery.start_soon(self._live, child, life, name=child.path)
        return life

    async def _live(self, child: Child, life: _Life) -> None:
        _current.set((self, child))
        life.entered = True
        self._tell_waiting()
        try:
            with life.scope:
                await child.spec.start(life.progress)
        except Exception as fault:
            life.fault = fault
        finally:
            if life.abandoned:
                self.abandoned.remove(child.path)
                log.warning("abandoned child has ended child=%s fault=%r", child.path, life.fault)
            life.done.set()

    async def _judge(self, child: Child, life: _Life) -> bool:
        """Whether the child gets another life; if so, after the pause it has earned."""
        if not child._wanted():
            if life.fault is not None:
                child.last_fault = _text(life.fault)
                log.warning("fault while stopping child=%s fault=%s", child.path, child.last_fault)
            return False
        if life.retired and life.fault is None:
            return True
        clean = life.fault is None and not life.hung
        if clean and child.spec.restart is not Restart.PERMANENT:
            return False
        self._report(child, life)
        if child.spec.restart is Restart.TEMPORARY:
            child._enter(State.FAILED)
            return False
        excess = child._count_fault()
        if excess and child.spec.on_excess is Excess.ESCALATE:
            child._enter(State.FAILED)
            self._fail(child)
            return False
        await self._take_down_rest(child)
        await self._pause(child, excess)
        return child._wanted()

    def _report(self, child: Child, life: _Life) -> None:
        text = life.hung or (_text(life.fault) if life.fault else "ended by itself")
        # A fault that we raise on purpose says all that there is to know; any other one needs its traceback, once.
        unexpected = not isinstance(life.fault, KilnError)
        traceback = life.fault if unexpected and text != child.last_fault else None
        child._repeats(logging.ERROR, "child failed child=%s fault=%s", child.path, text, exc_info=traceback)
        child.last_fault = text
        life.fault = None  # its traceback keeps the objects of the ended life alive

    async def _pause(self, child: Child, excess: bool) -> None:
        if excess:
            child._enter(State.PARKED)
            delay = PARKED_RETRY
            if not child._alarm:
                child._alarm = True
                self._watch_wanted.set()
                self._alarm(child.path, f"fails again and again, next try in {delay:.0f} s: {child.last_fault}")
        else:
            child._enter(State.BACKING_OFF)
            step = BACKOFF[min(child._unhealthy, len(BACKOFF)) - 1]
            delay = step * (1 + JITTER * (2 * self._random() - 1))
        with trio.move_on_after(delay):
            await child._stop.wait()

    def _fail(self, child: Child) -> None:
        assert self._nursery is not None
        allowed = child.spec.intensity
        text = f"{child.path} failed more than {allowed.faults} times in {allowed.seconds:g} s: {child.last_fault}"
        self._failure = SupervisorFailed(text)
        self._alarm(child.path, str(self._failure))
        self._nursery.cancel_scope.cancel()

    # Chains

    async def _wait_for_turn(self, child: Child) -> None:
        """In a chain: until all that were added before it live."""
        while self.strategy is Strategy.REST_FOR_ONE and child._wanted():
            if all(each._life is not None and each._life.entered for each in self._before(child)):
                return
            await self._turn.wait()

    def _tell_waiting(self) -> None:
        self._turn.set()
        self._turn = trio.Event()

    def _before(self, child: Child) -> list[Child]:
        names = list(self._children)
        return [self._children[name] for name in names[: names.index(child.name)]]

    async def _take_down_rest(self, child: Child) -> None:
        if self.strategy is not Strategy.REST_FOR_ONE:
            return
        for each in reversed([*self._children.values()]):
            if each is child:
                return
            life = each._life
            if life is not None and not life.retired:
                life.retired = True
                await self._end_life(each, life)

    # Stopping

    def _request_stop(self, child: Child) -> None:
        if not child._wanted() or self._nursery is None:
            return
        child._stop.set()
        self._tell_waiting()
        if child._life is not None:
            self._nursery.start_soon(self._end_life, child, child._life)

    async def _end_life(self, child: Child, life: _Life) -> None:
        with trio.CancelScope(shield=True):
            ask = child.spec.ask_to_stop
            if ask is not None and self._contained(ask, child.path):
                with trio.move_on_after(child.spec.stop_after):
                    await life.done.wait()
            life.scope.cancel()
            with trio.move_on_after(HARD_STOP if ask is not None else child.spec.stop_after):
                await life.done.wait()
            self._give_up(child, life)

    def _give_up(self, child: Child, life: _Life) -> None:
        if life.done.is_set():
            return
        life.abandoned = True
        self.abandoned.append(child.path)
        self._alarm(child.path, f"does not stop when cancelled, given up after {child.spec.stop_after:g} s")
        life.done.set()

    async def _stop_all(self) -> None:
        with trio.CancelScope(shield=True):
            while self._children:
                highest = max(child.spec.order for child in self._children.values())
                group = [child for child in self._children.values() if child.spec.order == highest]
                for child in group:
                    self._request_stop(child)
                for child in group:
                    await child.wait_ended()
        self._stopped.set()

    # Health: one task looks at everybody once a second

    async def _watch(self) -> None:
        while True:
            if not any(child.watched or child._alarm for child in self._children.values()):
                self._watch_wanted = trio.Event()
                await self._watch_wanted.wait()
            await trio.sleep(LOOK_EVERY)
            for child in tuple(self._children.values()):
                if child._life is not None:
                    self._look_at(child, child._life, trio.current_time())

    def _look_at(self, child: Child, life: _Life, now: float) -> None:
        if life.hung:
            if now >= life.give_up_at:
                self._give_up(child, life)
            return
        if child._alarm and now - life.began >= HEALTHY_AFTER:
            child._alarm = False
            child._forgive()
            self._alarm(child.path, "runs again", active=False)
        count = life.progress.count
        deadline = child.spec.health
        if count == 0 and child.spec.first_health is not None:
            deadline = child.spec.first_health
        idle = child.spec.idle
        if count != life.seen or deadline is None:
            life.seen, life.seen_at = count, now
        elif now - life.seen_at >= deadline:
            if idle is not None and idle():
                life.seen_at = now
                return
            life.hung = f"no progress for {deadline:g} s"
            life.give_up_at = now + child.spec.stop_after
            life.scope.cancel()

    def _alarm(self, path: str, text: str, *, active: bool = True) -> None:
        log.log(logging.ERROR if active else logging.INFO, "alarm child=%s active=%s text=%s", path, active, text)
        callback = self._on_alarm
        if callback is not None:
            self._contained(lambda: callback(Alarm(path, text, active)), path)

    @staticmethod
    def _contained(call: Callable[[], None], path: str) -> bool:
        try:
            call()
        except Exception:
            log.exception("callback failed child=%s", path)
            return False
        return True


def _cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_cancelled(each) for each in error.exceptions)
    return isinstance(error, trio.Cancelled)


def _text(fault: BaseException) -> str:
    while isinstance(fault, BaseExceptionGroup) and len(fault.exceptions) == 1:
        fault = fault.exceptions[0]
    if isinstance(fault, BaseExceptionGroup):
        return "; ".join(_text(each) for each in fault.exceptions)
    message = str(fault)
    return f"{type(fault).__name__}: {message}" if message else type(fault).__name__
