"""Looks at the sensors, raises alarms that say what to do, and has things left out in heat and overload."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

import trio

from appliance.box.shedding import Shedder
from appliance.child_spec import ChildSpec, Progress
from hw.paths import DevicePaths
from hw.sensors import Readings, read_sensors

#: Seconds between two looks, and how long one may take.
LOOK_EVERY = 3.0
LOOK_WITHIN = 5.0
#: Below the temperature at which the machine switches itself off (°C).
NEAR_CRITICAL = 10.0
WORN_OUT = 90
ORDER = 10


class SensorWatch:
    """``readings`` is the last look, None before the first; ``load`` gives the per cent of all processors in use."""

    def __init__(
        self, paths: DevicePaths, load: Callable[[], float], alarms: MutableMapping[str, str], shedder: Shedder | None
    ) -> None:
        self.readings: Readings | None = None
        self.stale = False
        self.shedder = shedder
        self._paths = paths
        self._load = load
        self._alarms = alarms
        self._raised: set[str] = set()

    def children(self) -> Iterator[ChildSpec]:
        yield ChildSpec(name="sensors", start=self._run, order=ORDER)

    async def _run(self, progress: Progress) -> None:
        while True:
            await self.look()
            progress()
            await trio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Once, in a thread: a chip on a slow bus must hold nobody up."""
        found: Readings | None = None
        with trio.move_on_after(LOOK_WITHIN):
            found = await trio.to_thread.run_sync(read_sensors, self._paths, abandon_on_cancel=True)
        self.stale = found is None
        if found is not None:
            self.readings = found
            self._judge(dict(faults(found)))
        hottest = found.hottest if found else None
        if self.shedder is not None:
            self.shedder.look(hottest.celsius if hottest else None, self._load(), trio.current_time())

    def _judge(self, found: dict[str, str]) -> None:
        for id in self._raised - found.keys():
            self._alarms.pop(id, None)
        for id, text in found.items():
            if self._alarms.get(id) != text:
                self._alarms[id] = text
        self._raised = set(found)


def faults(readings: Readings) -> Iterator[tuple[str, str]]:
    """Alarms by id: what is wrong, and what to do about it."""
    for each in readings.temperatures:
        if each.critical is not None and each.celsius >= each.critical - NEAR_CRITICAL:
            text = f"{each.name} is near {each.critical:g} °C, where the machine switches itself off: cool the box"
            yield f"sensor:temperature:{each.name}", text
    for fan in readings.fans:
        if fan.fault:
            yield f"sensor:fan:{fan.name}", f"fan {fan.name} does not turn: clean or replace it"
    throttling = readings.throttling
    if throttling.under_voltage:
        yield "sensor:under-voltage", "under-voltage: replace power supply, or its cable"
    if throttling.throttled:
        yield "sensor:throttled", "the processor slows itself down because of heat or power: cool the box"
    for supply in readings.supplies:
        if supply.kind == "Mains" and supply.online is False:
            yield f"sensor:power:{supply.name}", f"power supply {supply.name} gives nothing: running on battery"
    for disk in readings.disks:
        if disk.end_of_life in ("warning", "urgent") or (disk.worn or 0) >= WORN_OUT:
            yield f"sensor:disk:{disk.name}", f"disk {disk.name} is near its end: copy what is on it, and replace it"
