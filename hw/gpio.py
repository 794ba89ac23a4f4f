"""GPIO lines: outputs for tally lamps and relays, inputs for buttons.

With libgpiod's Python binding (``gpiod`` 2) where it is installed; without it there is no GPIO, which is told. In a
miniature device tree (``hw.fakes``) a line is a file and a pipe. Not verified on hardware.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from hw.paths import DevicePaths
from hw.serial_link import DeviceFault

CONSUMER = "kiln"
DEBOUNCE_MS = 20


@dataclass(frozen=True, slots=True)
class LineSpec:
    """``chip`` such as gpiochip0, ``offset`` the number of the line on it. ``active_low``: on is 0 V."""

    chip: str
    offset: int
    output: bool
    active_low: bool = False


class Line(Protocol):
    """One line that is ours. All raise DeviceFault."""

    def set(self, on: bool) -> None: ...
    def get(self) -> bool: ...
    async def pressed(self) -> None: ...
    def close(self) -> None: ...


def open_line(paths: DevicePaths, spec: LineSpec) -> Line:
    """Raises DeviceFault, which says what is missing."""
    folder = paths.dev / "gpio-lines"
    if paths.prefix != Path("/") and folder.is_dir():
        return FileLine(folder / f"{spec.chip}-{spec.offset}", spec.output)
    try:
        gpiod = importlib.import_module("gpiod")
    except ImportError:
        raise DeviceFault("GPIO needs libgpiod's Python binding (gpiod 2), which is not installed") from None
    return GpiodLine(gpiod, paths.dev / spec.chip, spec)


class GpiodLine:
    """A line of the kernel's, held until it is closed."""

    def __init__(self, gpiod: Any, chip: Path, spec: LineSpec) -> None:
        self._offset = spec.offset
        self._value = gpiod.line.Value
        direction = gpiod.line.Direction.OUTPUT if spec.output else gpiod.line.Direction.INPUT
        settings: dict[str, Any] = {"direction": direction, "active_low": spec.active_low}
        if not spec.output:
            from datetime import timedelta

            settings["edge_detection"] = gpiod.line.Edge.RISING
            settings["debounce_period"] = timedelta(milliseconds=DEBOUNCE_MS)
        try:
            self._request = gpiod.request_lines(
                str(chip), consumer=CONSUMER, config={spec.offset: gpiod.LineSettings(**settings)}
            )
        except PermissionError:
            raise DeviceFault(f"{chip} may not be opened: put the user of Kiln into the group gpio") from None
        except (OSError, ValueError) as error:
            raise DeviceFault(f"line {spec.offset} of {chip}: {error}") from error

    def set(self, on: bool) -> None:
        self._guarded(lambda: self._request.set_value(self._offset, self._value.ACTIVE if on else self._value.INACTIVE))

    def get(self) -> bool:
        return bool(self._guarded(lambda: self._request.get_value(self._offset)) == self._value.ACTIVE)

    async def pressed(self) -> None:
        await trio.lowlevel.wait_readable(self._request.fd)
        self._guarded(self._request.read_edge_events)

    def close(self) -> None:
        with suppress(OSError):
            self._request.release()

    @staticmethod
    def _guarded(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError as error:
            raise DeviceFault(f"GPIO: {error.strerror or error}") from error


class FileLine:
    """A line of the miniature device tree: the file holds 0 or 1; each byte into the pipe ``<file>.button`` is a
    press."""

    def __init__(self, file: Path, output: bool) -> None:
        self._file = file
        self._pipe = -1
        try:
            if output:
                file.write_text("0\n")
            else:
                self._pipe = os.open(file.with_name(f"{file.name}.button"), os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise DeviceFault(f"{file.name}: {error.strerror or error}") from error

    def set(self, on: bool) -> None:
        try:
            self._file.write_text("1\n" if on else "0\n")
        except OSError as error:
            raise DeviceFault(f"{self._file.name}: {error.strerror or error}") from error

    def get(self) -> bool:
        try:
            return self._file.read_text().strip() == "1"
        except FileNotFoundError:
            return False
        except OSError as error:
            raise DeviceFault(f"{self._file.name}: {error.strerror or error}") from error

    async def pressed(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._pipe)
            with suppress(BlockingIOError):
                if os.read(self._pipe, 1).strip():
                    return

    def close(self) -> None:
        if self._pipe >= 0:
            trio.lowlevel.notify_closing(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
