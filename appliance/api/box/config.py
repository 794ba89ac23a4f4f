"""``/box/v1/config``: the configuration as one document, read, checked, replaced and confirmed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.body import LARGEST, parse_json
from appliance.api.box.query import PRIVATE, flag, known, number, one_of
from appliance.api.contracts import ANY, FLAG, TEXT, Contract, array, obj
from appliance.api.envelope import Answer, encode, success
from appliance.api.ome.secrets import shown_to
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.import_config import LONGEST_WAIT, ConfigImport, NotNow, Outcome
from appliance.settings.export import ConfigFaults
from appliance.settings.schema import Raw
from appliance.settings.xml import LARGEST_FILE
from appliance.settings.xml_edit import rendered

PATH = "/box/v1/config"
_CHANGING = {
    "dry-run": "yes: only tell what would change",
    "confirm-within": f"1 to {LONGEST_WAIT} s: undone then unless POST {PATH}:confirm comes before (0: holds at once)",
}
CHANGED = obj(
    "changes restarts needsRestart warnings dryRun", changes=array(obj("path", path=TEXT)), restarts=array(TEXT),
    needsRestart=array(TEXT), warnings=array(TEXT), dryRun=FLAG, confirmWithin={"type": "integer"},
)  # fmt: skip


class Config:
    """Handlers over the configuration of one engine."""

    def __init__(self, config: ConfigImport) -> None:
        self._config = config

    def routes(self) -> Iterator[Route]:
        told = Contract(response=ANY, query={"format": "json, or xml: a Server.xml with the comments of the file"})
        changed = Contract(ANY, CHANGED, query=_CHANGING, statuses=(403, 409, 413, 503, 507))
        confirmed = Contract(statuses=(409, 507))
        yield Route("GET", PATH, self.all, Role.OPERATOR, told)
        yield Route("POST", PATH, self.replace, Role.ADMIN, changed)
        yield Route("PATCH", PATH, self.patch, Role.ADMIN, changed)
        yield Route("POST", f"{PATH}:confirm", self.confirm, Role.ADMIN, confirmed)

    async def all(self, request: Request) -> Answer:
        """Secrets are hidden from all but an admin, and with them the comments of the file, which may hold some."""
        query = known(request, ("format",))
        document = self._config.document()
        if one_of(query, "format", "json", ("json", "xml")) == "json":
            return success(shown_to(request.role, document))
        admin = request.role is Role.ADMIN
        text = self._config.xml(document) if admin else rendered(shown_to(request.role, document))
        return Answer(200, text, PRIVATE, b"application/xml")

    async def replace(self, request: Request) -> Answer:
        async def read() -> Raw:
            body = await request.body(LARGEST_FILE)
            if is_xml(request, body):
                return await self._config.of_xml(body)
            return await self._config.of_json(parse_json(body))

        return await self._change(request, read)

    async def patch(self, request: Request) -> Answer:
        async def read() -> Raw:
            return await self._config.of_patch(await request.json(LARGEST))

        return await self._change(request, read)

    async def confirm(self, request: Request) -> Answer:
        await request.json()
        if not await self._config.confirm():
            raise NotNow("No change waits to be confirmed")
        return success(None)

    async def _change(self, request: Request, read: Callable[[], Awaitable[Raw]]) -> Answer:
        dry, within = how_to_change(request)
        try:
            document = await read()
            if dry:
                outcome = await self._config.check(document)
            else:
                outcome = await self._config.take(document, confirm_within=within)
        except ConfigFaults as error:
            return refused_document(error)
        return success(told_outcome(outcome, dry=dry, within=within))


def how_to_change(request: Request) -> tuple[bool, int]:
    """Whether nothing is to be done, and how long to wait for a confirmation (s). Raises BadRequest."""
    query = known(request, tuple(_CHANGING))
    return flag(query, "dry-run"), number(query, "confirm-within", 0, 0, LONGEST_WAIT)


def is_xml(request: Request, body: bytes) -> bool:
    return b"xml" in request.header(b"content-type").lower() or body.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<"


def told_outcome(outcome: Outcome, *, dry: bool, within: int) -> dict[str, Any]:
    return {
        "changes": [
            {key: value for key, value in (("path", each.path), ("before", each.before), ("after", each.after))
             if value is not None}
            for each in outcome.changes
        ],
        "confirmWithin": within,
        "dryRun": dry,
        "needsRestart": outcome.needs_restart,
        "restarts": outcome.restarts,
        "warnings": outcome.warnings,
    }  # fmt: skip


def refused_document(error: ConfigFaults) -> Answer:
    """400 with every fault: ``path``, ``line`` (0: none), ``message``, and ``hint`` where there is one."""
    faults = []
    for fault in error.faults:
        told = {"path": fault.path, "line": fault.line, "message": fault.message}
        faults.append({**told, "hint": fault.hint} if fault.hint else told)
    message = encode(f"[Config] {error}")
    return Answer(400, b'{"message":%b,"response":{"faults":%b},"statusCode":400}' % (message, encode(faults)))
