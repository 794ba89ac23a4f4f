"""``/box/v1/storage``: the disk of the recordings, what is on it, how long it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.box.recordings import shown
from appliance.api.contracts import ANY, Contract
from appliance.api.envelope import Answer, success
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.storage.client import DiskClient


class Storage:
    def __init__(self, disk: DiskClient) -> None:
        self._disk = disk

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/storage", self.read, Role.VIEWER, Contract(response=ANY))

    async def read(self, request: Request) -> Answer:
        """Volumes (bytes, hours), what retention keeps, and what was repaired since the engine started."""
        disk = self._disk
        return success({
            "recovered": [shown(entry) for entry in disk.recovered],
            "retention": [
                {"app": rule.app, "maxAge": rule.max_age, "maxSize": rule.max_size, "vhost": rule.vhost}
                for rule in disk.rules
            ],
            "volumes": [_volume(disk)],
        })  # fmt: skip


def _volume(disk: DiskClient) -> dict[str, Any]:
    usage = disk.usage
    hours = disk.hours_left
    volume: dict[str, Any] = {
        "bytesPerSecond": round(disk.rate), "count": usage.count, "damaged": usage.damaged, "free": usage.free,
        "kept": usage.kept, "path": str(disk.root), "recordings": usage.recordings, "reserve": disk.reserve,
        "state": "error" if disk.fault or usage.error else "late" if disk.late else "ok", "total": usage.total,
    }  # fmt: skip
    if hours is not None:
        volume["hoursLeft"] = round(hours, 2)
    if disk.fault or usage.error:
        volume["error"] = disk.fault or usage.error
    return volume
