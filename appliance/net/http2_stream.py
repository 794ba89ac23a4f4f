"""One HTTP/2 stream: a request and its response, the ``receive`` and ``send`` of a handler."""

from __future__ import annotations

import contextlib
import logging
import math
import struct
from collections.abc import Iterable
from typing import Any, Protocol

import trio
from h2.connection import ConnectionInputs, H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.stream import StreamInputs

from appliance.net.asgi import (
    NO_BODY_STATUS,
    BadTarget,
    ClientDisconnected,
    Headers,
    Message,
    Scope,
    body_buffers,
    error_body,
    valid_host,
)
from appliance.net.connection import Parking, Server
from appliance.net.direct import Answering, Direct, Reply, advance
from appliance.net.dispatcher import Dispatcher, ParkedAnswer
from appliance.net.limits import Limits

LOG = logging.getLogger("kiln.net")

_BODY_RATE = 1024
_LINE_OVERHEAD = 4
_BYTES_A_FLUSH = 128 * 1024
_MOST_AT_ONCE = 512 * 1024
_FRAME = struct.Struct(">BHBBI")
_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 1, 4


class Owner(Protocol):
    """What a stream needs of its connection."""

    server: Server
    limits: Limits
    extensions: dict[str, Any]
    window_opened: trio.lowlevel.ParkingLot
    gone: bool
    blocked: bool

    @property
    def h2(self) -> H2Connection: ...

    def request_scope(
        self, kind: str, version: str, method: str, target: bytes, headers: Headers, extensions: dict[str, Any]
    ) -> Scope: ...

    def acknowledge(self, size: int, stream_id: int) -> None: ...

    def reset(self, stream_id: int, code: ErrorCodes) -> None: ...

    def queue(self, *buffers: bytes | memoryview) -> None: ...

    def flush(self) -> None: ...

    async def unblocked(self) -> None: ...

    def start(self, stream: Http2Stream) -> None:
        """Run ``stream.answer()`` in a task."""

    def over(self, stream: Http2Stream) -> None:
        """``stream`` has been answered, or will not be."""


class Http2Stream:
    """``scope`` cancels the handler; ``cancelled``: the client reset the stream, or it was reset for it."""

    __slots__ = (
        "_aborted",
        "_arrived",
        "_body_began",
        "_body_given",
        "_body_limit",
        "_bodyless",
        "_chunks",
        "_complete",
        "_connection",
        "_ended",
        "_expects_continue",
        "_head_sent",
        "_headers",
        "_method",
        "_parked",
        "_read_deadline",
        "_received",
        "_remaining",
        "_reply",
        "_request",
        "_response_headers",
        "_status",
        "_unacknowledged",
        "_write_deadline",
        "asgi_scope",
        "cancelled",
        "id",
        "parking",
        "scope",
    )

    def __init__(
        self, connection: Owner, stream_id: int, headers: Iterable[tuple[bytes, bytes]], *, ended: bool
    ) -> None:
        self._connection = connection
        self.id = stream_id
        self.scope = trio.CancelScope()
        self.parking = Parking()
        self.asgi_scope: Scope | None = None
        self.cancelled = False
        self._aborted = False
        self._request = headers
        self._method = b""
        self._ended = ended
        self._chunks: list[bytes] = []
        self._received = 0
        self._unacknowledged = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._body_limit = 0
        self._body_given = False
        self._body_began = math.inf
        self._expects_continue = False
        self._status = 0
        self._response_headers: Any = ()
        self._head_sent = False
        self._bodyless = False
        self._remaining = -1
        self._complete = False
        self._read_deadline = math.inf
        self._write_deadline = math.inf
        self._parked: ParkedAnswer | None = None
        self._reply: Reply | int = 0

    # What the connection tells.

    def data_received(self, data: bytes, size: int) -> None:
        if self._complete or self.cancelled:
            self._connection.acknowledge(size, self.id)
            return
        self._chunks.append(data)
        self._received += len(data)
        self._unacknowledged += size
        self._arrived.unpark_all()

    def body_ended(self) -> None:
        self._ended = True
        self._arrived.unpark_all()

    def cancel(self) -> None:
        self.cancelled = True
        self.scope.cancel()
        if self._parked is not None:
            self.forget()
            self._connection.over(self)

    def forget(self) -> None:
        """The connection ends: wait for nothing any more."""
        if self._parked is not None:
            self._parked.forget()
            self._parked = None

    def enforce(self, now: float) -> None:
        self.parking.enforce(now)
        if self._parked is not None:
            self._parked.enforce(now)
        if now >= self._read_deadline or now >= self._write_deadline:
            self._connection.reset(self.id, ErrorCodes.CANCEL)
            self.cancel()

    def close(self) -> None:
        """The handler is over: end the stream if it is not."""
        connection = self._connection
        connection.acknowledge(self._unacknowledged, self.id)
        if self.cancelled or connection.gone:
            return
        if not self._complete:
            connection.reset(self.id, ErrorCodes.INTERNAL_ERROR)
        elif not self._ended:
            connection.reset(self.id, ErrorCodes.NO_ERROR)

    # The request.

    def answer_directly(self, direct: Direct, dispatcher: Dispatcher) -> bool:
        """Answer without a task, now or when that is waited for. False when a task has to ``answer``."""
        try:
            scope = self.asgi_scope = self._read_head() if self._ended else None
        except BadTarget:
            return False
        answering = direct(scope) if scope is not None and self._method == b"GET" else None
        if answering is None:
            return False
        self._advance(answering, None, dispatcher)
        return True

    def _advance(self, answering: Answering, released: bool | None, dispatcher: Dispatcher) -> None:
        def resume(answering: Answering, released: bool) -> None:
            self._parked = None
            self._advance(answering, released, dispatcher)

        connection = self._connection
        try:
            step = advance(answering, released)
            block = b"".join(connection.server.heads.http2_block(step)) if isinstance(step, Reply) else b""
        except Exception as error:
            connection.server.handler_failed(self.asgi_scope or {"path": ""}, error)
            self._reply = 500
            connection.start(self)
            return
        if not isinstance(step, Reply):
            self._parked = ParkedAnswer(dispatcher, answering, step, resume)
            return
        connection.server.requests += 1
        try:
            sent = self._send_whole(step, block)
        except (ProtocolError, KeyError):  # The client has reset the stream.
            self.cancelled = sent = True
        if sent:
            self._complete = True
            connection.over(self)
        else:
            self._reply = step
            connection.start(self)

    def _send_whole(self, reply: Reply, block: bytes) -> bool:
        """Queue the whole response if the client takes it now. Raises ProtocolError or KeyError."""
        connection = self._connection
        h2 = connection.h2
        stream = h2.streams[self.id]
        size = reply.size
        window = min(stream.outbound_flow_control_window, h2.outbound_flow_control_window, _MOST_AT_ONCE)
        frame_size = h2.max_outbound_frame_size
        if connection.blocked or size > window or len(block) >= frame_size:
            return False
        block = h2.encoder.encode(()) + block
        # h2 keeps the states and windows; frames are made here, of what is the same for everybody.
        h2.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        stream.state_machine.process_input(StreamInputs.SEND_HEADERS)
        stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        stream.outbound_flow_control_window -= size
        h2.outbound_flow_control_window -= size
        out: list[bytes | memoryview] = [
            _frame(len(block), _HEADERS, _END_HEADERS if size else _END_HEADERS | _END_STREAM, self.id) + block
        ]
        left = size
        full = _frame(frame_size, _DATA, 0, self.id)
        for buffer in reply.buffers:
            view = memoryview(buffer)
            for at in range(0, len(view), frame_size):
                part = view[at : at + frame_size]
                left -= len(part)
                whole = left and len(part) == frame_size
                out.append(full if whole else _frame(len(part), _DATA, 0 if left else _END_STREAM, self.id))
                out.append(part)
        connection.queue(*out)
        return True

    async def _give(self, reply: Reply | int) -> None:
        """What was answered directly, and could not be sent at once."""
        if isinstance(reply, int):
            await self._refuse(reply)
            return
        try:
            await self.send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            await self.send({"type": "http.response.body", "buffers": reply.buffers})
        except ClientDisconnected:
            pass

    async def answer(self) -> None:
        """Run the handler, or refuse the request."""
        connection = self._connection
        if self.cancelled:
            return
        if self._reply:
            await self._give(self._reply)
            return
        try:
            scope = self.asgi_scope = self.asgi_scope or self._read_head()
        except BadTarget:
            await self._refuse(400)
            return
        if scope is None:
            await self._refuse(431)
            return
        if not self._ended:
            self._body_limit = connection.server.body_limit(scope)
            if self._announced() > self._body_limit:
                await self._refuse(413)
                return
        connection.server.requests += 1
        failed = False
        try:
            await connection.server.app(scope, self.receive, self.send)
        except Exception as error:
            if self.cancelled or self._aborted or connection.gone:
                return
            failed = True
            connection.server.handler_failed(scope, error)
        if not self._complete and not self.cancelled:
            if not failed:
                LOG.error("event=unfinished_response path=%s", scope["path"])
            if not self._head_sent:
                await self._refuse(500)

    def _read_head(self) -> Scope | None:
        """The ASGI scope; None when the head is too big. Raises BadTarget."""
        if not self._connection.server.request_fields.valid(self._request):
            raise BadTarget("the request is malformed")
        fields: dict[bytes, bytes] = {}
        headers: Headers = []
        cookies: list[bytes] = []
        size = 0
        for name, value in self._request:
            size += len(name) + len(value) + _LINE_OVERHEAD
            if name.startswith(b":"):
                fields[name] = value
            elif name == b"cookie":
                cookies.append(value)
            else:
                headers.append((name, value))
                if name == b"expect" and value.lower() == b"100-continue":
                    self._expects_continue = True
        if size > self._connection.limits.header_size:
            return None
        if cookies:
            headers.append((b"cookie", b"; ".join(cookies)))
        authority = fields.get(b":authority")
        if authority is not None:
            headers = [(b"host", authority), *(pair for pair in headers if pair[0] != b"host")]
        if not valid_host(dict(headers).get(b"host", b"")):
            raise BadTarget("the authority is none")
        self._method = fields.get(b":method", b"")
        target = fields.get(b":path", b"")
        if target == b"*" and self._method != b"OPTIONS":
            raise BadTarget("* is for OPTIONS")
        extensions = {**self._connection.extensions, "kiln.park": self.parking.park}
        try:
            method = self._method.decode("ascii")
        except UnicodeDecodeError as error:
            raise BadTarget("the method is none") from error
        self._request = headers
        return self._connection.request_scope("http", "2", method, target, headers, extensions)

    def _announced(self) -> int:
        for name, value in self._request:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0

    async def receive(self) -> Message:
        if self._expects_continue and not self._head_sent:
            self._expects_continue = False
            with contextlib.suppress(ProtocolError):  # The client may have reset the stream.
                self._connection.h2.send_headers(self.id, [(b":status", b"100")])
            self._connection.flush()
        while not self._body_given:
            if self._received > self._body_limit:
                self._aborted = self._body_given = True
                if not self._head_sent:
                    await self._refuse(413)
                return {"type": "http.disconnect"}
            if self._chunks or self._ended:
                return self._take_body()
            await self._await_body()
        while not (self._complete or self._aborted or self.cancelled):
            await self._arrived.park()
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    def _take_body(self) -> Message:
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._body_given = self._ended
        unacknowledged, self._unacknowledged = self._unacknowledged, 0
        self._connection.acknowledge(unacknowledged, self.id)
        self._connection.flush()
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    async def _await_body(self) -> None:
        if self._body_began == math.inf:
            self._body_began = trio.current_time()
        patience = self._connection.limits.body_timeout + self._received / _BODY_RATE
        self._read_deadline = self._body_began + patience
        try:
            await self._arrived.park()
        finally:
            self._read_deadline = math.inf

    # The response.

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            status = message["status"]
            if self._status or not 200 <= status <= 599:
                raise RuntimeError(f"can't start a response with status {status} here")
            self._status = status
            self._response_headers = message.get("headers", ())
        elif kind == "http.response.body":
            if self.cancelled or self._connection.gone or self._aborted:
                raise ClientDisconnected("the client is gone")
            if not self._status or self._complete:
                raise RuntimeError("a response body outside of a response")
            try:
                await self._send_body(message)
            except (ProtocolError, KeyError) as error:  # h2 forgets a stream that was closed.
                raise ClientDisconnected("the stream is closed") from error
        else:
            raise RuntimeError(f"unexpected message {kind}")

    async def _send_body(self, message: Message) -> None:
        connection = self._connection
        more = message.get("more_body", False)
        pieces, size = body_buffers(message)
        fields: Headers = []
        if not self._head_sent:
            fields = self._render_head(-1 if more else size)
        if self._bodyless:
            pieces, size = [], 0
        elif self._remaining >= 0:
            self._remaining -= size
            if self._remaining < 0 or (self._remaining and not more):
                raise RuntimeError("the response body is not as long as its content-length says")
        if fields:
            connection.h2.send_headers(self.id, fields, end_stream=not more and not size)
            self._head_sent = True
        if size:
            await self._send_data(pieces, size, not more)
        elif not fields and not more:
            connection.h2.end_stream(self.id)
        if not more:
            self._complete = True
            self._arrived.unpark_all()
        connection.flush()

    def _render_head(self, whole_size: int) -> Headers:
        fields, length = self._connection.server.heads.http2(self._status, self._response_headers)
        head_request = self._method == b"HEAD"
        self._bodyless = head_request or self._status in NO_BODY_STATUS
        if self._status == 204:
            fields = [field for field in fields if field[0] != b"content-length"]
        elif length < 0 and whole_size >= 0 and self._status != 304 and not (head_request and not whole_size):
            fields.append((b"content-length", b"%d" % whole_size))
        self._remaining = length
        return fields

    async def _send_data(self, pieces: list[bytes | memoryview], size: int, last: bool) -> None:
        connection = self._connection
        stream = connection.h2.streams[self.id]
        unflushed = 0
        for piece in pieces:
            view = memoryview(piece)
            while view:
                window = min(
                    stream.outbound_flow_control_window,
                    connection.h2.outbound_flow_control_window,
                    connection.h2.max_outbound_frame_size,
                )
                if window <= 0 or unflushed > _BYTES_A_FLUSH or connection.blocked:
                    connection.flush()
                    unflushed = 0
                    await self._await_window(window)
                    continue
                part = view[:window]
                view = view[window:]
                size -= len(part)
                unflushed += len(part)
                if last and not size:
                    connection.h2.send_data(self.id, part, end_stream=True)
                else:
                    stream.outbound_flow_control_window -= len(part)
                    connection.h2.outbound_flow_control_window -= len(part)
                    connection.queue(_frame(len(part), _DATA, 0, self.id), part)

    async def _await_window(self, window: int) -> None:
        connection = self._connection
        if connection.blocked:
            await connection.unblocked()  # Its writer has a deadline of its own.
        elif window > 0:
            await trio.lowlevel.checkpoint()
        else:
            self._write_deadline = trio.current_time() + connection.limits.write_timeout
            try:
                await connection.window_opened.park()
            finally:
                self._write_deadline = math.inf
        if self.cancelled or connection.gone:
            raise ClientDisconnected("the client is gone")

    async def _refuse(self, status: int) -> None:
        """Answer without the handler."""
        self._status = status
        self._response_headers = [(b"content-type", b"text/plain")]
        await self._send_body({"type": "http.response.body", "body": error_body(status)})


def _frame(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """A frame's header (RFC 9113 section 4.1)."""
    return _FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id)
