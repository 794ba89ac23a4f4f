"""Recording (catalogue 1.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import trio

from appliance.access.roles import Role
from appliance.api.envelope import Answer, success
from appliance.api.ome.fields import Fields
from appliance.api.ome.lookup import find_application
from appliance.api.ome.task_requests import agenda_of, check_names, chosen_tracks, require
from appliance.api.ome.task_resources import record_resource, stopped_record_resource
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.tasks.kinds import RECORD
from appliance.errors import BadRequest, NameTaken, NotFound
from appliance.media.tasks import Record

#: How long the answer to a stop waits for the file to be finished (s); it is finished whoever waits.
FINISH_WITHIN = 2.0
_APP = "/v1/vhosts/{v}/apps/{a}"
_MINUTE = r"(\*|[0-9]|[1-5][0-9]|\*/([0-9]|[1-5][0-9]))"
_HOUR = r"(\*|[0-9]|1[0-9]|2[0-3]|\*/([0-9]|1[0-9]|2[0-3]))"
_SCHEDULE = re.compile(f"{_MINUTE} {_MINUTE} {_HOUR}")
_RULES = ("continuity", "discontinuity")


class Records:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._board = engine.tasks

    def routes(self) -> Iterator[Route]:
        yield Route("POST", f"{_APP}:startRecord", self.start, Role.OPERATOR)
        yield Route("POST", f"{_APP}:stopRecord", self.stop, Role.OPERATOR)
        yield Route("POST", f"{_APP}:records", self.listed, Role.VIEWER)
        yield Route("GET", f"{_APP}:records", self.listed, Role.VIEWER)

    async def start(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()
        self._check_publisher(vhost, app)
        fields = Fields(body)
        stream = fields.fields("stream")
        task_id, name = fields.text("id"), stream.text("name")
        task = Record(
            id=task_id, vhost=vhost, app=app, stream=name, **chosen_tracks(stream),
            file_path=fields.text("filePath"), info_path=fields.text("infoPath"),
            interval=max(0, fields.integer("interval")), schedule=fields.text("schedule"),
            metadata=fields.text("metadata"),
        )  # fmt: skip
        rule = fields.text("segmentationRule")
        if rule in _RULES:
            task.segmentation_rule = rule
        require({"id": task_id, "stream.name": name})
        if task.interval > 0 and task.schedule:
            raise BadRequest("[Interval] and [Schedule] cannot be used at the same time")
        if task.schedule and not _SCHEDULE.fullmatch(task.schedule):
            raise BadRequest("Invalid [schedule] parameter")
        check_names(task_id, name)
        now = self._engine.clock.wall()
        try:
            entry = await self._board.start(RECORD, task, agenda_of(fields, now))
        except NameTaken:
            raise BadRequest("Duplicate ID already exists") from None
        return success(record_resource(entry, now))

    async def stop(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()
        self._check_publisher(vhost, app)
        task_id = Fields(body).text("id")
        require({"id": task_id})
        entry = self._board.find(RECORD, vhost, app, task_id)
        if entry is None:
            raise NotFound(f"There is no record information related to the ID [{task_id}]")
        answer = success(stopped_record_resource(entry, self._engine.clock.wall()))
        await self._board.stop(entry)
        with trio.move_on_after(FINISH_WITHIN):
            await entry.ended.wait()
        return answer

    async def listed(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json() if request.method == "POST" else None
        self._check_publisher(vhost, app)
        wanted = Fields(body).text("id")
        now = self._engine.clock.wall()
        entries = self._board.entries(RECORD, vhost, app)
        return success([record_resource(entry, now) for entry in entries if not wanted or entry.task.id == wanted])

    def _check_publisher(self, vhost: str, app: str) -> None:
        """Raises NotFound."""
        if find_application(self._engine, vhost, app).settings.publishers.file is None:
            raise NotFound(f"Could not find application: [{vhost}/{app}]")
