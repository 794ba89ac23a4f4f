"""What the box must still know after a power cut: named blobs and number sequences, in one SQLite file.

One connection, one thread at a time; every call is a transaction that is on the disk when it returns (WAL,
``synchronous=FULL``). Never on the media path.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import trio

from appliance.errors import KilnError, Unavailable

Result = TypeVar("Result")

BUSY_SECONDS = 5.0
LOCK_NAME = "lock"
"""Beside the store: whoever has it locked has the folder; it holds their process id."""
KEPT_ASIDE = 9
"""So many broken files are kept beside the store; the last one is replaced then."""

MIGRATIONS = (
    """
    CREATE TABLE entry (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key))
        STRICT, WITHOUT ROWID;
    CREATE TABLE sequence (key TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE format (readable_from INTEGER NOT NULL) STRICT;
    INSERT INTO format VALUES (1);
    """,
)
"""Each brings the file from one version to the next. ``format.readable_from`` is the oldest program version that can
still use the file: an update must leave it at the version before its own, so that going back keeps the state."""


class StorageFull(KilnError):
    """There is no room for the state on its disk."""

    status = 507


class Transaction:
    """Reads and writes that become durable together. Lives in the store's thread, for the time of one call."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, kind: str, key: str) -> bytes | None:
        row = self._connection.execute("SELECT value FROM entry WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return bytes(row[0]) if row else None

    def list(self, kind: str) -> dict[str, bytes]:
        """All of a kind, by ascending key."""
        rows = self._connection.execute("SELECT key, value FROM entry WHERE kind = ? ORDER BY key", (kind,))
        return {key: bytes(value) for key, value in rows}

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO entry VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (kind, key, value)
        )

    def delete(self, kind: str, key: str) -> bool:
        """Whether there was such an entry."""
        return self._connection.execute("DELETE FROM entry WHERE kind = ? AND key = ?", (kind, key)).rowcount > 0

    def reserve(self, key: str, count: int) -> int:
        """The first of ``count`` numbers that were never given for ``key`` before; the very first is 0."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        sql = "INSERT INTO sequence VALUES (?, ?) ON CONFLICT DO UPDATE SET next = next + excluded.next RETURNING next"
        rows = self._connection.execute(sql, (key, count)).fetchall()
        return int(rows[0][0]) - count


class Store:
    """The open store. ``warnings`` tell what went wrong at opening: they belong in the API and in `kiln doctor`.

    Every call raises Unavailable when the file is locked or can't be read or written, StorageFull when the disk is.
    A cancelled call may still take effect, whole or not at all; later calls come after it.
    """

    def __init__(self, connection: sqlite3.Connection, warnings: tuple[str, ...], lock: int | None = None) -> None:
        self._connection = connection
        self._lock = lock
        self._one_at_a_time = trio.CapacityLimiter(1)
        self.warnings = warnings

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open the file, make it when there is none, bring an older one up to date.

        A file that is broken, too new or read-only is kept beside the new one (a read-only one is copied); where no
        file can be made at all, the state lives in memory. Both are told in ``warnings``. Raises Unavailable at once
        when another Store, of this or another process, is open in the same folder, or when the file is held.
        """
        return await trio.to_thread.run_sync(cls._open_locked, Path(path))

    @classmethod
    def _open_locked(cls, path: Path) -> Store:
        lock = _lock_folder(path.parent)
        try:
            connection, warnings = _open_somehow(path)
        except BaseException:
            _unlock(lock)
            raise
        return cls(connection, tuple(warnings), lock)

    async def get(self, kind: str, key: str) -> bytes | None:
        return await self.transaction(lambda transaction: transaction.get(kind, key))

    async def list(self, kind: str) -> dict[str, bytes]:
        """All of a kind, by ascending key."""
        return await self.transaction(lambda transaction: transaction.list(kind))

    async def put(self, kind: str, key: str, value: bytes) -> None:
        await self.transaction(lambda transaction: transaction.put(kind, key, value))

    async def delete(self, kind: str, key: str) -> bool:
        """Whether there was such an entry."""
        return await self.transaction(lambda transaction: transaction.delete(kind, key))

    async def reserve(self, key: str, count: int) -> int:
        """The first of ``count`` numbers that no call got before, also not before a power cut; the very first is 0."""
        return await self.transaction(lambda transaction: transaction.reserve(key, count))

    async def transaction(self, work: Callable[[Transaction], Result]) -> Result:
        """Run ``work`` in the store's thread: all of it becomes durable, or nothing when it raises."""
        return await trio.to_thread.run_sync(
            _transact, self._connection, work, abandon_on_cancel=True, limiter=self._one_at_a_time
        )

    async def close(self) -> None:
        await trio.to_thread.run_sync(self._close, abandon_on_cancel=True, limiter=self._one_at_a_time)

    def _close(self) -> None:
        self._connection.close()
        lock, self._lock = self._lock, None
        _unlock(lock)


def _lock_folder(folder: Path) -> int | None:
    """The open lock file, which the kernel lets go with the process; None where no file can be locked."""
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None  # a folder that can only be read: nobody writes to it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        by = f"another Kiln (pid {holder})" if holder else "another Kiln"
        message = f"The state folder {folder} is in use by {by}"
        raise Unavailable(message, hint="Stop that one, or choose another --state.") from None
    except OSError:
        os.close(lock)  # a file system without locks
        return None
    with suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _transact(connection: sqlite3.Connection, work: Callable[[Transaction], Result]) -> Result:
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(Transaction(connection))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result
    except sqlite3.Error as error:
        raise _explained(error) from error


def _explained(error: sqlite3.Error) -> KilnError:
    if _code(error) == sqlite3.SQLITE_FULL:
        return StorageFull("The disk of the state folder is full", hint="Free some space; nothing was changed.")
    if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("The state is in use by another process", hint="Is another kiln running with this --state?")
    return Unavailable(f"The state can't be read or written: {error}")


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _open_somehow(path: Path) -> tuple[sqlite3.Connection, list[str]]:
    warnings: list[str] = []
    for attempt in ("as it is", "anew"):
        try:
            return _open(path), warnings
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _explained(error) from error
            if attempt == "as it is" and path.exists() and not _is_full(error):
                warnings += _put_aside(path, error)
                continue
            warnings.append(f"The state can't be kept on disk ({error}): what is changed now is lost at the next start")
            break
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if path.exists():
        _copy(path, memory)
    _migrate(memory)
    return memory, warnings


def _is_full(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_FULL


def _open(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error or OSError for whatever keeps the file from being read and written."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"malformed: {verdict}")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this program's version; one that is newer is used when it says that this program may."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            readable_from = connection.execute("SELECT readable_from FROM format").fetchone()[0]
            if readable_from > len(MIGRATIONS):
                raise sqlite3.DatabaseError(f"it is of version {version}, this program reads up to {len(MIGRATIONS)}")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _put_aside(path: Path, error: Exception) -> list[str]:
    """Rename the file that can't be used, and copy what is in it when only writing failed."""
    free = (number for number in range(1, KEPT_ASIDE) if not path.with_name(f"{path.name}.aside-{number}").exists())
    aside = path.with_name(f"{path.name}.aside-{next(free, KEPT_ASIDE)}")
    try:
        for suffix in ("", "-wal", "-shm"):
            source = Path(f"{path}{suffix}")
            if source.exists():
                source.replace(f"{aside}{suffix}")
    except OSError as failure:
        return [f"The state can't be used ({error}) nor put aside ({failure})"]
    message = f"The state could not be used ({error}): it is kept as {aside.name}"
    if _is_read_only(error) and _copy_to_file(aside, path):
        return [f"{message}, and goes on as a copy"]
    return [f"{message}, and a new one begins: what was changed over the API is gone"]


def _is_read_only(error: Exception) -> bool:
    return isinstance(error, PermissionError) or (
        isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_READONLY
    )


def _copy_to_file(source: Path, path: Path) -> bool:
    with suppress(sqlite3.Error, OSError), closing(_open(path)) as target:
        if _copy(source, target):
            return True
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return False


def _copy(source: Path, target: sqlite3.Connection) -> bool:
    """Copy a healthy file that can only be read; in a folder that can only be read too, SQLite wants ``immutable``."""
    for how in ("mode=ro", "mode=ro&immutable=1"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{source.absolute().as_uri()}?{how}", uri=True)) as file:
            if file.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                file.backup(target)
                return True
    return False
