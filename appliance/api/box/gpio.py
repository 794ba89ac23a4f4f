"""``/box/v1/gpio``: lamps, relays and buttons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.box.query import known
from appliance.api.contracts import COUNT, FLAG, NAME, TEXT, Contract, array, obj, one_of
from appliance.api.envelope import Answer, success
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.box.gpio import Gpio, HeldLine
from appliance.errors import BadRequest

PATH = "/box/v1/gpio"
_ROLES = one_of("on-air", "recording", "output", "record-button", "push-button")
_LINE = obj(
    "id chip offset role ready", id=NAME, chip=TEXT, offset=COUNT, role=_ROLES, ready=FLAG, fault=TEXT, on=FLAG,
    presses=COUNT,
)  # fmt: skip
_LED = obj("id shows ready", id=TEXT, shows=one_of("on-air", "recording"), ready=FLAG, fault=TEXT)
_SET = obj("id on", id=NAME, on=FLAG) | {"additionalProperties": False}


class GpioApi:
    """Handlers over the lines of the box."""

    def __init__(self, gpio: Gpio) -> None:
        self._gpio = gpio

    def routes(self) -> Iterator[Route]:
        everything = obj("lines leds", lines=array(_LINE), leds=array(_LED))
        yield Route("GET", PATH, self.all, Role.VIEWER, Contract(response=everything, statuses=(400,)))
        yield Route("POST", PATH, self.set, Role.OPERATOR, Contract(_SET, _LINE, statuses=(403, 404, 503)))

    async def all(self, request: Request) -> Answer:
        known(request, ())
        lamps = [
            {"id": name, "shows": shows, "ready": state.ready} | ({"fault": state.fault} if state.fault else {})
            for name, (shows, state) in self._gpio.leds.items()
        ]
        return success({"lines": [_shown(held) for held in self._gpio.lines.values()], "leds": lamps})

    async def set(self, request: Request) -> Answer:
        """Of a line whose role is ``output``."""
        body = await request.json()
        if not isinstance(body, dict) or set(body) != {"id", "on"}:
            raise BadRequest('Request body must be an object such as {"id":"relay","on":true}')
        if not isinstance(body["id"], str) or not isinstance(body["on"], bool):
            raise BadRequest("[id] must be a string and [on] true or false")
        return success(_shown(self._gpio.set(body["id"], body["on"])))


def _shown(held: HeldLine) -> dict[str, Any]:
    settings = held.settings
    shown: dict[str, Any] = {
        "id": settings.name, "chip": settings.chip, "offset": settings.offset, "role": held.role,
        "ready": held.state.ready,
    }  # fmt: skip
    shown |= {"on": held.wanted} if held.output else {"presses": held.presses}
    return shown | ({"fault": held.state.fault} if held.state.fault else {})
