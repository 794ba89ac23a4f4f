"""What a crash in the middle of a change leaves to be done: a file to be written, a change that nobody confirmed."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import trio

from appliance.engine.configuration import APPLICATION, VHOST
from appliance.engine.server_file import read, write
from appliance.errors import KilnError
from appliance.settings.store import Store, Transaction

log = logging.getLogger("kiln.engine")

KIND = "configuration"
#: A file that is to be written because the store has changed with it.
FILE = "file"
#: What to go back to when a change is not confirmed.
UNCONFIRMED = "unconfirmed"
_KEPT = (VHOST, APPLICATION)


class FileChange(msgspec.Struct, frozen=True):
    """``after`` is to stand in ``path`` instead of ``before``; None is no file."""

    path: str
    before: bytes | None
    after: bytes | None


class Unconfirmed(msgspec.Struct, frozen=True):
    """``entries`` by kind are those of the store before the change, ``file`` leads back to the file before it."""

    entries: dict[str, dict[str, bytes]]
    file: FileChange | None


def entries_of(transaction: Transaction) -> dict[str, dict[str, bytes]]:
    """All of the configuration that lies in the store."""
    return {kind: transaction.list(kind) for kind in _KEPT}


def put_back(transaction: Transaction, entries: dict[str, dict[str, bytes]]) -> None:
    """From now on the store has these."""
    for kind in _KEPT:
        wanted = entries.get(kind, {})
        present = transaction.list(kind)
        for key in present.keys() - wanted.keys():
            transaction.delete(kind, key)
        for key, value in wanted.items():
            if present.get(key) != value:
                transaction.put(kind, key, value)


def note_file(transaction: Transaction, change: FileChange) -> None:
    """The file is written after this transaction, or at the next start."""
    transaction.put(KIND, FILE, msgspec.json.encode(change))


async def write_file(store: Store, change: FileChange) -> None:
    """Carry out what was noted. Raises Forbidden, StorageFull."""
    await trio.to_thread.run_sync(write, Path(change.path), change.after)
    await store.delete(KIND, FILE)


async def recover(store: Store) -> list[str]:
    """At the start, before the configuration is read: undo what was not confirmed, finish what was begun.

    What was done, for the log; the files concerned may have changed."""
    done: list[str] = []
    if await store.transaction(go_back):
        done.append("a change of the configuration was not confirmed before the end: it is undone")
    noted = await store.get(KIND, FILE)
    if noted is None:
        return done
    try:
        change = msgspec.json.decode(noted, type=FileChange)
        present = read(Path(change.path))
        if present == change.before:
            await write_file(store, change)
            done.append(f"{change.path} is written, as the store says")
        else:
            if present != change.after:
                done.append(f"{change.path} was changed by somebody else: it is left as it is")
            await store.delete(KIND, FILE)
    except (msgspec.MsgspecError, KilnError) as error:
        done.append(f"a configuration file could not be finished: {error}")
    return done


def go_back(transaction: Transaction) -> bool:
    """The store is as before the change that nobody confirmed. False when there is none."""
    noted = transaction.get(KIND, UNCONFIRMED)
    if noted is None:
        return False
    transaction.delete(KIND, UNCONFIRMED)
    try:
        before = msgspec.json.decode(noted, type=Unconfirmed)
    except msgspec.MsgspecError as error:
        log.error("what is to be undone can't be read reason=%s", error)
        return False
    put_back(transaction, before.entries)
    if before.file is not None:
        note_file(transaction, before.file)
    return True
