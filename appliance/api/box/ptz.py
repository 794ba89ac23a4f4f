"""``/box/v1/ptz``: cameras that can be turned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from appliance.access.roles import Role
from appliance.api.box.query import known
from appliance.api.contracts import COUNT, FLAG, NAME, TEXT, Contract, array, obj, one_of
from appliance.api.envelope import Answer, success
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.box.ptz import Controlled, PtzCameras, built
from appliance.errors import BadRequest
from hw import visca
from hw.visca import Command

PATH = "/box/v1/ptz"
_STEP = {"type": "integer"}
_CAMERA = obj(
    "id connection address ready", id=NAME, connection=TEXT, address=COUNT, ready=FLAG, fault=TEXT,
)  # fmt: skip
_STATUS = obj(
    "id connection address ready power pan tilt zoom", id=NAME, connection=TEXT, address=COUNT, ready=FLAG, fault=TEXT,
    power=FLAG, pan=_STEP, tilt=_STEP, zoom=COUNT,
)  # fmt: skip


def _within(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


_PAN, _TILT, _SPEED = _within(-24, 24), _within(-20, 20), _within(-8, 8)
_PLACE = _within(-32768, 32767)
_PRESET = _within(0, 127)
#: The actions of a body, by its one key.
ACTIONS = ("move", "moveTo", "home", "zoom", "zoomTo", "focus", "focusTo", "focusMode", "preset", "power")
_REQUEST = obj(
    move=obj("pan tilt", pan=_PAN, tilt=_TILT),
    moveTo=obj("pan tilt", pan=_PLACE, tilt=_PLACE, panSpeed=_within(1, 24), tiltSpeed=_within(1, 20)),
    home={"type": "boolean", "enum": [True]}, zoom=_SPEED, zoomTo=_within(0, 65535), focus=_SPEED,
    focusTo=_within(0, 65535), focusMode=one_of("auto", "manual", "onePush"),
    preset=obj("action number", action=one_of("set", "recall", "clear"), number=_PRESET), power=FLAG,
) | {"minProperties": 1, "maxProperties": 1, "additionalProperties": False}  # fmt: skip
_FOCUS = {"auto": visca.FOCUS_AUTO, "manual": visca.FOCUS_MANUAL, "onePush": visca.FOCUS_ONE_PUSH}


class PtzApi:
    """Handlers over the cameras of the box."""

    def __init__(self, cameras: PtzCameras) -> None:
        self._cameras = cameras

    def routes(self) -> Iterator[Route]:
        yield Route("GET", PATH, self.all, Role.VIEWER, Contract(response=array(_CAMERA), statuses=(400,)))
        one = Contract(response=_STATUS, statuses=(400, 404, 409, 503))
        yield Route("GET", f"{PATH}/{{s}}", self.one, Role.VIEWER, one)
        yield Route("POST", f"{PATH}/{{s}}", self.act, Role.OPERATOR, Contract(_REQUEST, statuses=(404, 409, 503)))

    async def all(self, request: Request) -> Answer:
        known(request, ())
        return success([_shown(each) for each in self._cameras])

    async def one(self, request: Request, id: str) -> Answer:
        """Asks the camera. Pan, tilt and zoom in its own steps; 0 while it is switched off."""
        known(request, ())
        found = self._cameras.find(id)
        return success(_shown(found) | msgspec.to_builtins(await self._cameras.status(id)))

    async def act(self, request: Request, id: str) -> Answer:
        """Answers when the camera has taken the command, not when it has arrived."""
        body = await request.json()
        command = command_of(body)
        await self._cameras.do(id, command)
        return success(_shown(self._cameras.find(id)))


def _shown(each: Controlled) -> dict[str, Any]:
    settings = each.settings
    shown: dict[str, Any] = {
        "id": settings.name, "connection": settings.device or f"{settings.host}:{settings.port}",
        "address": settings.address, "ready": each.line.ready,
    }  # fmt: skip
    return shown | ({"fault": each.line.fault} if each.line.fault else {})


def command_of(body: Any) -> Command:
    """Raises BadRequest."""
    if not isinstance(body, dict) or len(body) != 1 or next(iter(body)) not in ACTIONS:
        raise BadRequest(f'Request body must be an object with one of {", ".join(ACTIONS)}, such as {{"zoom":3}}')
    ((action, value),) = body.items()
    return built(lambda: _BUILD[action](value))


def _move(value: Any) -> Command:
    fields = _integers("move", value, ("pan", "tilt"))
    return visca.drive(fields["pan"], fields["tilt"])


def _move_to(value: Any) -> Command:
    fields = _integers("moveTo", value, ("pan", "tilt"), ("panSpeed", "tiltSpeed"))
    return visca.move_to(fields["pan"], fields["tilt"], fields.get("panSpeed", 24), fields.get("tiltSpeed", 20))


def _home(value: Any) -> Command:
    if value is not True:
        raise BadRequest("[home] must be true")
    return visca.HOME


def _preset(value: Any) -> Command:
    if not isinstance(value, dict) or not isinstance(value.get("action"), str):
        raise BadRequest('[preset] must be an object such as {"action":"recall","number":1}')
    rest = {name: each for name, each in value.items() if name != "action"}
    return visca.preset(value["action"], _integers("preset", rest, ("number",))["number"])


def _focus_mode(value: Any) -> Command:
    if not isinstance(value, str) or value not in _FOCUS:
        raise BadRequest(f"[focusMode] is one of {', '.join(_FOCUS)}")
    return _FOCUS[value]


def _power(value: Any) -> Command:
    if not isinstance(value, bool):
        raise BadRequest("[power] must be true or false")
    return visca.POWER_ON if value else visca.POWER_OFF


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"[{name}] must be an integer")
    return value


def _integers(name: str, value: Any, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, int]:
    if not isinstance(value, dict):
        raise BadRequest(f"[{name}] must be an object")
    unknown = sorted(value.keys() - set(required) - set(optional))
    missing = [each for each in required if each not in value]
    if unknown or missing:
        wrong = f"has an unknown key: {unknown[0][:64]}" if unknown else f"needs {missing[0]}"
        raise BadRequest(f"[{name}] {wrong}")
    return {key: _integer(f"{name}.{key}", each) for key, each in value.items()}


_BUILD: dict[str, Callable[[Any], Command]] = {
    "move": _move,
    "moveTo": _move_to,
    "home": _home,
    "zoom": lambda value: visca.zoom(_integer("zoom", value)),
    "zoomTo": lambda value: visca.zoom_to(_integer("zoomTo", value)),
    "focus": lambda value: visca.focus(_integer("focus", value)),
    "focusTo": lambda value: visca.focus_to(_integer("focusTo", value)),
    "focusMode": _focus_mode,
    "preset": _preset,
    "power": _power,
}
