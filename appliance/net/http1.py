"""HTTP/1.0 and 1.1 for one connection. The connection's own task runs the handlers, one after the other.

No task, no time-out and no checkpoint a request: waiting for the next request is the checkpoint, and the server's sweep
looks after deadlines and clients that left.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio

from appliance.net.asgi import (
    NO_BODY_STATUS,
    BadTarget,
    ClientDisconnected,
    Message,
    Scope,
    body_buffers,
    error_body,
)
from appliance.net.connection import Address, Connection, Parking, Server
from appliance.net.http1_parser import Http1Parser, Request
from appliance.net.transport import PlainTransport

LOG = logging.getLogger("kiln.net")

_PIPELINED_A_CHECKPOINT = 8
_MOST_PIPELINED = 64
_DRAIN_SIZE = 64 * 1024
_LINGER = 2.0
_BODY_RATE = 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

WebSocketHandler = Callable[["Http1Connection", Request], Awaitable[None]]


class Session(Protocol):
    """What the connection has become by an upgrade."""

    def going_away(self) -> None: ...

    def enforce(self, now: float) -> None: ...


class Http1Connection(Connection):
    """Reads requests and answers them in order."""

    def __init__(
        self,
        server: Server,
        transport: PlainTransport,
        client: Address | None,
        local: Any,
        websocket: WebSocketHandler,
    ) -> None:
        super().__init__(server, transport, client, local)
        self.parser = Http1Parser(self.limits.header_size)
        self.parking = Parking()
        self.session: Session | None = None
        self.ended = False
        self._websocket = websocket
        self._idle = False
        self._answered = False

    async def run(self) -> None:
        parser = self.parser
        requests = parser.requests
        streak = 0
        while True:
            if not requests:
                if parser.failure:
                    await self._refuse(parser.failure)
                    return
                if parser.ended or self.ended or self.server.stopping or not await self._await_request():
                    return
                streak = 0
                continue
            streak += 1
            if streak % _PIPELINED_A_CHECKPOINT == 0:
                await trio.lowlevel.checkpoint()
            if not await self._answer(requests[0]):
                return
            requests.popleft()

    def stop_when_idle(self) -> None:
        if self.session is not None:
            self.session.going_away()
        elif self._idle and not self.parser.in_head:
            self.scope.cancel()

    def enforce(self, now: float) -> None:
        self.parking.enforce(now)
        if self.session is not None:
            self.session.enforce(now)
        super().enforce(now)

    def time_out(self) -> None:
        if self._idle and self.parser.in_head:
            self._try_send_error(408)
        self.abandon()

    async def fill(self) -> bool:
        """Wait for bytes and parse them. False when the client ended its side."""
        transport = self.transport
        while True:
            await trio.lowlevel.wait_readable(transport.fd)
            data = transport.try_receive()
            if data is None:
                continue
            if data:
                self.parser.feed(data)
                return True
            self.ended = True
            return False

    async def _await_request(self) -> bool:
        parser = self.parser
        limits = self.limits
        begun = parser.in_head
        patience = limits.idle_timeout if self._answered and not begun else limits.header_timeout
        self.read_deadline = self.server.now + limits.sweep_interval + patience
        self._idle = True
        transport = self.transport
        while not parser.requests and not parser.failure:
            await trio.lowlevel.wait_readable(transport.fd)
            data = transport.try_receive()
            if not data:
                if data is None:
                    continue
                self.ended = True
                return False
            parser.feed(data)
            if not begun and parser.in_head:
                begun = True
                self.read_deadline = trio.current_time() + limits.header_timeout
        self._idle = False
        self.read_deadline = math.inf
        return True

    async def _answer(self, request: Request) -> bool:
        """Answer one request; whether another may follow."""
        self._answered = True
        if request.refusal:
            await self._refuse(request.refusal)
            return False
        try:
            if request.websocket:
                await self._websocket(self, request)
                return False
            exchange = Http1Exchange(self, request)
        except BadTarget:
            await self._refuse(400)
            return False
        self.server.requests += 1
        if (request.chunked or request.content_length > 0) and not exchange.body_fits():
            await self._refuse(413)
            return False
        self.busy = True
        failed = False
        try:
            await self.server.app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            if not (self.gone or exchange.aborted):
                exchange.keep_alive = False
                failed = True
                self.server.handler_failed(exchange.scope, error)
        finally:
            self.busy = False
        if self.gone:
            return False
        if exchange.aborted:
            await self.linger()
            return False
        if not exchange.complete:
            if not failed:
                LOG.error("event=unfinished_response path=%s", exchange.scope["path"])
            if exchange.begun:
                self.transport.reset()
            else:
                await self._refuse(500)
            return False
        if exchange.keep_alive and (request.complete or await self._drain(request)):
            return True
        if not (self.server.stopping and request.complete):
            await self.linger()
        return False

    async def _drain(self, request: Request) -> bool:
        """Read the rest of a body that the handler left, if it is short."""
        self.read_deadline = trio.current_time() + self.limits.header_timeout
        unread = 0
        try:
            while True:
                unread += sum(map(len, request.chunks))
                request.chunks.clear()
                if request.complete:
                    return True
                if unread > _DRAIN_SIZE or request.broken or self.ended or not await self.fill():
                    return False
        finally:
            self.read_deadline = math.inf

    async def _refuse(self, status: int) -> None:
        """Answer without a handler, and close."""
        await self.write(self.error(status))
        await self.linger()

    def error(self, status: int) -> list[bytes | memoryview]:
        body = error_body(status)
        head = self.server.heads.start(status)
        fields = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        return [head + fields + body]

    def _try_send_error(self, status: int) -> None:
        try:
            self.transport.try_send(self.error(status))
        except OSError:
            self.gone = True

    async def linger(self) -> None:
        """End our side and read on for a while: closing with bytes unread would take the answer back (RFC 9112 9.6)."""
        if self.gone or self.ended:
            return
        self.transport.shut_write()
        self.read_deadline = trio.current_time() + _LINGER
        received = 0
        while received < self.limits.body_size:
            await trio.lowlevel.wait_readable(self.transport.fd)
            data = self.transport.try_receive()
            if data == b"":
                return
            received += len(data or b"")


class Http1Exchange:
    """One request and its response: the ``receive`` and ``send`` of a handler."""

    __slots__ = (
        "_body_began",
        "_body_given",
        "_body_limit",
        "_bodyless",
        "_chunked",
        "_connection",
        "_head_sent",
        "_headers",
        "_remaining",
        "_request",
        "_status",
        "aborted",
        "complete",
        "keep_alive",
        "scope",
    )

    def __init__(self, connection: Http1Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self.scope: Scope = connection.request_scope(
            "http",
            "1.0" if request.http10 else "1.1",
            request.method,
            request.target,
            request.headers,
            connection.extensions,
        )
        self.keep_alive = request.keep_alive
        self.complete = False
        self.aborted = False
        self._status = 0
        self._headers: Any = ()
        self._head_sent = False
        self._bodyless = False
        self._chunked = False
        self._remaining = -1
        self._body_given = False
        self._body_began = math.inf
        self._body_limit = 0

    def body_fits(self) -> bool:
        """Whether the body that the head announces is within the route's limit."""
        self._body_limit = self._connection.server.body_limit(self.scope)
        return self._request.content_length <= self._body_limit

    async def receive(self) -> Message:
        request = self._request
        if self._body_given or self.aborted or self._connection.gone:
            return await self._disconnect()
        if request.expects_continue and not self._head_sent:
            request.expects_continue = False
            await self._connection.write([_CONTINUE])
        while True:
            if request.received > self._body_limit:
                return await self._abort(413)
            if request.chunks or request.complete:
                body = request.chunks[0] if len(request.chunks) == 1 else b"".join(request.chunks)
                request.chunks.clear()
                self._body_given = request.complete
                return {"type": "http.request", "body": body, "more_body": not request.complete}
            if request.broken:
                return await self._abort(400)
            if not await self._fill():
                self._connection.gone = True
                return {"type": "http.disconnect"}

    async def _fill(self) -> bool:
        connection = self._connection
        if self._body_began == math.inf:
            self._body_began = trio.current_time()
        connection.read_deadline = (
            self._body_began + connection.limits.body_timeout + self._request.received / _BODY_RATE
        )
        try:
            return not connection.ended and await connection.fill()
        finally:
            connection.read_deadline = math.inf

    async def _abort(self, status: int) -> Message:
        """The body can't be had: say so if nothing was said yet; for the handler the client is gone."""
        self.keep_alive = False
        self.aborted = True
        if not self._head_sent:
            await self._connection.write(self._connection.error(status))
        return {"type": "http.disconnect"}

    async def _disconnect(self) -> Message:
        """Wait until the client is gone or the answer is complete."""
        connection = self._connection
        while not (connection.gone or connection.ended or self.complete or self.aborted):
            if len(connection.parser.requests) > _MOST_PIPELINED or connection.parser.failure:
                await trio.sleep_forever()  # The sweep ends it.
            await connection.fill()
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            status = message["status"]
            if self._status or not 200 <= status <= 599:
                raise RuntimeError(f"can't start a response with status {status} here")
            self._status = status
            self._headers = message.get("headers", ())
            return
        if kind != "http.response.body":
            raise RuntimeError(f"unexpected message {kind}")
        connection = self._connection
        if connection.gone or self.aborted:
            raise ClientDisconnected("the client is gone")
        if not self._status or self.complete:
            raise RuntimeError("a response body outside of a response")
        more = message.get("more_body", False)
        pieces, size = body_buffers(message)
        if not self._head_sent:
            head = self._render_head(-1 if more else size)
        if self._bodyless:
            pieces = []
        elif self._remaining >= 0:
            self._remaining -= size
            if self._remaining < 0 or (self._remaining and not more):
                self.keep_alive = False
                raise RuntimeError("the response body is not as long as its content-length says")
        elif self._chunked:
            if size:
                pieces = [b"%x\r\n" % size, *pieces, b"\r\n" if more else b"\r\n0\r\n\r\n"]
            elif not more:
                pieces = [b"0\r\n\r\n"]
        if not self._head_sent:
            pieces.insert(0, head)
            self._head_sent = True
        self.complete = not more
        if pieces:
            await connection.write(pieces)

    def _render_head(self, whole_size: int) -> bytes:
        """The head; ``whole_size`` is the size of a body that is at hand as a whole, else -1."""
        request = self._request
        head, length, close = self._connection.server.heads.http1(self._status, self._headers)
        head_request = request.method == "HEAD"
        fields = b"\r\n"
        if self._status in NO_BODY_STATUS:
            self._bodyless = True
            if length >= 0 and self._status == 304:
                fields = b"content-length: %d\r\n\r\n" % length
        elif head_request and length < 0 and not whole_size:
            pass
        elif length >= 0 or whole_size >= 0:
            self._remaining = length if length >= 0 else whole_size
            fields = b"content-length: %d\r\n\r\n" % self._remaining
        elif not request.http10:
            self._chunked = True
            fields = b"transfer-encoding: chunked\r\n\r\n"
        else:
            close = True
        if head_request:
            self._bodyless = True
        # A client that waits for leave to send its body may or may not send it after a final answer.
        if close or request.expects_continue or self._connection.server.stopping:
            self.keep_alive = False
        if not self.keep_alive:
            fields = b"connection: close\r\n" + fields
        elif request.http10:
            fields = b"connection: keep-alive\r\n" + fields
        return head + fields

    @property
    def begun(self) -> bool:
        """Whether anything of the response was sent."""
        return self._head_sent
