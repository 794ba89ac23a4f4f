"""``kiln run --fake-hardware``: every device of the box played by a program, so that anybody can see it on a laptop."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import trio

from appliance.child_spec import ChildSpec, Progress
from appliance.settings.models import Box, FrontLed, FrontPanel, GpioLine, GpsDevice, PtzCamera
from hw.fakes.gps import FakeGps, sentences
from hw.fakes.panels import FakeCrystalfontz
from hw.fakes.pty_device import PtyDevice
from hw.fakes.tree import LEDS, FakeTree
from hw.fakes.visca_camera import FakeViscaCamera

ORDER = 5
SAY_EVERY = 1.0


class FakeHardware:
    """``folder`` holds the miniature device tree. Its files may be edited while it runs: heat a sensor, or write a byte
    into ``dev/gpio-lines/gpiochip0-5.button`` to press the record button."""

    def __init__(self, folder: Path) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        self.tree = FakeTree(folder)
        self.paths = self.tree.paths
        self.camera = PtyDevice(FakeViscaCamera())
        self.panel = PtyDevice(FakeCrystalfontz())
        self.gps = PtyDevice(FakeGps())

    def settings(self, own: Box) -> Box:
        """``own`` with the devices of the fakes."""
        plug = self.tree.plug_serial
        return msgspec.structs.replace(
            own,
            cameras=(PtzCamera(name="stage", device=plug("fake-visca", self.camera.node)),),
            panel=FrontPanel(make="crystalfontz", device=plug("fake-cfa635", self.panel.node)),
            gps=GpsDevice(device=plug("fake-gps", self.gps.node)),
            lines=(
                GpioLine(name="tally", offset=17, role="on-air"),
                GpioLine(name="relay", offset=27, role="output"),
                GpioLine(name="record", offset=5, role="record-button"),
                GpioLine(name="push", offset=6, role="push-button"),
            ),
            leds=(FrontLed(name=LEDS[0], shows="recording"), FrontLed(name=LEDS[1], shows="on-air")),
        )

    def children(self) -> Iterator[ChildSpec]:
        for name, device in (("camera", self.camera), ("panel", self.panel), ("gps", self.gps)):
            yield ChildSpec(name=f"fake-{name}", start=_answering(device), order=ORDER)
        yield ChildSpec(name="fake-gps-clock", start=self._tell_time, order=ORDER)

    async def _tell_time(self, progress: Progress) -> None:
        while True:
            self.gps.say(sentences(datetime.now(UTC)))
            await trio.sleep(SAY_EVERY)


def _answering(device: PtyDevice) -> Callable[[Progress], Awaitable[None]]:
    async def start(progress: Progress) -> None:
        await device.run()

    return start
