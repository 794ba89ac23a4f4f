"""The management API as an ASGI application: host name, CORS, access, routes, envelope (catalogue 2.2)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable

import trio

from appliance.access.roles import ADMIN, Caller
from appliance.api.auth import CHALLENGE, Refusal, TokenCheck
from appliance.api.cors import CrossOrigin
from appliance.api.envelope import Answer, config_failure, failure
from appliance.api.request import Request
from appliance.api.routes import RouteTable
from appliance.errors import ConfigError, KilnError
from appliance.net.asgi import ClientDisconnected, Headers, Receive, Scope, Send
from appliance.net.hosts import host_name

log = logging.getLogger("kiln.api")

HOLD = 1.0
"""Seconds that the answer to one bad token too many is held back, of at most so many requests at once."""
MOST_HELD = 64

_NOT_FOUND = failure(404, "Controller not found")
_WRONG_HOST = failure(404, "Host not allowed")
_FAULT = failure(500, "Internal Server Error")


class ManagementApi:
    """``allows_host`` tells whether the API answers to a host name (no port). Callers on the unix socket are admitted
    without a token and whatever they call the host: the socket's file mode has let them in."""

    def __init__(
        self,
        routes: RouteTable,
        token: TokenCheck,
        cors: CrossOrigin,
        allows_host: Callable[[str], bool],
        *,
        etag: bool = False,
    ) -> None:
        self._routes = routes
        self._token = token
        self._cors = cors
        self._allows_host = allows_host
        self._etag = etag
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authorization: bytes | None = None
        host = origin = asked = known = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"access-control-request-headers":
                asked = value
            elif name == b"if-none-match":
                known = value
        method: str = scope["method"]
        local = "kiln.peer" in scope.get("extensions", ())
        fixed = self._cors.headers(origin, asked)
        if not (local or self._allows_host(host_name(host))):
            await _send(send, method, _WRONG_HOST, fixed)
            return
        if method == "OPTIONS":
            headers = [*fixed, (b"content-type", b"text/html")]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        caller = ADMIN if local else self._token.admit(authorization, _address(scope))
        if isinstance(caller, Refusal):
            answer = await self._refuse(caller)
        else:
            answer = await self._answer(method, scope, receive, caller)
            if self._etag and answer.status == 200 and answer.stream is None and method in ("GET", "HEAD"):
                answer = _with_etag(answer, known)
        await _send(send, method, answer, fixed)

    async def _refuse(self, refusal: Refusal) -> Answer:
        answer = failure(refusal.status, refusal.text)
        if refusal.status == 401:
            answer.headers = [CHALLENGE]
            return answer
        answer.headers = [(b"retry-after", b"%d" % refusal.retry_after)]
        if self._held < MOST_HELD:
            self._held += 1
            try:
                await trio.sleep(HOLD)
            finally:
                self._held -= 1
        return answer

    async def _answer(self, method: str, scope: Scope, receive: Receive, caller: Caller) -> Answer:
        found = self._routes.find(method, scope["raw_path"].decode("latin-1"))
        if found is None:
            return _NOT_FOUND
        route, names = found
        if not caller.may(route.role):
            return failure(403, f"This needs the role {route.role.word}, the token has {caller.role.word}")
        try:
            return await route.handler(Request(scope, receive, names, caller.role), *names)
        except ConfigError as error:
            return config_failure(error)
        except KilnError as error:
            return failure(error.status, str(error))
        except ClientDisconnected:
            raise
        except Exception:
            # One request fails, and says so; the server and all others go on.
            log.exception("request failed method=%s path=%s", method, scope["path"])
            return _FAULT


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _send(send: Send, method: str, answer: Answer, fixed: tuple[tuple[bytes, bytes], ...]) -> None:
    headers: Headers = [*fixed, *answer.headers]
    body = answer.body
    if answer.status != 304:
        headers.append((b"content-type", answer.content_type))
        if answer.stream is None:
            headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.stream is not None and method != "HEAD":

        async def write(piece: bytes) -> None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        await answer.stream(write)
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def _with_etag(answer: Answer, known: bytes) -> Answer:
    tag = b'"%b"' % hashlib.sha256(answer.body).hexdigest()[:32].encode()
    matches = known == b"*" or tag in [each.strip().removeprefix(b"W/") for each in known.split(b",")]
    headers = [(b"etag", tag)]
    return Answer(304, b"", headers) if matches else Answer(200, answer.body, headers, answer.content_type)
