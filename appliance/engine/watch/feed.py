"""The feed of events: one snapshot, then what changes, computed once for all who follow (server-sent events, HTML 9.2).

Each delta is a JSON merge patch of the snapshot: a follower needs one rule. While nobody follows nothing is computed.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

import msgspec
import trio

from appliance.engine.watch.patch import Item, difference
from appliance.errors import Unavailable
from appliance.media.contracts import Progress

log = logging.getLogger("kiln.events")

#: Seconds between two looks at the box; one that was woken comes sooner, but not sooner than AT_MOST_EVERY.
LOOK_EVERY = 1.0
AT_MOST_EVERY = 0.2
#: How long the box is looked at after the last follower has left, or somebody asked for a snapshot.
LINGER = 5.0
KEEP_ALIVE = 15.0
#: Past events that a follower may still fetch: one that is further behind is dropped, one that comes back begins anew.
RING_EVENTS = 2048
RING_BYTES = 2 * 1024 * 1024
MOST_FOLLOWERS = 64
#: A look gives way to others after so many seconds.
SLICE = 0.001
READY_WITHIN = 5.0

#: Section of the state -> what it is called that an item came, changed, went.
WORDS = {
    "system": ("system-changed", "system-changed", "system-changed"),
    "inputs": ("input-added", "input-changed", "input-removed"),
    "streams": ("stream-on", "stream-changed", "stream-off"),
    "tasks": ("task-added", "task-changed", "task-removed"),
    "alarms": ("alarm-opened", "alarm-changed", "alarm-closed"),
    "workers": ("worker-started", "worker-changed", "worker-ended"),
}

Write = Callable[[bytes], Awaitable[None]]
Look = Callable[[], Iterator[tuple[str, str, Item]]]

_encode = msgspec.json.Encoder().encode


class Feed:
    """``look`` gives ``(section, key, item)`` of all there is, each time anew; it may be left between any two.

    ``before`` is awaited before each look, for what has to be read from elsewhere.
    """

    def __init__(self, look: Look, before: Callable[[], Awaitable[None]] | None = None) -> None:
        self._look_at = look
        self._before = before
        self._state: dict[str, dict[str, Item]] = {section: {} for section in WORDS}
        #: Ids of another life of the engine mean nothing to this one.
        self._life = secrets.token_hex(4)
        self._last = 0
        self._ring: deque[bytes] = deque()
        self._ring_bytes = 0
        self._snapshot: tuple[int, bytes] | None = None
        self._followers = 0
        self._interest_until = -1.0
        self._looked_at = -1e9
        self._wanted = trio.Event()
        self._woken = trio.Event()
        self._looked = trio.Event()
        self._published = trio.Event()
        self.looks = 0

    @property
    def followers(self) -> int:
        return self._followers

    def wake(self) -> None:
        """Something has happened that is worth a look. Costs nothing while nobody follows."""
        self._woken.set()

    async def run(self, progress: Progress) -> None:
        """Look at the box while somebody wants to know, until cancelled."""
        while True:
            await self._wanted.wait()
            await self._look()
            progress()
            if not self._followers and trio.current_time() > self._interest_until:
                self._wanted = trio.Event()
                continue
            await trio.sleep(AT_MOST_EVERY)
            with trio.move_on_after(LOOK_EVERY - AT_MOST_EVERY):
                await self._woken.wait()
            self._woken = trio.Event()

    async def ready(self) -> None:
        """Until the state is of now. Raises Unavailable when there are too many followers, or the box can't look."""
        if self._followers >= MOST_FOLLOWERS:
            raise Unavailable(f"There are {MOST_FOLLOWERS} followers of the events already")
        now = trio.current_time()
        self._interest_until = now + LINGER
        idle = not self._wanted.is_set()
        self._wanted.set()
        if idle or now - self._looked_at > 2 * LOOK_EVERY:
            with trio.move_on_after(READY_WITHIN) as waited:
                await self._looked.wait()
            if waited.cancelled_caught:
                raise Unavailable("The state of the box can't be read at the moment")

    async def follow(self, write: Write, last_id: str = "") -> None:
        """Write events for as long as the client takes them; ``last_id`` is its Last-Event-ID.

        Begins with what came after that, else with a snapshot. Returns when the client is too far behind.
        """
        self._followers += 1
        try:
            beginning = b"retry: 1000\n\n"
            seen = self._resume(last_id)
            if seen is None:
                beginning += self._whole()
                seen = self._last
            await write(beginning)
            while True:
                if seen == self._last:
                    with trio.move_on_after(KEEP_ALIVE) as waited:
                        await self._published.wait()
                    if waited.cancelled_caught:
                        await write(b": still here\n\n")
                    continue
                first = self._last - len(self._ring)
                if seen < first:
                    log.warning("follower of events too slow, dropped behind=%d", self._last - seen)
                    return
                missed = b"".join(islice(self._ring, seen - first, None))
                seen = self._last
                await write(missed)
        finally:
            self._followers -= 1
            self._interest_until = trio.current_time() + LINGER

    def _resume(self, last_id: str) -> int | None:
        """The number of the event that was seen last, None when what came after it is not known any more."""
        life, _, number = last_id.partition("-")
        if life != self._life or not number.isdecimal() or len(number) > 18:
            return None
        seen = int(number)
        return seen if self._last - len(self._ring) <= seen <= self._last else None

    def _whole(self) -> bytes:
        if self._snapshot is None or self._snapshot[0] != self._last:
            self._snapshot = self._last, self._event(self._last, b"snapshot", self._state)
        return self._snapshot[1]

    def _event(self, number: int, name: bytes, data: object) -> bytes:
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (self._life.encode(), number, name, _encode(data))

    def _publish(self, name: str, data: object) -> None:
        self._last += 1
        event = self._event(self._last, name.encode(), data)
        self._ring.append(event)
        self._ring_bytes += len(event)
        while len(self._ring) > RING_EVENTS or (self._ring_bytes > RING_BYTES and len(self._ring) > 1):
            self._ring_bytes -= len(self._ring.popleft())

    async def _look(self) -> None:
        if self._before is not None:
            await self._before()
        before = self._last
        figures: dict[str, dict[str, Item]] = {}
        present: dict[str, set[str]] = {section: set() for section in WORDS}
        first = self.looks == 0
        breath = trio.current_time() + SLICE
        for section, key, item in self._look_at():
            present[section].add(key)
            known = self._state[section].get(key)
            self._state[section][key] = item
            if known is None:
                if not first:
                    self._publish(WORDS[section][0], {section: {key: item}})
            elif known != item:
                happened, measured = difference(known, item)
                if happened:
                    self._publish(_word(section, happened), {section: {key: happened}})
                if measured:
                    figures.setdefault(section, {})[key] = measured
            if trio.current_time() > breath:
                await trio.lowlevel.checkpoint()
                breath = trio.current_time() + SLICE
        for section, items in self._state.items():
            for key in [key for key in items if key not in present[section]]:
                del items[key]
                self._publish(WORDS[section][2], {section: {key: None}})
        if figures:
            self._publish("figures", figures)
        if first:
            self._snapshot = None
        self.looks += 1
        self._looked_at = trio.current_time()
        self._looked.set()
        self._looked = trio.Event()
        if self._last != before:
            self._published.set()
            self._published = trio.Event()


def _word(section: str, happened: Item) -> str:
    if section == "alarms" and happened.get("acknowledged") is True:
        return "alarm-acknowledged"
    return WORDS[section][1]
