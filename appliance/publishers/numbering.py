"""Media sequence and discontinuity numbers that go on where an earlier life of the stream ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

log = logging.getLogger("kiln.numbering")

#: So many media sequence numbers are reserved at once, and the next when half of them are used.
BLOCK = 256
#: A stream does not wait longer for its first number, in seconds.
SLOWEST_STORE = 2.0

Reserve = Callable[[str, int], Awaitable[int]]


class Numbering:
    """Numbers for one life of one stream. ``await start()`` first, then ``run`` in a task: it reserves ahead.

    ``follow`` before ``start`` takes over what an earlier life in the same process has left of its reservation.

    ``label`` is what the store knows them by: ``publisher/vhost/app/stream``.

    ``first`` overrides the reserved start (numbering by the server's time). A reservation that fails never stops the
    stream: it is logged and tried again. Numbers that the clock gave (``first``, or ``fallback`` while the store is
    down) are told to the store with the next reservation, so that no later life is given them again.
    """

    def __init__(self, reserve: Reserve, label: str, *, fallback: Callable[[], int], first: int | None = None) -> None:
        self.discontinuities = 0
        self._reserve = reserve
        self._label = label
        self._fallback = fallback
        self._first = first
        self._next = 0
        self._reserved_to = 0
        self._started = False
        self._discontinuities_here = 0
        self._unreserved_discontinuities = 0
        self._wanted = trio.Event()

    def follow(self, earlier: Numbering) -> None:
        """Go on right behind the last number of ``earlier``, which takes no more; nothing if that never started."""
        if not earlier._started:
            return
        self._started = True
        self._next = earlier._next
        self._reserved_to = earlier._reserved_to
        self.discontinuities = earlier.discontinuities + earlier._discontinuities_here + 1
        self._unreserved_discontinuities = earlier._unreserved_discontinuities + 1
        self._wanted.set()
        self._apply_first()

    async def start(self) -> None:
        if self._started:
            return
        try:
            with trio.fail_after(SLOWEST_STORE):
                self._next = await self._reserve(f"{self._label}/msn", BLOCK)
                self._reserved_to = self._next + BLOCK
                self.discontinuities = await self._reserve(f"{self._label}/discontinuity", 1)
        except Exception as fault:
            # The store is down: a number from the clock is above every earlier one.
            self._next = self._fallback()
            self._reserved_to = self._next
            log.warning("media sequence not reserved, taken from the clock stream=%s msn=%d error=%r",
                        self._label, self._next, fault)  # fmt: skip
        self._started = True
        self._apply_first()

    def _apply_first(self) -> None:
        if self._first is not None:
            self._next = max(self._first, self._next)
            self._reserved_to = max(self._reserved_to, self._next)

    def number(self) -> int:
        """The next media sequence number."""
        number = self._next
        self._next += 1
        if self._reserved_to - self._next < BLOCK // 2:
            self._wanted.set()
        return number

    def discontinuity(self) -> None:
        """One more of them in this life, to be remembered for the next."""
        self._discontinuities_here += 1
        self._unreserved_discontinuities += 1
        self._wanted.set()

    async def run(self) -> None:
        """Reserve what is needed next, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                await self._reserve_ahead()
            except Exception as fault:
                log.warning("media sequence not reserved stream=%s error=%r", self._label, fault)
                await trio.sleep(1)
                self._wanted.set()

    async def _reserve_ahead(self) -> None:
        while self._reserved_to - self._next < BLOCK // 2:
            first = await self._reserve(f"{self._label}/msn", BLOCK)
            unknown = self._reserved_to - first
            if unknown > 0:
                # Numbers from the clock were used that the store has not heard of: one step, however many.
                await self._reserve(f"{self._label}/msn", unknown)
            self._reserved_to = max(self._reserved_to, first) + BLOCK
        if self._unreserved_discontinuities:
            count = self._unreserved_discontinuities
            await self._reserve(f"{self._label}/discontinuity", count)
            self._unreserved_discontinuities -= count
