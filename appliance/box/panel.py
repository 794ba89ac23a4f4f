"""The front panel: what it shows, and the menu that its keys walk through. Not verified on hardware."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass

import trio

from appliance.box.desk import Desk, Look, own_address, reason
from appliance.box.devices import DeviceState
from appliance.child_spec import ChildSpec, Progress
from appliance.errors import KilnError
from appliance.settings.models import FrontPanel as PanelSettings
from hw.keys import Key
from hw.panel import COLUMNS, MAKES, Panel, make_panel
from hw.paths import DevicePaths
from hw.serial_link import DeviceFault, SerialLink, keep_open

log = logging.getLogger("kiln.box")

ORDER = 20
#: Between two looks at what runs (s).
LOOK_EVERY = 0.5
#: A menu that nobody touches any more gives way to the state (s); a message stays so long.
MENU_FOR = 20.0
MESSAGE_FOR = 4.0


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the menu: what it is called just now, and what it does, which gives the message to show."""

    title: Callable[[], str]
    do: Callable[[], Awaitable[str]]


class Menu:
    """Rows and keys, and no device: UP and DOWN choose, ENTER does it, EXIT leads back to the state."""

    def __init__(self, desk: Desk, name: str) -> None:
        self._desk = desk
        self._name = name
        self._items = (
            Item(lambda: "Stop record" if desk.records() else "Start record", self._record),
            Item(lambda: "Stop push" if desk.pushes() else "Start push", self._push),
            Item(lambda: "Show IP", self._show_ip),
        )
        self._chosen: int | None = None
        self._touched = float("-inf")
        self._message = ""
        self._message_until = float("-inf")

    def rows(self, look: Look) -> list[str]:
        """Four rows of at most 20 characters."""
        now = trio.current_time()
        if now < self._message_until:
            text = self._message
            return [text[start : start + COLUMNS] for start in range(0, 4 * COLUMNS, COLUMNS)]
        if self._chosen is not None and now - self._touched > MENU_FOR:
            self._chosen = None
        if self._chosen is None:
            return self._state(look)
        titles = [f"{'>' if n == self._chosen else ' '} {item.title()}" for n, item in enumerate(self._items)]
        return ["Menu", *titles]

    async def press(self, key: Key) -> None:
        self._touched = trio.current_time()
        self._message_until = float("-inf")
        if key is Key.EXIT:
            self._chosen = None
        elif self._chosen is None:
            self._chosen = 0
        elif key in (Key.UP, Key.DOWN):
            self._chosen = (self._chosen + (1 if key is Key.DOWN else -1)) % len(self._items)
        elif key is Key.ENTER:
            try:
                self._say(await self._items[self._chosen].do())
            except KilnError as error:
                self._say(reason(error))

    def _state(self, look: Look) -> list[str]:
        air = f"ON AIR {look.streams}" if look.on_air else "no input"
        rate = f"{look.bitrate / 1e6:.1f} Mbit/s"
        return [
            f"{self._name[:11]:<11} {air:>8}", own_address() or "no network", rate,
            f"REC {look.recording}  PUSH {look.pushing}",
        ]  # fmt: skip

    def _say(self, text: str) -> None:
        self._message = text
        self._message_until = trio.current_time() + MESSAGE_FOR

    async def _record(self) -> str:
        return "Recording" if await self._desk.toggle_record() else "Record stopped"

    async def _push(self) -> str:
        return "Pushing" if await self._desk.toggle_push() else "Push stopped"

    async def _show_ip(self) -> str:
        return own_address() or "no network"


class FrontPanel:
    """``rows`` is what the panel shows, [] while there is none."""

    def __init__(
        self, settings: PanelSettings, paths: DevicePaths, desk: Desk, name: str, alarms: MutableMapping[str, str]
    ) -> None:
        self.settings = settings
        self.state = DeviceState("panel", settings.device, alarms)
        self.rows: list[str] = []
        self._paths = paths
        self._desk = desk
        self._name = name

    def children(self) -> tuple[ChildSpec, ...]:
        return (ChildSpec(name="panel", start=self._run, order=ORDER),)

    async def _run(self, progress: Progress) -> None:
        baudrate = self.settings.baudrate or MAKES[self.settings.make.lower()][1]
        try:
            await keep_open(self._paths.at(self.settings.device), baudrate, self._use, self.state.told)
        finally:
            self.rows = []

    async def _use(self, link: SerialLink) -> None:
        panel = make_panel(self.settings.make.lower(), link)
        menu = Menu(self._desk, self._name)
        await panel.begin()
        # Hearing and showing go on side by side; the first that fails ends both.
        fault = DeviceFault(f"{link.name} is gone")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._show, panel, menu)
                await self._hear(panel, menu)
        except* DeviceFault as faults:
            fault = DeviceFault(str(faults.exceptions[0]))
        raise fault

    async def _hear(self, panel: Panel, menu: Menu) -> None:
        while True:
            for key in await panel.receive():
                log.info("panel key=%s", key)
                await menu.press(key)

    async def _show(self, panel: Panel, menu: Menu) -> None:
        lit: tuple[bool, bool] | None = None
        while True:
            look = self._desk.look()
            self.rows = menu.rows(look)
            await panel.show(self.rows)
            wanted = (look.on_air, look.recording > 0)
            if wanted != lit:
                await panel.light(0, green=wanted[0], red=wanted[1])
                lit = wanted
            await trio.sleep(LOOK_EVERY)
