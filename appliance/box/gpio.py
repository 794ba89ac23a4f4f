"""Tally lamps, LEDs, relays and buttons. Not verified on hardware."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from functools import partial

import trio

from appliance.box.desk import Desk, Look, reason
from appliance.box.devices import DeviceState
from appliance.child_spec import ChildSpec, Progress
from appliance.errors import Forbidden, KilnError, NotFound, Unavailable
from appliance.settings.models import FrontLed, GpioLine
from hw import leds
from hw.gpio import Line, LineSpec, open_line
from hw.paths import DevicePaths
from hw.serial_link import DeviceFault

log = logging.getLogger("kiln.box")

ORDER = 20
LOOK_EVERY = 0.25
#: A line that can't be had is tried again after so long (s).
AGAIN_AFTER = 10.0
BUTTONS = ("record-button", "push-button")


class HeldLine:
    """A line of the settings. ``on`` is what it was set to, or None while it isn't ours."""

    def __init__(self, settings: GpioLine, alarms: MutableMapping[str, str]) -> None:
        self.settings = settings
        self.role = settings.role.lower()
        self.state = DeviceState("gpio", settings.name, alarms)
        self.line: Line | None = None
        self.presses = 0
        self.wanted = False

    @property
    def output(self) -> bool:
        return self.role not in BUTTONS

    def set(self, on: bool) -> None:
        """Raises DeviceFault."""
        self.wanted = on
        if self.line is not None:
            self.line.set(on)


class Gpio:
    """All lines and LEDs of the settings."""

    def __init__(
        self, lines: Sequence[GpioLine], lamps: Sequence[FrontLed], paths: DevicePaths, desk: Desk,
        alarms: MutableMapping[str, str],
    ) -> None:  # fmt: skip
        self.lines = {each.name: HeldLine(each, alarms) for each in lines}
        self.leds = {each.name: (each.shows.lower(), DeviceState("led", each.name, alarms)) for each in lamps}
        self._paths = paths
        self._desk = desk

    def children(self) -> Iterator[ChildSpec]:
        for held in self.lines.values():
            start = partial(self._keep, held)
            yield ChildSpec(name=f"gpio:{held.settings.name}", start=start, order=ORDER)
        if self.leds or any(held.role in ("on-air", "recording") for held in self.lines.values()):
            yield ChildSpec(name="tally", start=self._tally, order=ORDER)

    def find(self, name: str) -> HeldLine:
        """Raises NotFound."""
        held = self.lines.get(name)
        if held is None:
            raise NotFound(f"There is no GPIO line: [{name[:128]}]")
        return held

    def set(self, name: str, on: bool) -> HeldLine:
        """Only of lines whose role is ``output``. Raises NotFound, Forbidden, Unavailable."""
        held = self.find(name)
        if held.role != "output":
            raise Forbidden(f"GPIO line {name} shows {held.role}: only a line with the role output is set over the API")
        if held.line is None:
            raise Unavailable(f"GPIO line {name}: {held.state.fault}")
        try:
            held.set(on)
        except DeviceFault as fault:
            raise Unavailable(str(fault)) from fault
        return held

    async def _keep(self, held: HeldLine, progress: Progress) -> None:
        settings = held.settings
        while True:
            try:
                spec = LineSpec(settings.chip, settings.offset, held.output, settings.active_low)
                held.line = open_line(self._paths, spec)
                held.state.told("")
                if held.output:
                    held.line.set(held.wanted)
                    await trio.sleep_forever()
                await self._obey(held, held.line)
            except DeviceFault as fault:
                held.state.told(str(fault))
            finally:
                if held.line is not None:
                    held.line.close()
                    held.line = None
            await trio.sleep(AGAIN_AFTER)

    async def _obey(self, held: HeldLine, line: Line) -> None:
        action: Callable[[], Awaitable[bool]]
        action = self._desk.toggle_record if held.role == "record-button" else self._desk.toggle_push
        while True:
            await line.pressed()
            held.presses += 1
            try:
                on = await action()
                log.info("button line=%s role=%s on=%s", held.settings.name, held.role, on)
            except KilnError as error:
                log.warning("button without effect line=%s reason=%s", held.settings.name, reason(error))

    async def _tally(self, progress: Progress) -> None:
        shown: dict[str, bool] = {}
        try:
            while True:
                self._show(self._desk.look(), shown)
                await trio.sleep(LOOK_EVERY)
        finally:
            self._show(Look(0, 0, 0, 0), shown)

    def _show(self, look: Look, shown: dict[str, bool]) -> None:
        """A lamp that did not take it is tried again at the next look."""
        for held in self.lines.values():
            if held.role in ("on-air", "recording"):
                on = _lit(held.role, look)
                try:
                    if held.wanted != on:
                        held.set(on)
                except DeviceFault as fault:
                    held.state.told(str(fault))
        for name, (shows, state) in self.leds.items():
            on = _lit(shows, look)
            if shown.get(name) == on:
                continue
            try:
                leds.light(self._paths, name, on)
                shown[name] = on
                state.told("")
            except DeviceFault as fault:
                state.told(str(fault))


def _lit(role: str, look: Look) -> bool:
    return look.on_air if role == "on-air" else look.recording > 0
