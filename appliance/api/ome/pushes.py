"""Pushing to other servers (catalogue 1.5)."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from appliance.access.roles import Role
from appliance.api.envelope import Answer, plain, success
from appliance.api.ome.fields import Fields
from appliance.api.ome.lookup import find_application
from appliance.api.ome.secrets import shown_to
from appliance.api.ome.task_requests import agenda_of, check_names, chosen_tracks, require
from appliance.api.ome.task_resources import push_resource
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.tasks.kinds import PUSH
from appliance.errors import BadRequest, NameTaken, NotFound
from appliance.media.tasks import Push

_APP = "/v1/vhosts/{v}/apps/{a}"
_PREFIXES = {"rtmp": ("rtmp://", "rtmps://"), "srt": ("srt://",), "mpegts": ("udp://", "tcp://")}
#: Fallback addresses of one push.
MOST_URLS = 16


class Pushes:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._board = engine.tasks

    def routes(self) -> Iterator[Route]:
        yield Route("POST", f"{_APP}:startPush", self.start, Role.OPERATOR)
        yield Route("POST", f"{_APP}:stopPush", self.stop, Role.OPERATOR)
        yield Route("POST", f"{_APP}:pushes", self.listed, Role.VIEWER)
        yield Route("GET", f"{_APP}:pushes", self.listed, Role.VIEWER)

    async def start(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()
        find_application(self._engine, vhost, app)
        fields = Fields(body)
        protocol = fields.text("protocol").strip().lower()
        if protocol not in _PREFIXES:
            raise BadRequest(f"Could not find protocol '{protocol[:64]}': [{vhost}/{app}]")
        if not self._enabled(vhost, app):
            raise NotFound(f"Could not find application: [{vhost}/{app}]")
        stream = fields.fields("stream")
        task_id, name = fields.text("id"), stream.text("name")
        urls = _urls(fields)
        require({"id": task_id, "stream.name": name, "url": urls and urls[0], "protocol": protocol})
        for url in urls:
            _check_url(protocol, url)
        check_names(task_id, name)
        task = Push(
            id=task_id, vhost=vhost, app=app, stream=name, **chosen_tracks(stream), protocol=protocol, urls=urls,
            stream_key=fields.text("streamKey").strip(),
        )  # fmt: skip
        now = self._engine.clock.wall()
        try:
            entry = await self._board.start(PUSH, task, agenda_of(fields, now))
        except NameTaken:
            raise BadRequest("Duplicate ID") from None
        return success(shown_to(request.role, push_resource(entry, now)))

    async def stop(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()
        find_application(self._engine, vhost, app)
        task_id = Fields(body).text("id")
        entries = self._board.entries(PUSH, vhost, app) if self._enabled(vhost, app) else []
        if self._enabled(vhost, app):
            require({"id": task_id})
        entry = next((each for each in entries if each.task.id == task_id), None)
        if entry is None:
            raise NotFound(f"Could not find id '{task_id}': [{vhost}/{app}]")
        # Until it has left, it may be told so again.
        if not entry.leaving:
            await self._board.stop(entry)
        return plain(200)

    async def listed(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json() if request.method == "POST" else None
        find_application(self._engine, vhost, app)
        wanted = Fields(body).text("id")
        if not self._enabled(vhost, app):
            return success([])
        now = self._engine.clock.wall()
        entries = self._board.entries(PUSH, vhost, app)
        shown = [push_resource(entry, now) for entry in entries if not wanted or entry.task.id == wanted]
        return success(shown_to(request.role, shown))

    def _enabled(self, vhost: str, app: str) -> bool:
        return find_application(self._engine, vhost, app).settings.publishers.push is not None


def _urls(fields: Fields) -> tuple[str, ...]:
    """``url``, and then ``urls`` (Kiln's own: used in order when one fails). Raises BadRequest."""
    urls = fields.texts("urls")
    if len(urls) > MOST_URLS:
        raise BadRequest(f"[urls] may hold {MOST_URLS} addresses")
    given = [fields.text("url"), *urls] if "url" in fields else list(urls)
    return tuple(dict.fromkeys(url.strip().rstrip("/") for url in given))


def _check_url(protocol: str, url: str) -> None:
    """Raises BadRequest."""
    try:
        parts = urlsplit(url)
        found = bool(parts.scheme and parts.hostname) and parts.port != 0
    except ValueError:
        found = False
    if not found or not url.isprintable() or " " in url:
        raise BadRequest("Could not parse url")
    if not url.startswith(_PREFIXES[protocol]):
        raise BadRequest("Unsupported protocol")
    if protocol == "srt" and parse_qs(parts.query, keep_blank_values=True).get("mode", ["caller"])[-1] != "caller":
        raise BadRequest("Unsupported connection mode")
    if protocol == "mpegts" and url.startswith("tcp://") and url.endswith("listen"):
        raise BadRequest("Unsupported tcp listen")
