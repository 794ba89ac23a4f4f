"""LL-HLS dumps (catalogue 1.8, 3.7)."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.access.roles import Role
from appliance.api.envelope import Answer, plain, success
from appliance.api.ome.fields import Fields, check_id
from appliance.api.ome.lookup import find_application, find_input
from appliance.api.ome.task_resources import dump_resource
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.tasks.entry import Entry
from appliance.engine.tasks.kinds import DUMP
from appliance.errors import BadRequest, KilnError, NameTaken, NotBuilt, NotFound
from appliance.media.tasks import Dump
from appliance.settings.names import check_name

_STREAM = "/v1/vhosts/{v}/apps/{a}/streams/{s}"


class DumpRefused(KilnError):
    """A dump that can't be begun, with the status of its reason."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Dumps:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._board = engine.tasks

    def routes(self) -> Iterator[Route]:
        yield Route("POST", f"{_STREAM}:hlsDumps", self.listed, Role.VIEWER)
        yield Route("POST", f"{_STREAM}:startHlsDump", self.start, Role.OPERATOR)
        yield Route("POST", f"{_STREAM}:stopHlsDump", self.stop, Role.OPERATOR)

    async def start(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        body = await request.json()
        find_input(self._engine, vhost, app, stream)
        fields = Fields(body)
        task = Dump(
            id=fields.text("id"), vhost=vhost, app=app, stream=fields.text("outputStreamName"),
            output_path=fields.text("outputPath"), playlist=fields.texts("playlist"),
            info_file=fields.text("infoFile"), user_data=fields.text("userData"),
        )  # fmt: skip
        if not (task.id and task.stream and task.output_path):
            raise BadRequest("id, outputStreamName and outputPath are required")
        check_id(task.id)
        for name in task.playlist:
            check_name("playlist file", name)
        self._check_output(vhost, app, task.stream)
        text = f"Could not start dump: [{vhost}/{app}/{task.stream}]"
        try:
            if self._board.find(DUMP, vhost, app, task.id, task.stream) is not None:
                raise NameTaken("Duplicate ID")
            if task.info_file and any(task.info_file == each.info_file for each in self._all()):
                raise NameTaken("Duplicate info file")
            if self._engine.delivery is not None:
                await self._engine.delivery.dumps.check_disk(task)
            await self._board.start(DUMP, task)
        except NotBuilt:
            raise
        except NameTaken as error:
            raise NameTaken(f"{text} ({error})") from None
        except KilnError as error:
            raise DumpRefused(f"{text} ({error})", error.status) from error
        return plain(200)

    async def stop(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        output, task_id = await self._asked(request, vhost, app, stream)
        entries = self._entries(vhost, app, output, task_id)
        if task_id and not entries:
            raise NotFound(f"Could not stop dump: [{vhost}/{app}/{output}] (Could not find dump info)")
        for entry in entries:
            await self._board.disable(entry)
        return plain(200)

    async def listed(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        output, task_id = await self._asked(request, vhost, app, stream)
        return success([dump_resource(entry) for entry in self._entries(vhost, app, output, task_id)])

    async def _asked(self, request: Request, vhost: str, app: str, stream: str) -> tuple[str, str]:
        """Output stream and id ("" for all)."""
        body = await request.json()
        find_input(self._engine, vhost, app, stream)
        fields = Fields(body)
        output, task_id = fields.text("outputStreamName"), fields.text("id")
        if not output:
            raise BadRequest("outputStreamName is required")
        self._check_output(vhost, app, output)
        return output, task_id

    def _entries(self, vhost: str, app: str, output: str, task_id: str) -> list[Entry]:
        return [
            entry
            for entry in self._board.entries(DUMP, vhost, app)
            if entry.task.stream == output and (not task_id or entry.task.id == task_id)
        ]

    def _all(self) -> Iterator[Dump]:
        """Those that may be about to write their info file, too."""
        for entry in self._board.all():
            if isinstance(entry.task, Dump) and entry.task.enabled:
                yield entry.task

    def _check_output(self, vhost: str, app: str, output: str) -> None:
        """Raises NotFound."""
        if self._engine.directory.output(vhost, app, output) is None:
            raise NotFound(f"Could not find output stream: [{vhost}/{app}/{output}]")
        if find_application(self._engine, vhost, app).settings.publishers.llhls is None:
            raise NotFound(f"Could not find LLHLS stream: [{vhost}/{app}/{output}]")
