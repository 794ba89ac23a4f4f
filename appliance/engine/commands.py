"""How the configuration is changed: validated, prepared, stored, applied; or undone. One change at a time.

Once a change begins to be stored it is finished, whoever asked for it: a client that leaves loses the reply alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from appliance.errors import Unavailable
from appliance.settings.store import Store, Transaction

log = logging.getLogger("kiln.engine")

#: How long a change waits for those before it (seconds).
PATIENCE = 10.0

Result = TypeVar("Result")


@dataclass(slots=True)
class Change(Generic[Result]):
    """``store`` writes into one transaction, ``apply`` makes it so; ``undo`` takes back what ``apply`` has done, as far
    as it came. ``result`` is for who asked."""

    result: Result
    store: Callable[[Transaction], None]
    apply: Callable[[], Awaitable[None]]
    undo: Callable[[], Awaitable[None]]


class Journal(Transaction):
    """A transaction that remembers what was there before."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction._connection)
        self.before: dict[tuple[str, str], bytes | None] = {}

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._note(kind, key)
        super().put(kind, key, value)

    def delete(self, kind: str, key: str) -> bool:
        self._note(kind, key)
        return super().delete(kind, key)

    def _note(self, kind: str, key: str) -> None:
        if (kind, key) not in self.before:
            self.before[kind, key] = self.get(kind, key)


class Commands:
    """Carries changes out, one after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = trio.Lock()

    async def run(self, prepare: Callable[[], Awaitable[Change[Result]]]) -> Result:
        """``prepare`` looks at what is there now, checks, and changes nothing; it raises what it finds wrong.

        What takes long in it and in ``apply`` lets others have their turn.

        Raises also Unavailable when other changes take too long, and what the store raises: then nothing has changed.
        """
        with trio.move_on_after(PATIENCE) as patience:
            await self._turn.acquire()
        if patience.cancelled_caught:
            raise Unavailable("Another change takes too long. Try again later")
        try:
            change = await prepare()
            with trio.CancelScope(shield=True):
                await self._carry_out(change)
            return change.result
        finally:
            self._turn.release()

    async def _carry_out(self, change: Change[Result]) -> None:
        before = await self._store.transaction(lambda transaction: _stored(change, transaction))
        try:
            await change.apply()
        except Exception:
            log.exception("a change could not be applied and is undone")
            await change.undo()
            await self._store.transaction(lambda transaction: _restore(transaction, before))
            raise


def _stored(change: Change[Result], transaction: Transaction) -> dict[tuple[str, str], bytes | None]:
    journal = Journal(transaction)
    change.store(journal)
    return journal.before


def _restore(transaction: Transaction, before: dict[tuple[str, str], bytes | None]) -> None:
    for (kind, key), value in before.items():
        if value is None:
            transaction.delete(kind, key)
        else:
            transaction.put(kind, key, value)
