"""``/box/v1/panel``: what the front panel shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.box.query import known
from appliance.api.contracts import FLAG, TEXT, Contract, array, obj
from appliance.api.envelope import Answer, success
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.box.panel import FrontPanel

PATH = "/box/v1/panel"
_PANEL = obj("present", present=FLAG, make=TEXT, device=TEXT, ready=FLAG, fault=TEXT, rows=array(TEXT))


class PanelApi:
    """Its keys are pressed on the box alone."""

    def __init__(self, panel: FrontPanel | None) -> None:
        self._panel = panel

    def routes(self) -> Iterator[Route]:
        yield Route("GET", PATH, self.state, Role.VIEWER, Contract(response=_PANEL, statuses=(400,)))

    async def state(self, request: Request) -> Answer:
        known(request, ())
        panel = self._panel
        if panel is None:
            return success({"present": False})
        shown: dict[str, Any] = {
            "present": True, "make": panel.settings.make, "device": panel.settings.device, "ready": panel.state.ready,
            "rows": panel.rows if panel.state.ready else [],
        }  # fmt: skip
        return success(shown | ({"fault": panel.state.fault} if panel.state.fault else {}))
