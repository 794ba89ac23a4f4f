"""Events among the media of a live stream, and its conclusion (catalogue 1.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, fine, multi_status, plain, refused
from appliance.api.ome.fields import Fields
from appliance.api.ome.lookup import find_input
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.input_stream import InputStream
from appliance.errors import BadRequest, KilnError, Unavailable
from appliance.media.events import Conclusion, Cue, CueType, Event, Splice, Target, TimedMetadata
from appliance.protocols.id3 import Frame, build_tag, is_supported

_STREAM = "/v1/vhosts/{v}/apps/{a}/streams/{s}"
_UINT32 = 2**32 - 1
#: Events of one request.
MOST_EVENTS = 1000


class Events:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        yield Route("POST", f"{_STREAM}:sendEvent", self.send, Role.OPERATOR)
        yield Route("POST", f"{_STREAM}:sendEvents", self.send_all, Role.OPERATOR)
        yield Route("POST", f"{_STREAM}:concludeHlsLive", self.conclude, Role.OPERATOR)

    async def send(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        body = await request.json()
        _send(live_input(self._engine, vhost, app, stream), body)
        return plain(200)

    async def send_all(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        body = await request.json()
        found = live_input(self._engine, vhost, app, stream)
        if not isinstance(body, list) or not body:
            raise BadRequest("events(array) is required")
        if len(body) > MOST_EVENTS:
            raise BadRequest(f"events may hold {MOST_EVENTS} elements")
        results = []
        for each in body:
            try:
                _send(found, each)
                results.append(fine())
            except KilnError as error:
                results.append(refused(error))
        return multi_status(results)

    async def conclude(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        body = await request.json()
        found = live_input(self._engine, vhost, app, stream)
        urgent = Fields(body).flag("urgent")
        try:
            found.inject(Conclusion(), urgent=urgent)
        except Unavailable as error:
            raise Unavailable(f"Could not inject ConcludeLive event: [{found.label}] ({error})") from error
        return plain(200)


def live_input(engine: Engine, vhost: str, app: str, stream: str) -> InputStream:
    """Raises NotFound."""
    find_input(engine, vhost, app, stream)
    application = engine.directory.find_application(vhost, app)
    assert application is not None
    return application.inputs[stream]


def _send(stream: InputStream, body: Any) -> None:
    """Raises BadRequest, Unavailable."""
    fields = Fields(body)
    name, events = fields.raw("eventFormat"), fields.raw("events")
    if not isinstance(name, str) or not isinstance(events, list) or not events:
        raise BadRequest("eventFormat(string) and events(array) are required")
    make = _FORMATS.get(name.lower())
    if make is None:
        raise BadRequest(f"eventFormat is not supported: [{name[:64]}]")
    event = make([Fields(each, f"events[{index}].") for index, each in enumerate(events)])
    target = _target(fields.raw("eventType"))
    try:
        stream.inject(event, target, urgent=fields.flag("urgent"))
    except Unavailable as error:
        raise Unavailable(f"Could not inject event: [{stream.label}] ({error})") from error


def _target(value: Any) -> Target:
    if value is None:
        return Target.EVENT
    if not isinstance(value, str):
        raise BadRequest("eventType must be string")
    try:
        return Target(value.lower())
    except ValueError:
        raise BadRequest(f"eventType is not supported: [{value[:64]}]") from None


def _id3v2(items: list[Fields]) -> Event:
    frames = []
    for item in items:
        kind = item.text("frameType")
        if not kind:
            raise BadRequest("frameType is required in events")
        if not is_supported(kind):
            raise BadRequest(f"frameType is not supported: [{kind[:64]}]")
        frames.append(Frame(kind, item.text("info"), item.text("data")))
    return TimedMetadata(build_tag(frames))


def _cue(items: list[Fields]) -> Event:
    kind = items[0].text("cueType")
    if not kind:
        raise BadRequest("cueType is required in events")
    try:
        cue = CueType(kind.lower())
    except ValueError:
        raise BadRequest(f"cueType is not supported: [{kind[:64]}]") from None
    return Cue(cue, items[0].integer("duration", 0, low=0, high=_UINT32))


def _scte35(items: list[Fields]) -> Event:
    item = items[0]
    if item.text("spliceCommand", "spliceInsert").lower() != "spliceinsert":
        raise BadRequest("Now only spliceInsert is supported")
    if "id" not in item:
        raise BadRequest("id is required in events")
    splice_id = item.integer("id", low=0, high=_UINT32)
    kind = item.text("type").lower()
    if not kind:
        raise BadRequest("type is required in events")
    if kind not in ("out", "in"):
        raise BadRequest("type must be 'out' or 'in'")
    duration = item.integer("duration", 0, low=0, high=_UINT32)
    return Splice(splice_id, kind == "out", duration, item.flag("autoReturn"))


_FORMATS = {"id3v2": _id3v2, "cue": _cue, "scte35": _scte35}
