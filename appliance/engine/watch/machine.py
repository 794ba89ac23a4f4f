"""How the machine is doing: processor, memory, temperature, network, room on disk (proc(5), sysfs thermal and hwmon).

What the kernel doesn't tell is left out, never guessed.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from hw.paths import DevicePaths

#: Seconds for which figures hold: whoever asks sooner gets the same ones.
HOLD = 0.5
#: Seconds for which the room on disk holds, and how long a disk may take to tell it.
DISK_HOLD = 10.0
DISK_PATIENCE = 1.0
_PAGE = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface. Sums since it came up, and bit/s of late."""

    received: int
    sent: int
    errors: int
    receive_rate: int = 0
    send_rate: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes. ``stale``: the disk did not answer in time, these are of earlier."""

    path: str
    total: int
    free: int
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """``cpu`` is the share of all cores in use (0 to 1), ``process_cpu`` the engine's in cores, both of late; bytes;
    temperatures in °C by the name of their sensor."""

    cpu: float
    cores: int
    load: tuple[float, float, float]
    memory_total: int
    memory_available: int
    temperatures: Mapping[str, float]
    links: Mapping[str, Link]
    process_cpu: float
    process_cpu_seconds: float
    process_memory: int
    open_files: int


class Machine:
    """``paths`` lets tests put files in the place of the kernel's. ``clock`` gives monotonic seconds."""

    def __init__(self, paths: DevicePaths | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths or DevicePaths.from_environment()
        self._clock = clock
        self._at = clock()
        self._busy, self._total = _processor(self._paths.proc)
        self._used = _cpu_seconds()
        self._links = dict(_links(self._paths.proc))
        self._figures: Figures | None = None
        self._disks: dict[Path, tuple[float, Disk]] = {}

    def figures(self) -> Figures:
        """As they are now, at most HOLD seconds old. Takes about a third of a millisecond."""
        now = self._clock()
        span = now - self._at
        if self._figures is not None and span < HOLD:
            return self._figures
        busy, total = _processor(self._paths.proc)
        used = _cpu_seconds()
        links = dict(_links(self._paths.proc))
        memory = _memory(self._paths.proc)
        ticks = total - self._total
        self._figures = Figures(
            cpu=min(1.0, max(0.0, (busy - self._busy) / ticks)) if ticks > 0 else 0.0,
            cores=os.cpu_count() or 1,
            load=os.getloadavg(),
            memory_total=memory.get("MemTotal", 0),
            memory_available=memory.get("MemAvailable", 0),
            temperatures=dict(_temperatures(self._paths.sys)),
            links={name: _with_rates(link, self._links.get(name), span) for name, link in links.items()},
            process_cpu=(used - self._used) / span if span > 0 else 0.0,
            process_cpu_seconds=used,
            process_memory=resident_memory(),
            open_files=_open_files(),
        )
        self._at, self._busy, self._total, self._used, self._links = now, busy, total, used, links
        return self._figures

    async def disk(self, path: Path) -> Disk:
        """The room on the file system of ``path`` (or of the nearest folder above it that is there).

        Asked in a thread: a disk that hangs holds nobody up, it is told as it was, ``stale``.
        """
        now = self._clock()
        known = self._disks.get(path)
        if known is not None and now - known[0] < DISK_HOLD:
            return known[1]
        found: Disk | None = None
        with trio.move_on_after(DISK_PATIENCE):
            found = await trio.to_thread.run_sync(_room, path, abandon_on_cancel=True)
        if found is None:
            earlier = known[1] if known else Disk(str(path), 0, 0)
            found = Disk(str(path), earlier.total, earlier.free, stale=True)
        self._disks[path] = now, found
        return found


def resident_memory() -> int:
    """Bytes of this process in memory; 0 where the kernel doesn't tell."""
    fields = _read(Path("/proc/self/statm")).split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _open_files() -> int:
    """The size of the folder says it since Linux 6.2: with thousands of viewers it takes long to read."""
    try:
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor(proc: Path) -> tuple[int, int]:
    """Ticks of all cores: busy, and all."""
    line = _read(proc / "stat").partition("\n")[0].split()
    ticks = [int(field) for field in line[1:9] if field.isdecimal()]
    idle = sum(ticks[3:5])
    return sum(ticks) - idle, sum(ticks)


def _memory(proc: Path) -> dict[str, int]:
    found = {}
    for line in _read(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdecimal():
            found[name] = int(number[0]) * 1024
    return found


def _links(proc: Path) -> Iterator[tuple[str, Link]]:
    """Those that lead somewhere: not the loopback, and not what never carried anything."""
    for line in _read(proc / "net" / "dev").splitlines():
        name, colon, rest = line.partition(":")
        counters = rest.split()
        if not colon or len(counters) < 16 or not all(map(str.isdecimal, counters)):
            continue
        received, sent = int(counters[0]), int(counters[8])
        errors = int(counters[2]) + int(counters[3]) + int(counters[10]) + int(counters[11])
        if name.strip() != "lo" and (received or sent):
            yield name.strip(), Link(received, sent, errors)


def _with_rates(now: Link, before: Link | None, span: float) -> Link:
    if before is None or span <= 0:
        return now
    received, sent = max(0, now.received - before.received), max(0, now.sent - before.sent)
    return Link(now.received, now.sent, now.errors, int(received * 8 / span), int(sent * 8 / span))


def _temperatures(sys: Path) -> Iterator[tuple[str, float]]:
    zones = sorted((sys / "class" / "thermal").glob("thermal_zone*/temp"))
    for path in zones:
        yield from _temperature(path, _read(path.with_name("type")).strip() or path.parent.name)
    if zones:
        return
    for path in sorted((sys / "class" / "hwmon").glob("hwmon*/temp*_input")):
        chip = _read(path.with_name("name")).strip() or path.parent.name
        label = _read(path.with_name(path.name.replace("_input", "_label"))).strip()
        yield from _temperature(path, f"{chip} {label}".strip())


def _temperature(path: Path, name: str) -> Iterator[tuple[str, float]]:
    text = _read(path).strip()
    if text.lstrip("-").isdecimal():
        yield name, int(text) / 1000


def _room(path: Path) -> Disk | None:
    existing = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    try:
        room = os.statvfs(existing)
    except OSError:
        return None
    return Disk(str(path), room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize)
