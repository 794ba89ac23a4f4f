"""Scheduled channels (catalogue 1.9, 3.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, created, plain, success
from appliance.api.ome.lookup import find_application
from appliance.api.ome.stream_resource import api_time
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.channels import SCHEDULED, LiveChannel
from appliance.engine.engine import Engine
from appliance.errors import BadRequest, NotFound
from appliance.providers.schedule import from_json, patched, to_xml
from appliance.transcoder.playout.model import MS, Item, Program, Schedule
from appliance.transcoder.playout.player import OnAir
from appliance.transcoder.playout.timetable import Timetable

_CHANNELS = "/v1/vhosts/{v}/apps/{a}/scheduledChannels"
#: The end of what never ends (ns): the last moment that 64 bits of nanoseconds hold.
NEVER = "2262-04-11T23:47:16.854+00:00"


class ScheduledChannels:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._channels = engine.channels

    def routes(self) -> Iterator[Route]:
        yield Route("GET", _CHANNELS, self.listed, Role.VIEWER)
        yield Route("POST", _CHANNELS, self.create, Role.OPERATOR)
        yield Route("GET", f"{_CHANNELS}/{{s}}", self.get, Role.VIEWER)
        yield Route("PATCH", f"{_CHANNELS}/{{s}}", self.change, Role.OPERATOR)
        yield Route("DELETE", f"{_CHANNELS}/{{s}}", self.delete, Role.OPERATOR)

    async def listed(self, request: Request, vhost: str, app: str) -> Answer:
        find_application(self._engine, vhost, app)
        return success([each.name for each in self._channels.all(SCHEDULED, vhost, app)])

    async def create(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()
        find_application(self._engine, vhost, app)
        if not isinstance(body, dict):
            raise BadRequest("Invalid request body")
        if not self._enabled(vhost, app):
            return plain(403)
        schedule = from_json(body, self._engine.clock.wall())
        await self._channels.create(SCHEDULED, vhost, app, schedule.stream.name, to_xml(schedule))
        return created()

    async def get(self, request: Request, vhost: str, app: str, name: str) -> Answer:
        live = self._find(vhost, app, name)
        return success(channel_resource(live.model, live.provider.on_air, self._engine.clock.wall()))

    async def change(self, request: Request, vhost: str, app: str, name: str) -> Answer:
        body = await request.json()
        live = self._find(vhost, app, name)
        if not self._enabled(vhost, app):
            return plain(403)
        schedule = patched(live.model, body, self._engine.clock.wall())
        await self._channels.change(SCHEDULED, vhost, app, name, to_xml(schedule))
        return created()

    async def delete(self, request: Request, vhost: str, app: str, name: str) -> Answer:
        self._find(vhost, app, name)
        if not self._enabled(vhost, app):
            return plain(403)
        await self._channels.delete(SCHEDULED, vhost, app, name)
        return plain(200)

    def _enabled(self, vhost: str, app: str) -> bool:
        return find_application(self._engine, vhost, app).settings.providers.schedule is not None

    def _find(self, vhost: str, app: str, name: str) -> LiveChannel:
        """Raises NotFound, BadRequest."""
        application = find_application(self._engine, vhost, app)
        live = self._channels.find(SCHEDULED, vhost, app, name)
        if live is None:
            if name in application.inputs:
                raise BadRequest("Stream is not a scheduled stream")
            raise NotFound(f"Could not find the stream: [{vhost}/#{vhost}#{app}/{name}]")
        return live


def channel_resource(schedule: Schedule, on_air: OnAir | None, wall: int) -> dict[str, Any]:
    """The channel with what it plays at ``wall`` (ns since 1970)."""
    stream = schedule.stream
    made: dict[str, Any] = {
        "stream": {
            "name": stream.name,
            "bypassTranscoder": stream.bypass_transcoder,
            "videoTrack": stream.video_track,
            "audioTrack": stream.audio_track,
            "audioMap": [
                {"name": each.name, "language": each.language, "characteristics": each.characteristics}
                for each in stream.audio_map
            ] or None,
            "errorToleranceDurationMs": stream.error_tolerance_ms,
        },
        "currentProgram": _current(schedule, on_air, wall),
    }  # fmt: skip
    if schedule.fallback is not None:
        made["fallbackProgram"] = _program(schedule.fallback)
    if schedule.programs:
        made["programs"] = [_program(program) for program in schedule.programs]
    return made


def _program(program: Program) -> dict[str, Any]:
    return {
        "name": program.name, "scheduled": program.scheduled, "repeat": program.repeat,
        "items": [_item(item) for item in program.items] or None,
    }  # fmt: skip


def _item(item: Item) -> dict[str, Any]:
    return {"url": item.url, "start": item.start, "duration": item.duration}


def _current(schedule: Schedule, on_air: OnAir | None, wall: int) -> dict[str, Any]:
    table = Timetable(schedule)
    entry = on_air.entry if on_air is not None else None
    playing = on_air is not None and entry is not None and not entry.fallback
    program = entry.program if playing and entry is not None else table.program_at(wall)
    if program is None:
        return {"state": "offair"}
    end = table.end_of(program)
    told: dict[str, Any] = {
        "state": "onair" if playing else "offair",
        "name": program.name,
        "scheduled": api_time(program.begins),
        "end": NEVER if end is None else api_time(end),
        "duration": -1 if end is None else (end - program.begins) // MS,
        "repeat": program.repeat,
    }
    if playing and entry is not None and on_air is not None:
        told["currentItem"] = {**_item(entry.item), "currentPosition": on_air.position // MS}
    return told
