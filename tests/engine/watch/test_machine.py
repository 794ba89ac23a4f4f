"""Figures of the machine, out of files as the kernel writes them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from appliance.engine.watch import machine as machine_module
from appliance.engine.watch.machine import DISK_HOLD, Disk, Machine
from hw.paths import DevicePaths

HEAD = "Inter-|   Receive            |  Transmit\n face |bytes packets errs drop|bytes packets errs drop\n"


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def kernel(folder: Path, *, busy: int, idle: int, received: int, sent: int) -> None:
    net = folder / "proc" / "net"
    net.mkdir(parents=True, exist_ok=True)
    (folder / "proc" / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")
    (folder / "proc" / "meminfo").write_text("MemTotal:  2000 kB\nMemFree: 5 kB\nMemAvailable:   500 kB\nHugeX: 0\n")
    line = f"  eth0: {received} 1 2 3 0 0 0 0 {sent} 1 1 0 0 0 0 0\n"
    idle_link = "  dummy0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n"
    (net / "dev").write_text(HEAD + line + idle_link + "garbage\n")


def test_rates_are_of_late(tmp_path: Path) -> None:
    time = Time()
    kernel(tmp_path, busy=1000, idle=1000, received=1000, sent=2000)
    zone = tmp_path / "sys" / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("48250\n")
    (zone / "type").write_text("cpu-thermal\n")
    machine = Machine(DevicePaths(tmp_path), time)
    time.now += 2
    kernel(tmp_path, busy=1150, idle=1050, received=251_000, sent=2000)
    figures = machine.figures()
    assert figures.cpu == pytest.approx(0.75)
    assert (figures.memory_total, figures.memory_available) == (2000 * 1024, 500 * 1024)
    assert figures.temperatures == {"cpu-thermal": 48.25}
    assert list(figures.links) == ["eth0"]
    link = figures.links["eth0"]
    assert (link.receive_rate, link.send_rate, link.errors) == (1_000_000, 0, 6)
    assert machine.figures() is figures, "held"
    assert figures.process_memory > 1 << 20
    assert figures.open_files > 2


def test_sensors_of_chips_where_there_are_no_zones(tmp_path: Path) -> None:
    kernel(tmp_path, busy=1, idle=1, received=1, sent=1)
    chip = tmp_path / "sys" / "class" / "hwmon" / "hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("k10temp\n")
    (chip / "temp1_input").write_text("-5000\n")
    (chip / "temp1_label").write_text("Tctl\n")
    (chip / "temp2_input").write_text("no number\n")
    assert Machine(DevicePaths(tmp_path)).figures().temperatures == {"k10temp Tctl": -5.0}


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    figures = Machine(DevicePaths(tmp_path)).figures()
    assert (figures.cpu, figures.memory_total, dict(figures.links), dict(figures.temperatures)) == (0.0, 0, {}, {})


async def test_the_room_on_a_disk(tmp_path: Path) -> None:
    time = Time()
    machine = Machine(clock=time)
    disk = await machine.disk(tmp_path / "not" / "there")
    room = os.statvfs(tmp_path)
    assert disk.total == room.f_blocks * room.f_frsize
    assert 0 < disk.free <= disk.total
    assert await machine.disk(tmp_path / "not" / "there") is disk


async def test_a_disk_that_hangs_is_told_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    machine = Machine(clock=time)
    known = await machine.disk(tmp_path)
    monkeypatch.setattr(machine_module, "DISK_PATIENCE", 0.02)
    asked, answer, left = threading.Event(), threading.Event(), threading.Event()

    def hangs(path: Path) -> Disk | None:
        asked.set()
        answer.wait(5)
        left.set()
        return None

    monkeypatch.setattr(machine_module, "_room", hangs)
    time.now += DISK_HOLD
    with trio.fail_after(2):
        assert await machine.disk(tmp_path) == Disk(str(tmp_path), known.total, known.free, stale=True)
    assert asked.is_set()
    answer.set()
    assert await trio.to_thread.run_sync(left.wait, 5)
