"""``/box/v1/alarms``: what an operator should know now, and what is over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from appliance.access.roles import Role
from appliance.api.box.query import flag, known
from appliance.api.envelope import Answer, success
from appliance.api.ome.stream_resource import api_time
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.alarms import Alarms as EngineAlarms
from appliance.engine.alarms import OpenAlarm


class Alarms:
    """An alarm's id is a path: in a URL its slashes and colons are percent-escaped."""

    def __init__(self, alarms: EngineAlarms) -> None:
        self._alarms = alarms

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/alarms", self.all, Role.VIEWER)
        yield Route("POST", "/box/v1/alarms/{s}:acknowledge", self.acknowledge, Role.OPERATOR)

    async def all(self, request: Request) -> Answer:
        """Those that are open, oldest first; with ``closed=yes`` the last 200 that are over, too, latest last."""
        closed = list(self._alarms.closed) if flag(known(request, ("closed",)), "closed") else []
        return success([shown(alarm) for alarm in [*self._alarms.open, *closed]])

    async def acknowledge(self, request: Request, id: str) -> Answer:
        return success(shown(self._alarms.acknowledge(unquote(id))))


def shown(alarm: OpenAlarm) -> dict[str, Any]:
    told: dict[str, Any] = {
        "acknowledged": alarm.acknowledged, "count": alarm.count, "id": alarm.id, "lastTime": api_time(alarm.last),
        "open": not alarm.closed, "severity": alarm.severity.value, "since": api_time(alarm.since), "text": alarm.text,
    }  # fmt: skip
    if alarm.closed:
        told["closedTime"] = api_time(alarm.closed)
    return told
