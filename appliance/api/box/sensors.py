"""``/box/v1/sensors``: how the machine itself is, where it stands, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.access.roles import Role
from appliance.api.box.query import known
from appliance.api.contracts import ANY, COUNT, FLAG, NUMBER, TEXT, TIME, Contract, array, obj
from appliance.api.envelope import Answer, success
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.box.box import Gps
from appliance.box.sensors import SensorWatch
from appliance.errors import Unavailable

PATH = "/box/v1/sensors"
_SENSORS = obj(
    "temperatures fans throttling supplies disks stale shedding",
    temperatures=array(obj("name celsius", name=TEXT, celsius=NUMBER, critical=NUMBER)),
    fans=array(obj("name rpm fault", name=TEXT, rpm=COUNT, fault=FLAG)), throttling=ANY, supplies=array(ANY),
    disks=array(ANY), stale=FLAG,
    shedding=obj(
        "enabled order shed", enabled=FLAG, order=array(TEXT), shed=array(TEXT), temperature=NUMBER, load=NUMBER
    ),
    gps=obj(
        "ready quality satellites timeValid", ready=FLAG, fault=TEXT, quality=TEXT, satellites=COUNT, latitude=NUMBER,
        longitude=NUMBER, altitude=NUMBER, speed=NUMBER, course=NUMBER, hdop=NUMBER, time=TIME, timeValid=FLAG,
        inView=ANY,
    ),
)  # fmt: skip


class SensorsApi:
    """Degrees Celsius, revolutions a minute, bytes; what the machine does not tell is left out."""

    def __init__(self, sensors: SensorWatch, gps: Gps | None) -> None:
        self._sensors = sensors
        self._gps = gps

    def routes(self) -> Iterator[Route]:
        yield Route("GET", PATH, self.all, Role.VIEWER, Contract(response=_SENSORS, statuses=(400, 503)))

    async def all(self, request: Request) -> Answer:
        known(request, ())
        watch = self._sensors
        if watch.readings is None:
            raise Unavailable("The sensors have not been read yet")
        told: dict[str, Any] = without_none(msgspec.to_builtins(watch.readings))
        told["stale"] = watch.stale
        shedder = watch.shedder
        told["shedding"] = {"enabled": False, "order": [], "shed": []}
        if shedder is not None:
            told["shedding"] = {
                "enabled": True, "order": list(shedder.order), "shed": list(shedder.shed),
                "temperature": shedder.limit, "load": shedder.load_limit,
            }  # fmt: skip
        if self._gps is not None:
            told["gps"] = _gps(self._gps)
        return success(told)


def _gps(gps: Gps) -> dict[str, Any]:
    """A position that is older than some seconds is none any more."""
    receiver = gps.receiver
    position = receiver.position
    told: dict[str, Any] = {
        "ready": gps.state.ready and receiver.fresh, "quality": "none", "satellites": 0, "timeValid": False,
        "fault": gps.state.fault or ("" if receiver.fresh else "it has told nothing of late"),
    }  # fmt: skip
    if told["ready"]:
        told |= {
            "quality": position.quality.value, "satellites": position.satellites, "latitude": position.latitude,
            "longitude": position.longitude, "altitude": position.altitude, "speed": position.speed,
            "course": position.course, "hdop": position.hdop, "timeValid": position.time_valid,
            "time": position.time.isoformat() if position.time else None, "inView": dict(position.in_view),
        }  # fmt: skip
    if not told["fault"]:
        del told["fault"]
    return dict(without_none(told))


def without_none(value: Any) -> Any:
    """JSON names, and only what is told."""
    if isinstance(value, dict):
        return {_json(name): without_none(each) for name, each in value.items() if each is not None}
    return [without_none(each) for each in value] if isinstance(value, list | tuple) else value


def _json(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
