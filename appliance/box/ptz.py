"""The cameras that can be turned. Not verified on hardware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass

from appliance.box.devices import DeviceState
from appliance.child_spec import ChildSpec, Progress
from appliance.errors import BadRequest, KilnError, NameTaken, NotFound, Unavailable
from appliance.settings.models import PtzCamera as CameraSettings
from hw import visca
from hw.paths import DevicePaths
from hw.ptz import CameraRefuses, CameraSilent, PtzCamera, SerialWire, ViscaBus, keep_udp
from hw.serial_link import DeviceFault, SerialLink, keep_open
from hw.visca import Command

Resolve = Callable[[str, int], Awaitable[list[tuple[str, int]]]]
#: Devices are closed after the providers and before the supervisor's core.
ORDER = 20


@dataclass(frozen=True, slots=True)
class Controlled:
    """A camera of the settings; ``line`` is the state of what it hangs on."""

    settings: CameraSettings
    camera: PtzCamera
    line: DeviceState


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """Steps of the camera's own; ``pan`` and ``tilt`` are 0 in the home position."""

    power: bool
    pan: int
    tilt: int
    zoom: int


class PtzCameras:
    """``resolve`` (the egress guard's) says which addresses may be reached."""

    def __init__(
        self, cameras: Sequence[CameraSettings], paths: DevicePaths, resolve: Resolve, alarms: MutableMapping[str, str]
    ) -> None:
        self._paths = paths
        self._resolve = resolve
        self._cameras: dict[str, Controlled] = {}
        self._lines: dict[tuple[str, int], tuple[ViscaBus, DeviceState]] = {}
        for settings in cameras:
            place = (settings.device, settings.baudrate) if settings.device else (settings.host, settings.port)
            if place not in self._lines:
                self._lines[place] = ViscaBus(), DeviceState("ptz", place[0], alarms)
            bus, line = self._lines[place]
            self._cameras[settings.name] = Controlled(settings, PtzCamera(bus, settings.address), line)

    def __iter__(self) -> Iterator[Controlled]:
        return iter(self._cameras.values())

    def children(self) -> Iterator[ChildSpec]:
        """One a line."""
        for (place, number), (bus, line) in self._lines.items():
            serial = place.startswith("/")
            start = self._serial(place, number, bus, line) if serial else self._network(place, number, bus, line)
            yield ChildSpec(name=f"ptz:{place}", start=start, order=ORDER)

    def find(self, name: str) -> Controlled:
        """Raises NotFound."""
        found = self._cameras.get(name)
        if found is None:
            raise NotFound(f"There is no camera: [{name[:128]}]")
        return found

    async def status(self, name: str) -> CameraStatus:
        """Raises NotFound, Unavailable (no answer), NameTaken (409: the camera refuses)."""
        camera = self.find(name).camera
        try:
            power = await camera.power()
            pan, tilt = await camera.position() if power else (0, 0)
            return CameraStatus(power, pan, tilt, await camera.zoom() if power else 0)
        except (CameraSilent, CameraRefuses) as error:
            raise told(error) from error

    async def do(self, name: str, command: Command) -> None:
        """Until the camera has taken it. Raises as ``status``."""
        try:
            await self.find(name).camera.do(command)
        except (CameraSilent, CameraRefuses) as error:
            raise told(error) from error

    def _serial(
        self, device: str, baudrate: int, bus: ViscaBus, line: DeviceState
    ) -> Callable[[Progress], Awaitable[None]]:
        async def use(link: SerialLink) -> None:
            await bus.run(SerialWire(link))

        async def start(progress: Progress) -> None:
            await keep_open(self._paths.at(device), baudrate, use, line.told)

        return start

    def _network(
        self, host: str, port: int, bus: ViscaBus, line: DeviceState
    ) -> Callable[[Progress], Awaitable[None]]:
        async def allowed(host: str, port: int) -> tuple[str, int]:
            try:
                return (await self._resolve(host, port))[0]
            except KilnError as error:
                raise DeviceFault(str(error)) from error

        async def start(progress: Progress) -> None:
            await keep_udp(host, port, bus, allowed, line.told)

        return start


def told(error: CameraSilent | CameraRefuses) -> KilnError:
    """As the API answers it: 503 for silence, 409 for a refusal."""
    return Unavailable(str(error)) if isinstance(error, CameraSilent) else NameTaken(str(error))


def built(build: Callable[[], Command]) -> Command:
    """Raises BadRequest for a number that is out of its range."""
    try:
        return build()
    except ValueError as error:
        raise BadRequest(str(error)) from None


__all__ = ["CameraStatus", "Controlled", "PtzCameras", "built", "visca"]
