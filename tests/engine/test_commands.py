"""Changes come one at a time, whole or not at all, and a client that leaves loses only the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.engine.commands import PATIENCE, Change, Commands
from appliance.errors import BadRequest, Unavailable
from appliance.settings.store import Store, Transaction


class Ledger:
    """A store with one entry, and what stands in memory for it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.commands = Commands(store)
        self.value = b"old"

    def writing(self, value: bytes, *, fails: bool = False) -> Callable[[], Awaitable[Change[bytes]]]:
        async def prepare() -> Change[bytes]:
            before = self.value

            def store(transaction: Transaction) -> None:
                transaction.put("k", "one", value)
                transaction.put("k", "new", value)
                transaction.delete("k", "gone")

            async def apply() -> None:
                await trio.lowlevel.checkpoint()
                self.value = value
                if fails:
                    raise ZeroDivisionError

            async def undo() -> None:
                self.value = before

            return Change(value, store, apply, undo)

        return prepare

    async def kept(self) -> dict[str, bytes]:
        return await self.store.list("k")


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    store = await Store.open(tmp_path / "kiln.sqlite")
    await store.put("k", "one", b"old")
    await store.put("k", "gone", b"here")
    yield Ledger(store)
    await store.close()


async def test_it_is_stored_and_applied(ledger: Ledger) -> None:
    assert await ledger.commands.run(ledger.writing(b"v")) == b"v"
    assert (ledger.value, await ledger.kept()) == (b"v", {"one": b"v", "new": b"v"})


async def test_what_can_not_be_applied_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError):
        await ledger.commands.run(ledger.writing(b"v", fails=True))
    assert (ledger.value, await ledger.kept()) == (b"old", {"one": b"old", "gone": b"here"})
    assert await ledger.commands.run(ledger.writing(b"w")) == b"w"


async def test_what_is_refused_leaves_nothing(ledger: Ledger) -> None:
    async def refuse() -> Change[None]:
        raise BadRequest("no")

    with pytest.raises(BadRequest):
        await ledger.commands.run(refuse)
    assert (ledger.value, await ledger.kept()) == (b"old", {"one": b"old", "gone": b"here"})


async def test_a_client_that_leaves_loses_the_answer_alone(ledger: Ledger) -> None:
    with trio.CancelScope() as scope:
        prepare = ledger.writing(b"v")

        async def leave() -> Change[bytes]:
            change = await prepare()
            scope.cancel()
            return change

        await ledger.commands.run(leave)
    assert (ledger.value, await ledger.kept()) == (b"v", {"one": b"v", "new": b"v"})


async def test_those_that_wait_too_long_are_told(ledger: Ledger, autojump_clock: MockClock) -> None:
    release = trio.Event()

    async def slow() -> Change[bytes]:
        await release.wait()
        return await ledger.writing(b"slow")()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.commands.run, slow)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(Unavailable):
            await ledger.commands.run(ledger.writing(b"second"))
        assert trio.current_time() - began == pytest.approx(PATIENCE)
        release.set()
    assert ledger.value == b"slow"
