"""Disks that are full, read-only, gone or slow: the task says so and goes on when it can; the hub never waits."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from appliance.storage.catalogue import Catalogue
from appliance.storage.disk import Disk
from appliance.storage.entry import Entry
from appliance.storage.messages import Rule
from appliance.storage.recording import Recording
from tests.publishers.record.kit import clip, decoded, found, repeated, studio, until


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system of its own can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """Of three megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    root = tmp_path / "volume"
    root.mkdir()
    mount("-t", "tmpfs", "-o", "size=3m", "none", str(root))
    try:
        yield root
    finally:
        subprocess.run(["umount", "-l", str(root)], check=False, capture_output=True)


async def test_a_full_disk(volume: Path) -> None:
    """The file is finished with what it has; the task tells, and goes on when there is room."""
    ballast = volume / "somebody's"
    ballast.write_bytes(bytes(2_600_000))
    tracks, packets = clip()
    async with studio(volume, tracks, policy=lambda: ((), 0.0)) as box:
        task = box.start(file_path="/${Sequence}.mp4", info_path="/a.xml")
        turn = 0
        while not task.error:
            await box.feed(list(repeated(packets, turn + 1))[turn * len(packets) :])
            turn += 1
            await trio.sleep(0.02)
            assert turn < 60
        assert "No space left" in task.error
        await until(lambda: found(volume, "0.mp4"))
        assert not found(volume, "tmp_*")
        assert decoded(volume / "0.mp4") > 30
        ballast.unlink()
        before = task.sequence
        for _ in range(20):
            await box.feed(list(repeated(packets, turn + 1))[turn * len(packets) :])
            turn += 1
            await trio.sleep(0.2)
            if not task.error:
                break
        assert task.error == ""
        assert task.sequence >= before
        await box.finish()
    assert all(decoded(path) > 0 for path in found(volume, "*.mp4"))
    assert len(found(volume, "*.mp4")) >= 2


def test_a_file_whose_head_finds_no_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    catalogue = Catalogue(disk)

    def refuse(handle: int, data: bytes, offset: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write", refuse)
    monkeypatch.setattr(catalogue, "save", lambda entry: None)
    entry = Entry(id="one", temporary="tmp_one", target="one.ts", container="ts")
    with pytest.raises(OSError, match="No space left"):
        Recording(disk, catalogue, entry, b"\x47" * 188)
    assert not (tmp_path / "tmp_one").exists()


async def test_old_recordings_make_room(volume: Path) -> None:
    """Oldest first, never one that is kept; the recording never stops."""
    tracks, packets = clip()
    async with studio(volume, tracks, policy=lambda: ((), 0.2)) as box:
        task = box.start(file_path="/${Sequence}.mp4", info_path="/a.xml", interval=4000)
        kept = ""
        for turn in range(120):
            await box.feed(list(repeated(packets, turn + 1))[turn * len(packets) :])
            await trio.sleep(0.02)
            if not kept and task.sequence >= 2:
                (first,) = [entry for entry in await box.disk.entries() if entry.sequence == 0]
                kept = (await box.disk.keep(first.id, True)).path
            assert task.error == ""
        await box.finish()
        entries = sorted(await box.disk.entries(), key=lambda entry: entry.sequence)
    assert kept == "0.mp4"
    names = [path.name for path in found(volume, "*.mp4")]
    assert "0.mp4" in names
    assert "1.mp4" not in names
    assert {entry.path for entry in entries} == set(names)
    assert entries[-1].sequence == task.sequence - 1
    assert all(decoded(volume / entry.path) > 0 for entry in entries)


async def test_a_disk_that_turns_read_only(volume: Path) -> None:
    tracks, packets = clip()
    async with studio(volume, tracks, policy=lambda: ((), 0.0)) as box:
        task = box.start(file_path="/${Sequence}.mp4", info_path="/a.xml")
        await box.feed(packets)
        await until(lambda: task.bytes > 10_000)
        # What is open for writing keeps a mount writable: the worker goes, and finds it so when it comes back.
        assert box.disk.pid is not None
        os.kill(box.disk.pid, 9)
        await until(lambda: box.disk.restarts)
        done = subprocess.run(  # noqa: ASYNC221
            ["mount", "-o", "remount,ro", str(volume)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(done.stderr)
        await box.feed(list(repeated(packets, 2))[len(packets) :])
        await until(lambda: "Read-only" in task.error)
        subprocess.run(["mount", "-o", "remount,rw", str(volume)], check=True)  # noqa: ASYNC221
        for turn in range(2, 30):
            await box.feed(list(repeated(packets, turn + 1))[turn * len(packets) :])
            await trio.sleep(0.3)
            if not task.error and len(found(volume, "*.mp4")) == 1:
                break
        await box.finish()
        await until(lambda: not found(volume, "tmp_*"))
    assert len(found(volume, "*.mp4")) == 2


@pytest.mark.long
async def test_age_and_size(tmp_path: Path) -> None:
    tracks, packets = clip()
    policy: list[tuple[list[Rule], float]] = [([], 0.0)]
    async with studio(tmp_path, tracks, policy=lambda: policy[0]) as box:
        box.start(file_path="/${Sequence}.mp4", info_path="/a.xml", interval=1900)
        for turn in range(4):
            await box.feed(list(repeated(packets, turn + 1))[turn * len(packets) :])
        await box.finish()
        before = sorted(await box.disk.entries(), key=lambda entry: entry.sequence)
        assert len(before) == 4
        keep = before[-1].bytes + before[-2].bytes
        policy[0] = ([Rule("default", "app", 0, keep), Rule("default", "other", 1, 1)], 0.0)
        await until(lambda: len(found(tmp_path, "*.mp4")) == 2, 20)
        assert {entry.id for entry in await box.disk.entries()} == {entry.id for entry in before[2:]}
        await box.disk.keep(before[2].id, True)
        policy[0] = ([Rule("default", "app", 1, 0)], 0.0)
        await until(lambda: [path.name for path in found(tmp_path, "*.mp4")] == [before[2].path], 20)


SLOW = """
import sys, time
from appliance.storage.disk import Disk
from appliance.storage.worker import main
class Slow(Disk):
    def write(self, handle, data, offset):
        time.sleep(len(data) / 1_000_000)
        super().write(handle, data, offset)
main(sys.argv[1:], Slow)
"""


async def test_a_slow_disk_holds_nobody_up(tmp_path: Path) -> None:
    """One megabyte a second is enough for a stream that is slower, and its files are whole."""
    tracks, packets = clip()
    async with studio(tmp_path, tracks, command=(sys.executable, "-P", "-c", SLOW)) as box:
        task = box.start(file_path="/a.mp4", info_path="/a.xml")
        await until(lambda: box.stream.readers)
        for turn in range(20):
            before = trio.current_time()
            for packet in list(repeated(packets, turn + 1))[turn * len(packets) :]:
                box.stream.publish(packet)
            assert trio.current_time() - before < 0.5
            await trio.sleep(0.05)
        await box.finish()
    assert task.error == ""
    assert decoded(tmp_path / "a.mp4") == 1200
