"""This box: what stands on its front and hangs on its lines, wired to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.box.desk import Desk
from appliance.box.devices import DeviceState
from appliance.box.gpio import Gpio
from appliance.box.panel import FrontPanel
from appliance.box.ptz import PtzCameras
from appliance.box.sensors import SensorWatch
from appliance.box.shedding import PREVIEWS, THUMBNAILS, Shedder
from appliance.child_spec import ChildSpec, Progress
from appliance.engine.engine import Engine
from appliance.engine.watch.machine import Machine
from appliance.settings.models import Box as BoxSettings
from appliance.settings.models import GpsDevice
from hw.gps import GpsReceiver
from hw.paths import DevicePaths
from hw.serial_link import keep_open

ORDER = 20


class Gps:
    """The receiver of the settings."""

    def __init__(self, settings: GpsDevice, state: DeviceState) -> None:
        self.settings = settings
        self.state = state
        self.receiver = GpsReceiver()


class Box:
    """``fake_hardware``: a folder in which programs play all devices; the settings are theirs then."""

    def __init__(self, engine: Engine, fake_hardware: Path | None = None) -> None:
        settings = engine.settings.box
        self.paths = DevicePaths.from_environment()
        children: list[ChildSpec] = []
        if fake_hardware is not None:
            from appliance.box.fakes import FakeHardware

            fakes = FakeHardware(fake_hardware)
            self.paths, settings = fakes.paths, fakes.settings(settings)
            children += fakes.children()
        self.settings: BoxSettings = settings
        alarms = engine.alarms
        self.machine = Machine(self.paths if fake_hardware is None else None)
        self.desk = Desk(engine, settings)
        self.ptz = PtzCameras(settings.cameras, self.paths, engine.egress.resolve, alarms)
        self.gpio = Gpio(settings.lines, settings.leds, self.paths, self.desk, alarms)
        self.panel = (
            FrontPanel(settings.panel, self.paths, self.desk, engine.settings.name or "Kiln", alarms)
            if settings.panel
            else None
        )
        self.gps = Gps(settings.gps, DeviceState("gps", settings.gps.device, alarms)) if settings.gps else None
        #: Why no preview is made just now, "" when they are.
        self.previews_shed = ""
        self._engine = engine
        shedding = settings.shedding
        shedder = Shedder(shedding.temperature, shedding.load, self._leave_out, alarms) if shedding.enable else None
        self.sensors = SensorWatch(self.paths, lambda: self.machine.figures().cpu * 100, alarms, shedder)
        children += [*self.ptz.children(), *self.gpio.children(), *self.sensors.children()]
        children += self.panel.children() if self.panel else ()
        if self.gps is not None:
            children.append(ChildSpec(name="gps", start=self._run_gps, order=ORDER))
        for child in children:
            engine.supervisor.add(child)

    async def _run_gps(self, progress: Progress) -> None:
        assert self.gps is not None
        path = self.paths.at(self.gps.settings.device)
        await keep_open(path, self.gps.settings.baudrate, self.gps.receiver.run, self.gps.state.told)

    def _leave_out(self, steps: Sequence[str]) -> None:
        self.previews_shed = "the box is too hot or has too much to do" if PREVIEWS in steps else ""
        for vhost in self._engine.directory.vhosts.values():
            for application in vhost.applications.values():
                for stream in application.inputs.values():
                    transcoder = stream.outputs.transcoder if stream.outputs else None
                    if transcoder is not None:
                        transcoder.leave_out({"image"} if THUMBNAILS in steps else set())


__all__ = ["Box", "Gps"]
