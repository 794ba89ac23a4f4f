"""A client of the box's API: over its unix socket, or a URL and a token. Runs on asyncio and on trio."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import httpx

from appliance.console.server_events import Event, EventParser

#: Seconds for one request; a stream of events shows a sign of life each 15 s.
TIMEOUT = 10.0
SILENCE = 40.0
#: Seconds before another try to follow, growing; the server may ask for another first one.
RETRY = (1.0, 2.0, 5.0)
#: A pull or a certificate may take its time.
_SLOW = httpx.Timeout(60.0, connect=TIMEOUT)


class NotReachable(Exception):
    """Nothing answers there. The message says where, and why not."""


class Refused(Exception):
    """The box answered with an error: ``status``, and its reason as the message."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Reply:
    """``value`` is the body as JSON, None where it is none."""

    status: int
    content_type: str
    body: bytes
    value: Any

    @property
    def reason(self) -> str:
        """What the box says about an error."""
        if isinstance(self.value, dict) and isinstance(self.value.get("message"), str):
            return str(self.value["message"])
        return self.body.decode("utf-8", "replace").strip() or f"status {self.status}"


#: Told when the connection of a stream of events is there (``""``), and when it is lost, with the reason.
Connected = Callable[[str], None]


class Client:
    """``socket`` is the engine's unix socket, used when ``url`` (``http://box:8081``) is "". ``verify`` False takes
    any certificate, for a box that has made its own."""

    def __init__(self, *, url: str = "", token: str = "", socket: Path | None = None, verify: bool = True) -> None:
        if not url and socket is None:
            raise ValueError("neither url nor socket")
        self.place = url or str(socket)
        headers = {"Authorization": "Basic " + base64.b64encode(token.encode()).decode()} if token else {}
        context: ssl.SSLContext | bool = ssl.create_default_context() if verify and url.startswith("https:") else verify
        transport = httpx.AsyncHTTPTransport(uds=None if url else str(socket), verify=context)
        self._http = httpx.AsyncClient(
            base_url=url or "http://localhost", headers=headers, transport=transport, timeout=_SLOW, trust_env=False
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """One request, ``body`` JSON; the answer whatever its status. Raises NotReachable."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            answer = await self._http.request(method, path, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._not_reachable(error) from error
        return _reply(answer, answer.content)

    async def get(self, path: str) -> Any:
        """The resource at ``path``. Raises Refused and NotReachable."""
        return await self._resource("GET", path)

    async def post(self, path: str, value: Any = None) -> Any:
        """As ``get``, with ``value`` as JSON."""
        return await self._resource("POST", path, value)

    async def patch(self, path: str, value: Any) -> Any:
        return await self._resource("PATCH", path, value)

    async def delete(self, path: str) -> Any:
        return await self._resource("DELETE", path)

    async def _resource(self, method: str, path: str, value: Any = None) -> Any:
        reply = await self.ask(method, path, None if value is None else json.dumps(value).encode())
        if reply.status >= 400:
            raise Refused(reply.status, reply.reason)
        return reply.value.get("response") if isinstance(reply.value, dict) else reply.value

    async def open(self, method: str, path: str, body: bytes | None = None) -> AsyncGenerator[Reply | bytes, None]:
        """The answer in pieces as they come: first its head (a Reply without a body), then its bytes. To be closed
        (``contextlib.aclosing``) by who leaves it early. Raises NotReachable."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        timeout = httpx.Timeout(TIMEOUT, read=SILENCE)
        try:
            async with self._http.stream(method, path, content=body, headers=headers, timeout=timeout) as answer:
                yield _reply(answer, b"", parse=False)
                async with aclosing(_pieces(answer)) as pieces:
                    async for piece in pieces:
                        yield piece
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._not_reachable(error) from error

    async def events(
        self, path: str = "/box/v1/events", connected: Connected | None = None
    ) -> AsyncGenerator[Event, None]:
        """Server-sent events for ever: when the connection is lost another goes on after the last event that came.

        To be closed (``contextlib.aclosing``). Raises Refused when the box says no in a way that another try does not
        mend (4xx).
        """
        last_id, failures = "", 0
        retry = RETRY[0]
        while True:
            reason = "the box ended the connection"
            parser = EventParser()
            parser.last_id = last_id
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async with self._http.stream(
                    "GET", path, headers=headers, timeout=httpx.Timeout(TIMEOUT, read=SILENCE)
                ) as answer:
                    if answer.status_code == 200:
                        failures = 0
                        if connected is not None:
                            connected("")
                        async with aclosing(_pieces(answer)) as pieces:
                            async for piece in pieces:
                                for event in parser.receive_data(piece):
                                    last_id = event.id
                                    yield event
                    else:
                        refusal = _reply(answer, await answer.aread())
                        if 400 <= refusal.status < 500 and refusal.status != 429:
                            raise Refused(refusal.status, refusal.reason)
                        reason = refusal.reason
            except (httpx.HTTPError, OSError) as error:
                reason = str(self._not_reachable(error))
            retry = parser.retry or retry
            if connected is not None:
                connected(reason)
            await anyio.sleep(max(retry, RETRY[min(failures, len(RETRY) - 1)]))
            failures += 1

    def _not_reachable(self, error: Exception) -> NotReachable:
        if isinstance(error, httpx.TimeoutException):
            return NotReachable(f"{self.place} does not answer in time")
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.InvalidURL | httpx.UnsupportedProtocol):
            return NotReachable(f"nothing answers at {self.place} ({reason})")
        return NotReachable(f"the connection to {self.place} is lost ({reason})")


async def _pieces(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Who leaves early must close this: httpx's own layers are left in order then."""
    pieces = answer.aiter_bytes()
    try:
        async for piece in pieces:
            yield piece
    except GeneratorExit:
        await answer.aclose()
        with suppress(httpx.HTTPError, httpx.StreamError, StopAsyncIteration):
            # Nothing comes out of a closed connection: each generator under this one sees that, and ends.
            await pieces.__anext__()
        raise


def _reply(answer: httpx.Response, body: bytes, *, parse: bool = True) -> Reply:
    kind = answer.headers.get("content-type", "")
    value = None
    if parse and kind.startswith("application/json"):
        try:
            value = json.loads(body)
        except ValueError:
            value = None
    return Reply(answer.status_code, kind, body, value)
