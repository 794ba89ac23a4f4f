"""How the machine itself is: heat, fans, throttling, power, disks (sysfs hwmon, thermal, cpufreq, power_supply, block).

What the kernel doesn't tell is left out, never guessed. Reading may wait for slow chips: call it in a thread. Not
verified on hardware.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hw.files import read_int, read_text
from hw.paths import DevicePaths

#: Bits of the Raspberry Pi's get_throttled: now, and since it was switched on.
_UNDER_VOLTAGE, _FREQUENCY_CAPPED, _THROTTLED, _SOFT_LIMIT = 0, 1, 2, 3
_RASPBERRY = "devices/platform/soc/soc:firmware/get_throttled"
#: Numbers that no sensor of a working box gives (°C): a chip that is not there reads 127 or -128.
COLDEST, HOTTEST = -60.0, 126.0
_NOT_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Temperature:
    """°C; ``critical`` where the machine switches itself off, None when it isn't told."""

    name: str
    celsius: float
    critical: float | None


@dataclass(frozen=True, slots=True)
class Fan:
    """``fault``: the chip says so, or it stands still although it is driven."""

    name: str
    rpm: int
    fault: bool


@dataclass(frozen=True, slots=True)
class Supply:
    """``kind`` Mains, Battery, USB …; ``online`` and ``capacity`` (per cent) None when they aren't told."""

    name: str
    kind: str
    online: bool | None
    capacity: int | None
    status: str


@dataclass(frozen=True, slots=True)
class DiskHealth:
    """``worn`` per cent of the life of flash, ``end_of_life`` its own warning ("", normal, warning, urgent). ``health``
    is where that comes from, or why it isn't known. Bytes since the box was switched on; ``busy_ms`` likewise."""

    name: str
    model: str
    size: int
    read_only: bool
    read: int
    written: int
    busy_ms: int
    worn: int | None
    end_of_life: str
    health: str


@dataclass(frozen=True, slots=True)
class Throttling:
    """Each None when the machine does not tell. ``frequency_share``: the highest frequency that is allowed now, of
    the highest one there is (0 to 1)."""

    throttled: bool | None = None
    under_voltage: bool | None = None
    under_voltage_since_start: bool | None = None
    frequency_share: float | None = None
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    temperatures: tuple[Temperature, ...]
    fans: tuple[Fan, ...]
    supplies: tuple[Supply, ...]
    disks: tuple[DiskHealth, ...]
    throttling: Throttling

    @property
    def hottest(self) -> Temperature | None:
        return max(self.temperatures, key=lambda each: each.celsius, default=None)


def read_sensors(paths: DevicePaths) -> Readings:
    """All of them, as they are now."""
    return Readings(
        tuple(_temperatures(paths)), tuple(_fans(paths)), tuple(_supplies(paths)), tuple(_disks(paths)),
        _throttling(paths),
    )  # fmt: skip


def _entries(folder: Path, pattern: str = "*") -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _temperatures(paths: DevicePaths) -> Iterator[Temperature]:
    seen = set()
    for chip in _entries(paths.sys / "class" / "hwmon", "hwmon*"):
        kind = read_text(chip / "name") or chip.name
        seen.add(kind)
        for file in _entries(chip, "temp*_input"):
            base = file.name.removesuffix("_input")
            label = read_text(chip / f"{base}_label")
            found = _temperature(f"{kind}/{label or base}", file, chip / f"{base}_crit")
            if found:
                yield found
    for zone in _entries(paths.sys / "class" / "thermal", "thermal_zone*"):
        kind = read_text(zone / "type") or zone.name
        found = _temperature(f"{kind}/{zone.name}", zone / "temp", _trip(zone)) if kind not in seen else None
        if found:
            yield found


def _temperature(name: str, file: Path, critical: Path | None) -> Temperature | None:
    value = read_int(file)
    if value is None or not COLDEST <= value / 1000 <= HOTTEST:
        return None
    limit = read_int(critical) if critical else None
    return Temperature(name, value / 1000, limit / 1000 if limit and limit > 0 else None)


def _trip(zone: Path) -> Path | None:
    for file in _entries(zone, "trip_point_*_type"):
        if read_text(file) == "critical":
            return file.with_name(file.name.replace("_type", "_temp"))
    return None


def _fans(paths: DevicePaths) -> Iterator[Fan]:
    for chip in _entries(paths.sys / "class" / "hwmon", "hwmon*"):
        kind = read_text(chip / "name") or chip.name
        for file in _entries(chip, "fan*_input"):
            base = file.name.removesuffix("_input")
            rpm = read_int(file)
            if rpm is None or rpm < 0:
                continue
            driven = (read_int(chip / f"pwm{base.removeprefix('fan')}") or 0) > 0
            fault = read_int(chip / f"{base}_fault") == 1 or (driven and rpm == 0)
            yield Fan(f"{kind}/{read_text(chip / f'{base}_label') or base}", rpm, fault)


def _supplies(paths: DevicePaths) -> Iterator[Supply]:
    for folder in _entries(paths.sys / "class" / "power_supply"):
        online, capacity = read_int(folder / "online"), read_int(folder / "capacity")
        yield Supply(
            folder.name, read_text(folder / "type"), None if online is None else online > 0,
            capacity if capacity is not None and 0 <= capacity <= 100 else None, read_text(folder / "status"),
        )  # fmt: skip


def _disks(paths: DevicePaths) -> Iterator[DiskHealth]:
    for folder in _entries(paths.sys / "block"):
        if folder.name.startswith(_NOT_DISKS):
            continue
        fields = [int(each) for each in read_text(folder / "stat").split() if each.isdecimal()]
        if len(fields) < 10:
            continue
        worn, warning = _wear(folder / "device")
        yield DiskHealth(
            folder.name, read_text(folder / "device" / "model") or read_text(folder / "device" / "name"),
            (read_int(folder / "size") or 0) * SECTOR, read_int(folder / "ro") == 1, fields[2] * SECTOR,
            fields[6] * SECTOR, fields[9], worn, warning, _health_source(paths.dev / folder.name, worn is not None),
        )  # fmt: skip


def _wear(device: Path) -> tuple[int | None, str]:
    """eMMC: two estimates in steps of 10 per cent (0x01: up to 10, 0x0B: over), and its own warning."""
    steps = [int(each, 16) for each in read_text(device / "life_time").split() if _is_hex(each)]
    warning = {1: "normal", 2: "warning", 3: "urgent"}.get(read_int(device / "pre_eol_info", 16) or 0, "")
    worst = max((step for step in steps if 1 <= step <= 11), default=0)
    return (worst * 10 if worst else None), warning


def _is_hex(text: str) -> bool:
    try:
        return int(text, 16) >= 0
    except ValueError:
        return False


def _health_source(node: Path, known: bool) -> str:
    if known:
        return "the flash itself (eMMC)"
    if not os.access(node, os.R_OK):
        return "not known: SMART needs root, or the group disk"
    return "not known: SMART is not read in this version"


def _throttling(paths: DevicePaths) -> Throttling:
    flags = read_int(paths.sys / _RASPBERRY, 16)
    voltage = _voltage_alarm(paths)
    cores = _entries(paths.sys / "devices" / "system" / "cpu", "cpu[0-9]*")
    shares = [share for core in cores for share in [_share(core / "cpufreq")] if share is not None]
    counts = [count for core in cores for count in [read_int(core / "thermal_throttle" / "core_throttle_count")]]
    told = [count for count in counts if count is not None]
    if flags is None:
        return Throttling(None, voltage, None, min(shares, default=None), max(told, default=None))
    hot = any(flags >> bit & 1 for bit in (_FREQUENCY_CAPPED, _THROTTLED, _SOFT_LIMIT))
    under = bool(flags >> _UNDER_VOLTAGE & 1) or bool(voltage)
    return Throttling(hot, under, bool(flags >> 16 & 1), min(shares, default=None), max(told, default=None))


def _voltage_alarm(paths: DevicePaths) -> bool | None:
    files = _entries(paths.sys / "class" / "hwmon", "hwmon*/in*_lcrit_alarm")
    values = [value for value in map(read_int, files) if value is not None]
    return any(value == 1 for value in values) if values else None


def _share(folder: Path) -> float | None:
    allowed, most = read_int(folder / "scaling_max_freq"), read_int(folder / "cpuinfo_max_freq")
    return round(allowed / most, 3) if allowed and most else None
