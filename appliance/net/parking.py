"""Where tasks wait for the next state of a stream: woken all at once by whoever publishes it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import outcome
import trio

BATCH = 64
"""Tasks woken in one scheduler pass; the last of them wakes the next batch, so that others run in between."""

_Waiting = dict[trio.lowlevel.Task, None]


class ParkedTask:
    """One wait in a lot, which somebody else may end early by ``give_up``."""

    __slots__ = ("_task", "_waiting", "deadline")

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self._task: trio.lowlevel.Task | None = None
        self._waiting: _Waiting = {}

    def give_up(self) -> None:
        """End the wait now: ``park`` returns False. Does nothing when the task was woken already."""
        task = self._task
        if task is not None and task in self._waiting:
            del self._waiting[task]
            trio.lowlevel.reschedule(task, outcome.Value(False))

    async def wait(self, waiting: _Waiting) -> bool:
        task = self._task = trio.lowlevel.current_task()
        self._waiting = waiting
        waiting[task] = None

        def abort(_raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
            del waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        result = await trio.lowlevel.wait_task_rescheduled(abort)
        if result is _NEXT_BATCH:
            _wake_batch(waiting)
        return result is not False


class Waiter(Protocol):
    """Something without a task that waits: ``release`` only takes note, whoever released goes on at once."""

    def release(self) -> None: ...


class ParkingLot:
    """Tasks and waiters that wait for the same thing.

    ``release_all`` may be called from any task of the same trio run.
    """

    __slots__ = ("_waiters", "_waiting")

    def __init__(self) -> None:
        self._waiting: _Waiting = {}
        self._waiters: dict[Waiter, None] = {}

    def __len__(self) -> int:
        """How many wait for the next ``release_all``."""
        return len(self._waiting) + len(self._waiters)

    def add(self, waiter: Waiter) -> None:
        """Call ``waiter.release()`` at the next ``release_all``."""
        self._waiters[waiter] = None

    def discard(self, waiter: Waiter) -> None:
        """``waiter`` waits no more, if it did."""
        self._waiters.pop(waiter, None)

    async def park(self, place: ParkedTask | None = None) -> bool:
        """Wait for the next ``release_all``: True. False when ``place.give_up()`` ended the wait."""
        return await (place or ParkedTask()).wait(self._waiting)

    def release_all(self) -> int:
        """Wake all that wait now, of tasks 64 in a scheduler pass. Returns how many."""
        waiting, waiters = self._waiting, self._waiters
        if waiters:
            self._waiters = {}
            for waiter in waiters:
                waiter.release()
        count = len(waiting) + len(waiters)
        if waiting:
            self._waiting = {}
            _wake_batch(waiting)
        return count


Park = Callable[..., Awaitable[bool]]
"""``scope["extensions"]["kiln.park"]``: ``await park(lot, deadline=inf)``, the deadline by ``trio.current_time()``.

True when the lot was released, False when the deadline has passed; the handler is cancelled when its client is gone.
"""

_NEXT_BATCH = object()


def _wake_batch(waiting: _Waiting) -> None:
    reschedule = trio.lowlevel.reschedule
    for _ in range(min(BATCH, len(waiting)) - 1):
        reschedule(waiting.popitem()[0], outcome.Value(True))
    if waiting:
        task = waiting.popitem()[0]
        reschedule(task, outcome.Value(_NEXT_BATCH if waiting else True))
