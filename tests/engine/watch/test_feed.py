"""The feed: one snapshot, deltas computed once, nothing while nobody listens, reconnects, and slow followers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from appliance.child_spec import Progress
from appliance.console.server_events import Event, EventParser, merge
from appliance.engine.watch import feed as feed_module
from appliance.engine.watch.feed import KEEP_ALIVE, LINGER, MOST_FOLLOWERS, Feed
from appliance.engine.watch.patch import difference
from appliance.errors import Unavailable

State = dict[str, dict[str, dict[str, Any]]]

leaves = st.one_of(st.integers(), st.text(max_size=4), st.booleans(), st.lists(st.integers(), max_size=3))
items = st.recursive(
    leaves,
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "figures", "tracks"]), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(["a", "b", "figures", "outputs"]), items, max_size=4)


@given(objects, objects)
def test_a_difference_makes_the_new_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    happened, figures = difference(old, new)
    copy = json.loads(json.dumps(old))
    assert merge(merge(copy, happened), figures) == new
    assert (happened, figures) == ({}, {}) or old != new


@given(objects)
def test_figures_alone_are_no_event(old: dict[str, Any]) -> None:
    new = {**old, "figures": {"x": 1}}
    known = {**old, "figures": {"x": 0}}
    assert difference(known, new) == ({}, {"figures": {"x": 1}})


class World:
    """What is looked at."""

    def __init__(self) -> None:
        self.state: State = {"system": {"box": {"figures": {"cpu": 0.1}}}, "streams": {}}
        self.feed = Feed(self.look)

    def look(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for section, found in self.state.items():
            for key, item in list(found.items()):
                yield section, key, json.loads(json.dumps(item))

    def put(self, name: str, bitrate: int = 0, **more: Any) -> None:
        self.state["streams"][name] = {"name": name, "figures": {"bitrate": bitrate}, **more}


class Follower:
    """A client that keeps the events, and a copy of the state made of them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.state: Any = {}
        self.comments = 0
        self._parser = EventParser()

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.comments += data.count(b": still here")
        for event in self._parser.receive_data(data):
            self.events.append(event)
            value = json.loads(event.data)
            self.state = value if event.name == "snapshot" else merge(self.state, value)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]


@asynccontextmanager
async def running(world: World) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.feed.run, Progress())
        yield nursery
        nursery.cancel_scope.cancel()


async def test_a_snapshot_and_then_what_changes(autojump_clock: MockClock) -> None:
    world, one, two = World(), Follower(), Follower()
    world.put("a")
    async with running(world) as nursery:
        await world.feed.ready()
        nursery.start_soon(world.feed.follow, one.write)
        nursery.start_soon(world.feed.follow, two.write)
        await trio.sleep(1.5)
        world.put("b", 5)
        await trio.sleep(1.5)
        world.put("b", 6)
        world.state["system"]["box"]["figures"]["cpu"] = 0.2
        await trio.sleep(1.5)
        world.put("b", 6, codec="H264")
        await trio.sleep(1.5)
        del world.state["streams"]["a"]
        await trio.sleep(1.5)
        looks = world.feed.looks
    assert one.names == ["snapshot", "stream-on", "figures", "stream-changed", "stream-off"]
    assert one.state["streams"] == world.state["streams"]
    assert one.state["system"] == world.state["system"]
    assert json.loads(one.events[2].data) == {
        "system": {"box": {"figures": {"cpu": 0.2}}}, "streams": {"b": {"figures": {"bitrate": 6}}}
    }  # fmt: skip
    assert one.events == two.events
    assert looks <= 9, "one look a second, however many follow"


async def test_nothing_is_looked_at_while_nobody_listens(autojump_clock: MockClock) -> None:
    world = World()
    async with running(world):
        await trio.sleep(60)
        assert world.feed.looks == 0
        await world.feed.ready()
        follower = Follower()
        with trio.move_on_after(3):
            await world.feed.follow(follower.write)
        await trio.sleep(LINGER + 2)
        looks = world.feed.looks
        await trio.sleep(600)
        assert world.feed.looks == looks
        assert world.feed.followers == 0


async def test_who_comes_back_gets_what_was_missed(autojump_clock: MockClock) -> None:
    world, follower = World(), Follower()
    async with running(world):
        await world.feed.ready()
        with trio.move_on_after(2):
            await world.feed.follow(follower.write)
        last = follower.events[-1].id
        await trio.sleep(300)
        world.put("late")
        again = Follower()
        again.state = follower.state
        await world.feed.ready()
        with trio.move_on_after(2):
            await world.feed.follow(again.write, last)
        assert again.names == ["stream-on"]
        assert again.state["streams"] == world.state["streams"]
        for other in ("", "nonsense", "12345678-0", last + "x", f"{last.partition('-')[0]}-999"):
            fresh = Follower()
            with trio.move_on_after(1):
                await world.feed.follow(fresh.write, other)
            assert fresh.names[0] == "snapshot", other


async def test_a_slow_follower_is_dropped_and_holds_nobody_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RING_EVENTS", 4)
    world, quick = World(), Follower()
    ended = trio.Event()

    async def stuck(data: bytes) -> None:
        await trio.sleep(100)

    async def slow() -> None:
        await world.feed.follow(stuck)
        ended.set()

    async with running(world) as nursery:
        await world.feed.ready()
        nursery.start_soon(world.feed.follow, quick.write)
        nursery.start_soon(slow)
        for number in range(20):
            world.put(f"s{number}")
            await trio.sleep(1.1)
        assert quick.names.count("stream-on") == 20
        with trio.fail_after(200):
            await ended.wait()


async def test_a_sign_of_life(autojump_clock: MockClock) -> None:
    world, follower = World(), Follower()
    async with running(world) as nursery:
        await world.feed.ready()
        nursery.start_soon(world.feed.follow, follower.write)
        await trio.sleep(KEEP_ALIVE * 3 + 1)
    assert follower.comments == 3


async def test_what_wakes_comes_at_once(autojump_clock: MockClock) -> None:
    world, follower = World(), Follower()
    async with running(world) as nursery:
        await world.feed.ready()
        nursery.start_soon(world.feed.follow, follower.write)
        await trio.sleep(2.3)
        world.put("now")
        world.feed.wake()
        await trio.sleep(0.25)
        assert follower.names[-1] == "stream-on"


async def test_too_many_followers_and_no_looks(autojump_clock: MockClock) -> None:
    world = World()
    with pytest.raises(Unavailable, match="can't be read"):
        await world.feed.ready()
    async with running(world) as nursery:
        await world.feed.ready()
        for _ in range(MOST_FOLLOWERS):
            nursery.start_soon(world.feed.follow, Follower().write)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unavailable, match="followers"):
            await world.feed.ready()
