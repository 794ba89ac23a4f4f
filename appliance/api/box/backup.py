"""``/box/v1/backup``: what makes the box what it is, out and in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from appliance.access.roles import Role
from appliance.api.box.config import CHANGED, how_to_change, refused_document, told_outcome
from appliance.api.box.query import PRIVATE
from appliance.api.contracts import TEXT, Contract, array
from appliance.api.envelope import Answer, success
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.backup import LARGEST, Backup
from appliance.media.clock import Clock
from appliance.settings.export import ConfigFaults

PATH = "/box/v1/backup"


class BackupApi:
    """Handlers over one engine."""

    def __init__(self, backup: Backup, clock: Clock) -> None:
        self._backup = backup
        self._clock = clock

    def routes(self) -> Iterator[Route]:
        query = {"dry-run": "yes: only tell what would change", "confirm-within": "s; see /box/v1/config"}
        added = {"type": "object", "additionalProperties": array(TEXT)}
        restored = {**CHANGED, "properties": {**CHANGED["properties"], "added": added}}
        taken = Contract(
            {"type": "string", "format": "binary"}, restored, query=query, statuses=(403, 409, 413, 503, 507)
        )
        yield Route("GET", PATH, self.make, Role.ADMIN, Contract(raw="application/zip", statuses=(503,)))
        yield Route("POST", PATH, self.restore, Role.ADMIN, taken)

    async def make(self, request: Request) -> Answer:
        """Keys, secrets and hashes of tokens are in it."""
        made = await self._backup.make()
        day = datetime.fromtimestamp(self._clock.wall() / 1e9, UTC).strftime("%Y%m%d-%H%M%S")
        name = f'attachment; filename="kiln-backup-{day}.zip"'.encode()
        return Answer(200, made, [*PRIVATE, (b"content-disposition", name)], b"application/zip")

    async def restore(self, request: Request) -> Answer:
        dry, within = how_to_change(request)
        data = await request.body(LARGEST)
        try:
            if dry:
                restored = await self._backup.check(data)
            else:
                restored = await self._backup.restore(data, confirm_within=within)
        except ConfigFaults as error:
            return refused_document(error)
        told = told_outcome(restored.outcome, dry=dry, within=within)
        told["warnings"] = [*told["warnings"], *restored.warnings]
        return success(told | {"added": restored.added})
