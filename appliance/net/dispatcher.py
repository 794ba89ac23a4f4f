"""One task that answers for many connections: it hears which have bytes, and which answers have been waited for.

A task, and a turn of trio's loop, for each request would cost more than most answers do.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from appliance.net.direct import Answering, Wait
from appliance.net.quiet_log import QuietLog

LOG = logging.getLogger("kiln.net")

#: A batch is always answered whole: the kernel puts it behind the others, so that all have their turn.
_BATCH = 16
#: Seconds after which other tasks have their turn.
_TURN = 0.001


class Watched(Protocol):
    """A connection."""

    def on_readable(self) -> None:
        """Its socket has bytes, or nobody is at the other end any more."""

    def abandon(self) -> None:
        """It failed."""


class ParkedAnswer:
    """An answer that waits in a lot. ``resume(answering, released)`` is called once, unless ``forget`` was before."""

    __slots__ = ("_answering", "_dispatcher", "_lot", "_resume", "deadline")

    def __init__(
        self, dispatcher: Dispatcher, answering: Answering, wait: Wait, resume: Callable[[Answering, bool], None]
    ) -> None:
        self.deadline = wait.deadline
        self._dispatcher = dispatcher
        self._answering = answering
        self._resume: Callable[[Answering, bool], None] | None = resume
        self._lot = wait.lot
        wait.lot.add(self)

    def release(self) -> None:
        self.deadline = math.inf
        self._dispatcher.released(self)

    def go_on(self, released: bool) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            resume(self._answering, released)

    def enforce(self, now: float) -> None:
        """Give up waiting when the deadline is over."""
        if now >= self.deadline:
            self._lot.discard(self)
            self.go_on(False)

    def forget(self) -> None:
        """Nobody wants the answer any more."""
        self._lot.discard(self)
        self._resume = None
        self._answering.close()


class Dispatcher:
    """``run`` it in a task; ``close`` it after that."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._released: deque[ParkedAnswer] = deque()
        self._sleeper: trio.lowlevel.Task | None = None
        self._quiet = QuietLog(LOG)

    def watch(self, fd: int, watched: Watched) -> None:
        """Tell ``watched`` about bytes as long as there are any."""
        self._watched[fd] = watched
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def released(self, parked: ParkedAnswer) -> None:
        """Let ``parked`` go on, in its turn."""
        self._released.append(parked)
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            trio.lowlevel.reschedule(sleeper)

    def close(self) -> None:
        self._poll.close()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_released)
            nursery.start_soon(self._answer_requests)

    async def _answer_requests(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._poll.fileno())
            # Those who wait for the news come before those who already have it and want the bytes.
            turn_ends = self._take_turn()
            while self._answer_batch() and time.perf_counter() < turn_ends:
                pass

    def _answer_batch(self) -> bool:
        """Let connections that have bytes answer; whether there may be more."""
        events = self._poll.poll(0, _BATCH)
        for fd, _ in events:
            connection = self._watched.get(fd)
            if connection is not None:
                try:
                    connection.on_readable()
                except Exception as error:
                    self._failed(error)
                    connection.abandon()
        return bool(events)

    async def _answer_released(self) -> None:
        while True:
            if self._released:
                self._take_turn()
                await trio.lowlevel.checkpoint()
            else:
                self._sleeper = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_sleeping)

    def _stop_sleeping(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _take_turn(self) -> float:
        """Let released answers go on for one turn; when that ends."""
        turn_ends = time.perf_counter() + _TURN
        released = self._released
        while released:
            try:
                released.popleft().go_on(True)
            except Exception as error:
                self._failed(error)
            if time.perf_counter() >= turn_ends:
                break
        return turn_ends

    def _failed(self, error: Exception) -> None:
        """One connection's fault must not be everybody's."""
        self._quiet.log(logging.ERROR, type(error).__name__, "event=connection_failed", error=error)
