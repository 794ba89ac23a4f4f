"""What all answers on the delivery port have in common: who is asked, what CORS says, refusals, OPTIONS."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, TypeVar

import trio

from appliance.errors import KilnError
from appliance.media.contracts import Context
from appliance.net.asgi import Headers, Receive, Scope, Send
from appliance.net.direct import Answering, Reply, Wait, answer_by_asgi
from appliance.net.hosts import host_name
from appliance.publishers.heads import Cors, error
from appliance.settings.models import CrossDomains

#: A virtual host found for a host name is asked again after so many seconds.
HOSTS_KNOWN = 1.0
MOST_HOSTS = 1024

ALLOW = (b"allow", b"GET, HEAD, OPTIONS")

T = TypeVar("T")
#: Something that has to be waited for.
Awaiting = Generator[Wait, bool, T]


class PublisherSettings(Protocol):
    @property
    def cross_domains(self) -> CrossDomains | None: ...


class Request:
    """One request, as far as it is read. ``cors`` is what holds for it once its stream is known."""

    __slots__ = ("accept_encoding", "asked_headers", "cors", "host", "origin", "scope", "user_agent")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.cors: Cors | None = None
        self.host = self.origin = self.accept_encoding = self.asked_headers = self.user_agent = b""
        for name, value in scope["headers"]:
            if name == b"host":
                self.host = value
            elif name == b"accept-encoding":
                self.accept_encoding = value
            elif name == b"origin":
                self.origin = value
            elif name == b"user-agent":
                self.user_agent = value
            elif name == b"access-control-request-headers":
                self.asked_headers = value

    @property
    def player(self) -> object:
        """Address and player: who it is that has no session."""
        client = self.scope.get("client")
        return (client[0] if client else "", self.user_agent)


class Front:
    """Called as an ASGI application. ``publisher`` is the attribute of ``models.Publishers`` that is answered for."""

    publisher = ""

    def __init__(self, context: Context) -> None:
        self._directory = context.directory
        self._hosts: dict[bytes, str | None] = {}
        self._hosts_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        await answer_by_asgi(self.answering(scope), scope, send)

    def answering(self, scope: Scope) -> Answering:
        """The answer to any request (``net.direct``)."""
        raise NotImplementedError

    def _vhost(self, host: bytes) -> str | None:
        now = trio.current_time()
        hosts = self._hosts
        if now >= self._hosts_until or len(hosts) > MOST_HOSTS:
            hosts.clear()
            self._hosts_until = now + HOSTS_KNOWN
        if host in hosts:
            return hosts[host]
        vhost = hosts[host] = self._directory.vhost_for_host(host_name(host))
        return vhost

    def _settings(self, vhost: str, app: str) -> PublisherSettings | None:
        """Those of the application; None when it doesn't publish this way."""
        publishers = getattr(self._directory.application(vhost, app), "publishers", None)
        return getattr(publishers, self.publisher, None)

    def _expected(self, vhost: str, app: str, stream: str, scope: Scope) -> bool:
        """Whether a stream that is not on the air here is one of the engine's, or is being fetched now."""
        if self._settings(vhost, app) is None:
            return False
        if self._directory.output(vhost, app, stream) is not None:
            return True
        if not scope["path"].endswith(".m3u8"):
            return False
        query = scope["query_string"].decode("latin-1")
        return self._directory.wanted(vhost, app, stream, "" if "_HLS_" in query else query)

    def _cors(self, request: Request, vhost: str | None, app: str) -> Cors | None:
        """What the application says, also for streams that it doesn't have."""
        if request.cors is not None:
            return request.cors
        settings = None if vhost is None else self._settings(vhost, app)
        return None if settings is None else Cors(settings.cross_domains)

    def _preflight(self, request: Request, vhost: str | None, app: str) -> Reply:
        cors = self._cors(request, vhost, app)
        headers: Headers = [ALLOW]
        if cors is not None:
            headers += cors.preflight(request.origin or None, request.asked_headers)
        return Reply(204, headers)

    def _not_allowed(self, request: Request) -> Reply:
        return self._refuse(request, 405, b"GET, HEAD and OPTIONS are answered here\n", [ALLOW])

    def _fault(self, request: Request, fault: KilnError) -> Reply:
        return self._refuse(request, fault.status, f"{fault}\n".encode())

    def _refuse(self, request: Request, status: int, body: bytes, extra: Headers | None = None) -> Reply:
        names = split_path(request.scope["path"])
        cors = self._cors(request, self._vhost(request.host), names[0] if names else "")
        more = (extra or []) + (cors.headers(request.origin or None) if cors is not None else [])
        return Reply(status, error(status, len(body), more), [body])


def split_path(path: str) -> tuple[str, str, str, str] | None:
    """``/app/stream/[~session/]file`` as app, stream, session ("" for none) and file; None for any other form."""
    pieces = path.split("/")
    if len(pieces) == 4 and pieces[3]:
        return pieces[1], pieces[2], "", pieces[3]
    if len(pieces) == 5 and pieces[3][:1] == "~" and pieces[4]:
        return pieces[1], pieces[2], pieces[3][1:], pieces[4]
    return None
