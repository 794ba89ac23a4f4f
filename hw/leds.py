"""LEDs that the kernel knows (``/sys/class/leds``). Not verified on hardware."""

from __future__ import annotations

from pathlib import Path

from hw.files import read_int
from hw.paths import DevicePaths
from hw.serial_link import DeviceFault


def led_names(paths: DevicePaths) -> list[str]:
    try:
        return sorted(entry.name for entry in _folder(paths).iterdir())
    except OSError:
        return []


def is_lit(paths: DevicePaths, name: str) -> bool | None:
    """None when there is no such LED."""
    brightness = read_int(_folder(paths) / name / "brightness")
    return None if brightness is None else brightness > 0


def light(paths: DevicePaths, name: str, on: bool) -> None:
    """At full brightness, or out. The kernel's own trigger is taken off it. Raises DeviceFault."""
    folder = _folder(paths) / name
    full = read_int(folder / "max_brightness") or 1
    try:
        if (folder / "trigger").exists():
            _write(folder / "trigger", "none")
        _write(folder / "brightness", str(full if on else 0))
    except PermissionError:
        raise DeviceFault(f"LED {name} may not be written: the udev rule for the group of Kiln is missing") from None
    except OSError as error:
        raise DeviceFault(f"LED {name}: {error.strerror or error}") from error


def _write(file: Path, text: str) -> None:
    with open(file, "wb", buffering=0) as opened:
        opened.write(text.encode())


def _folder(paths: DevicePaths) -> Path:
    return paths.sys / "class" / "leds"
