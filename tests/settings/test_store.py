# ruff: noqa: ASYNC240 - small files of a test
"""The store keeps what it has said it keeps, whatever happens to the process and the file."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from appliance.errors import Unavailable
from appliance.settings import store as store_module
from appliance.settings.store import MIGRATIONS, StorageFull, Store, Transaction

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kiln.db"


async def test_keeps_values_over_a_restart(path: Path) -> None:
    first = await Store.open(path)
    await first.put("vhost", "b", b"2")
    await first.put("vhost", "a", b"1")
    await first.put("vhost", "a", b"\x00\xff")
    await first.put("app", "a", b"")
    await first.close()
    again = await Store.open(path)
    assert again.warnings == ()
    assert await again.list("vhost") == {"a": b"\x00\xff", "b": b"2"}
    assert list(await again.list("vhost")) == ["a", "b"]
    assert await again.get("app", "a") == b""
    assert await again.get("app", "b") is None
    assert await again.delete("vhost", "a") is True
    assert await again.delete("vhost", "a") is False
    assert await again.list("vhost") == {"b": b"2"}
    await again.close()


async def test_the_file_is_private_and_durable(path: Path) -> None:
    store = await Store.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    pragmas = await trio.to_thread.run_sync(
        lambda: [store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    )
    assert pragmas == ["wal", 2]
    await store.close()


async def test_reserves_each_number_once(path: Path) -> None:
    store = await Store.open(path)
    assert [await store.reserve("a", 256), await store.reserve("a", 1), await store.reserve("b", 10)] == [0, 256, 0]
    await store.close()
    store = await Store.open(path)
    assert await store.reserve("a", 5) == 257
    with pytest.raises(ValueError, match="at least 1"):
        await store.reserve("a", 0)
    await store.close()


async def test_callers_at_once_are_served_one_after_the_other(path: Path) -> None:
    store = await Store.open(path)
    got: list[int] = []

    async def take() -> None:
        got.extend([await store.reserve("a", 3) for _ in range(5)])

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(take)
    assert sorted(got) == list(range(0, 120, 3))
    await store.close()


async def test_a_transaction_is_whole_or_not_at_all(path: Path) -> None:
    store = await Store.open(path)
    await store.put("app", "kept", b"old")

    def half(transaction: Transaction) -> None:
        transaction.put("app", "kept", b"new")
        transaction.reserve("a", 10)
        raise KeyError("stop here")

    with pytest.raises(KeyError):
        await store.transaction(half)
    assert await store.get("app", "kept") == b"old"
    assert await store.reserve("a", 1) == 0

    def both(transaction: Transaction) -> bytes | None:
        transaction.put("app", "x", b"1")
        transaction.delete("app", "kept")
        return transaction.get("app", "x")

    assert await store.transaction(both) == b"1"
    assert await store.list("app") == {"x": b"1"}
    await store.close()


@pytest.mark.parametrize("content", [b"this is no database at all" * 400, b"SQLite format 3\x00" + bytes(4096)])
async def test_a_broken_file_is_kept_aside_and_a_new_one_begins(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = await Store.open(path)
    assert "kiln.db.aside-1" in store.warnings[0]
    assert "a new one begins" in store.warnings[0]
    assert path.with_name("kiln.db.aside-1").read_bytes() == content
    await store.put("app", "a", b"1")
    await store.close()
    store = await Store.open(path)
    assert (store.warnings, await store.get("app", "a")) == ((), b"1")
    await store.close()


async def test_a_damaged_page_is_found_at_opening(path: Path) -> None:
    store = await Store.open(path)
    for number in range(200):
        await store.transaction(lambda transaction, number=number: transaction.put("app", str(number), b"x" * 500))  # type: ignore[misc]
    await store.close()
    data = bytearray(path.read_bytes())
    data[8192:40960] = os.urandom(32768)
    path.write_bytes(data)
    store = await Store.open(path)
    assert len(store.warnings) == 1
    assert await store.list("app") == {}
    await store.close()


async def test_old_broken_files_do_not_pile_up(path: Path) -> None:
    for _ in range(12):
        path.write_bytes(b"broken" * 1000)
        await (await Store.open(path)).close()
    assert len(list(path.parent.glob("kiln.db.aside-*"))) == store_module.KEPT_ASIDE


async def test_lives_in_memory_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = await Store.open(tmp_path / "file" / "kiln.db")
    assert "can't be kept on disk" in store.warnings[0]
    await store.put("app", "a", b"1")
    assert await store.get("app", "a") == b"1"
    await store.close()


READ_ONLY = """
import os, sys, trio
from pathlib import Path
from appliance.settings.store import Store

folder, mode = Path(sys.argv[1]), int(sys.argv[2], 8)

async def main():
    store = await Store.open(folder / "kiln.db")
    await store.put("app", "a", b"1")
    await store.reserve("a", 7)
    await store.close()
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(mode)
    if os.geteuid() == 0:  # whom no mode keeps out
        os.setuid(65534)
    store = await Store.open(folder / "kiln.db")
    print(store.warnings[-1], await store.get("app", "a"), await store.reserve("a", 1))
    await store.put("app", "b", b"2")
    print(await store.get("app", "b"))
    await store.close()
    store = await Store.open(folder / "kiln.db")
    print(store.warnings, await store.get("app", "b"))
    await store.close()

trio.run(main)
"""


def _read_only(mode: str) -> tuple[list[str], list[str]]:
    """What the script says of a folder of this mode, and the files that are in it then."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-c", READ_ONLY, name, mode]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        folder.chmod(0o755)
        return done.stdout.splitlines(), sorted(file.name for file in folder.iterdir())


def test_a_read_only_file_goes_on_as_a_copy() -> None:
    (first, second, third), files = _read_only("777")
    assert "kiln.db.aside-1" in files
    assert "goes on as a copy" in first
    assert first.endswith("b'1' 7")
    assert (second, third) == ("b'2'", "() b'2'")


def test_a_read_only_folder_is_read_and_the_rest_lives_in_memory() -> None:
    (first, second, third), files = _read_only("555")
    assert "can't be kept on disk" in first
    assert first.endswith("b'1' 7")
    assert second == "b'2'"
    assert third.endswith("None")
    assert files == ["kiln.db", "lock"]


async def test_a_locked_file_is_an_error_and_stays_where_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.02)
    store = await Store.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="another process"):
        await store.put("app", "a", b"1")
    other.execute("ROLLBACK")
    await store.close()
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="another process"):
        await Store.open(path)
    other.execute("ROLLBACK")
    other.close()
    store = await Store.open(path)
    await store.put("app", "a", b"2")
    assert await store.get("app", "a") == b"2"
    assert not list(path.parent.glob("*.aside-*"))
    await store.close()


async def test_a_folder_has_one_store_at_a_time(path: Path) -> None:
    store = await Store.open(path)
    with pytest.raises(Unavailable, match=rf"{path.parent} is in use by another Kiln \(pid {os.getpid()}\)"):
        await Store.open(path)
    await store.put("app", "a", b"1")
    await store.close()
    again = await Store.open(path)
    assert await again.get("app", "a") == b"1"
    await again.close()


def test_another_process_holds_the_folder_until_it_dies(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        writer.stdout.readline()
        with pytest.raises(Unavailable, match=rf"another Kiln \(pid {writer.pid}\)"):
            trio.run(Store.open, path)
        writer.kill()

    async def open_and_close() -> tuple[str, ...]:
        store = await Store.open(path)
        await store.close()
        return store.warnings

    assert trio.run(open_and_close) == ()


async def test_a_full_disk_changes_nothing_and_says_so(path: Path) -> None:
    store = await Store.open(path)
    await store.put("app", "a", b"1")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull) as caught:
        await store.put("app", "a", b"x" * 100_000)
    assert caught.value.status == 507
    assert await store.get("app", "a") == b"1"
    await store.close()


async def test_goes_forward_from_the_version_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await Store.open(path)
    await old.put("app", "a", b"1")
    await old.close()
    newer = (*MIGRATIONS, "ALTER TABLE sequence ADD COLUMN note TEXT; UPDATE format SET readable_from = 1")
    monkeypatch.setattr(store_module, "MIGRATIONS", newer)
    store = await Store.open(path)
    assert (store.warnings, await store.get("app", "a")) == ((), b"1")
    assert store._connection.execute("PRAGMA user_version").fetchone()[0] == len(newer)
    await store.close()


async def test_a_newer_file_that_allows_it_is_used_as_it_is(path: Path) -> None:
    await _as_version(path, len(MIGRATIONS) + 1, readable_from=len(MIGRATIONS))
    store = await Store.open(path)
    assert store.warnings == ()
    await store.put("app", "a", b"1")
    assert store._connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1
    await store.close()


async def test_a_file_that_is_too_new_is_kept_aside(path: Path) -> None:
    await _as_version(path, len(MIGRATIONS) + 2, readable_from=len(MIGRATIONS) + 1)
    store = await Store.open(path)
    assert "it is of version" in store.warnings[0]
    assert path.with_name("kiln.db.aside-1").exists()
    await store.close()


async def test_a_migration_that_fails_leaves_the_file_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await Store.open(path)
    await old.put("app", "a", b"1")
    await old.put("app", "b", b"1")
    await old.close()
    with monkeypatch.context() as patch:
        fails = "DROP TABLE sequence; CREATE UNIQUE INDEX one_of_a_kind ON entry (kind)"
        patch.setattr(store_module, "MIGRATIONS", (*MIGRATIONS, fails))
        await (await Store.open(path)).close()
    aside = sqlite3.connect(path.with_name("kiln.db.aside-1"))
    assert aside.execute("SELECT value FROM entry").fetchall() == [(b"1",), (b"1",)]
    assert aside.execute("SELECT count(*) FROM sequence").fetchone() == (0,)
    aside.close()


async def _as_version(path: Path, version: int, readable_from: int) -> None:
    store = await Store.open(path)
    store._connection.execute(f"PRAGMA user_version = {version}")
    store._connection.execute("UPDATE format SET readable_from = ?", (readable_from,))
    await store.close()


WRITER = """
import sys, trio
from appliance.settings.store import Store

async def main():
    store = await Store.open(sys.argv[1])
    async def put():
        for number in range(10**6):
            await store.put("app", str(number % 50), b"%d" % number)
            print("put", number, flush=True)
    async def reserve():
        for _ in range(10**6):
            print("first", await store.reserve("a", 16), flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        nursery.start_soon(reserve)

trio.run(main)
"""


def _killed_writer(path: Path, lines: int) -> tuple[list[int], list[int]]:
    """The numbers put and reserved that a writer reported before it was killed in the middle of its work."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        seen = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        seen += [line for line in writer.stdout.readlines() if line.endswith("\n")]
    puts = [int(line.split()[1]) for line in seen if line.startswith("put")]
    return puts, [int(line.split()[1]) for line in seen if line.startswith("first")]


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.long)])
async def test_a_kill_loses_nothing_and_gives_no_number_twice(path: Path, kills: int) -> None:
    chance = random.Random(kills)
    given: set[int] = set()
    for _ in range(kills):
        puts, firsts = await trio.to_thread.run_sync(_killed_writer, path, chance.randrange(2, 120))
        assert not given.intersection(firsts)
        given.update(firsts)
        store = await Store.open(path)
        assert store.warnings == ()
        entries = await store.list("app")
        for number in puts[-50:]:
            assert int(entries[str(number % 50)]) >= number
        first = await store.reserve("a", 16)
        assert first not in given
        assert first > max(given, default=-1)
        given.add(first)
        await store.close()
