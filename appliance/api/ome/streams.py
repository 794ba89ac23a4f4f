"""Streams that are pulled, and the end of any stream (catalogue 1.7)."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from appliance.access.roles import Role
from appliance.api.envelope import Answer, created, plain
from appliance.api.ome.fields import Fields
from appliance.api.ome.lookup import find_application, find_input
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.pulls import PullFailed, PullSpec
from appliance.errors import BadRequest, ConfigError, KilnError
from appliance.net.asgi import ClientDisconnected
from appliance.settings.names import check_name

_STREAMS = "/v1/vhosts/{v}/apps/{a}/streams"
#: Addresses of one stream, the bytes of one, and the longest of its times (ms).
MOST_URLS = 32
LONGEST_URL = 2048
LONGEST_TIME = 7 * 24 * 3600 * 1000
MOST_RETRIES = 1000


class Streams:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        yield Route("POST", _STREAMS, self.create, Role.OPERATOR)
        yield Route("DELETE", f"{_STREAMS}/{{s}}", self.delete, Role.OPERATOR)

    async def create(self, request: Request, vhost: str, app: str) -> Answer:
        """Answers when the stream is on the air; a client that leaves before has asked for nothing."""
        body = await request.json()
        find_application(self._engine, vhost, app)
        spec = _spec(body, vhost, app)
        fault: KilnError | None = None
        done = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_gone, request, nursery.cancel_scope)
            try:
                await self._engine.pulls.create(spec)
                done = True
            except KilnError as error:
                fault = error
            nursery.cancel_scope.cancel()
        if isinstance(fault, PullFailed):
            raise PullFailed(f"Could not pull the stream : {_own_url(request)}") from fault
        if fault is not None:
            raise fault
        if not done:
            raise ClientDisconnected("left before its stream was there")
        return created()

    async def delete(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        find_application(self._engine, vhost, app)
        if await self._engine.pulls.delete(vhost, app, stream):
            return plain(200)
        find_input(self._engine, vhost, app, stream)
        application = self._engine.directory.find_application(vhost, app)
        assert application is not None
        application.inputs[stream].cancel("deleted over the API")
        return plain(200)


async def _cancel_when_gone(request: Request, scope: trio.CancelScope) -> None:
    await request.gone()
    scope.cancel()


def _spec(body: object, vhost: str, app: str) -> PullSpec:
    """Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("Request body must be an object")
    name, urls = body.get("name"), body.get("urls")
    if not isinstance(name, str) or not name or not isinstance(urls, list):
        raise BadRequest("Stream name or urls is required")
    if not urls:
        raise BadRequest("Urls must be at least one")
    if not all(isinstance(url, str) for url in urls):
        raise BadRequest("Url must be a string")
    if len(urls) > MOST_URLS or any(len(url) > LONGEST_URL or not url.isprintable() for url in urls):
        raise BadRequest(f"[urls] may hold {MOST_URLS} addresses of {LONGEST_URL} printable characters")
    try:
        check_name("stream", name)
    except ConfigError as error:
        raise BadRequest(str(error)) from error
    fields = Fields(body)
    properties = fields.fields("properties")
    return PullSpec(
        vhost=vhost, app=app, name=name, urls=tuple(urls),
        persistent=properties.flag("persistent"),
        no_input_failover_timeout=properties.integer("noInputFailoverTimeoutMs", -1, low=-1, high=LONGEST_TIME),
        unused_stream_deletion_timeout=properties.integer(
            "unusedStreamDeletionTimeoutMs", -1, low=-1, high=LONGEST_TIME
        ),
        ignore_rtcp_sr_timestamp=properties.flag("ignoreRtcpSRTimestamp"),
        retry_count=properties.integer("retryCount", 1 if "properties" in fields else -1, low=-1, high=MOST_RETRIES),
    )  # fmt: skip


def _own_url(request: Request) -> str:
    host = request.header(b"host").decode("latin-1")
    return f"{request.scope.get('scheme', 'http')}://{host}{request.path}"
