"""WebSocket (RFC 6455) over HTTP/1.1: the ASGI websocket scope, framed by wsproto.

No extension is negotiated: messages are small, and a compressed one could blow up to any size.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import trio
from wsproto.connection import Connection as WsConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from appliance.net.asgi import ClientDisconnected, Headers, Message, body_buffers
from appliance.net.http1 import Http1Connection
from appliance.net.http1_parser import Request

LOG = logging.getLogger("kiln.net")

_MOST_QUEUED = 32
_MOST_PIECES = 1024
_CLOSE_PATIENCE = 2.0
_HANDLER_PATIENCE = 5.0
_NORMAL = 1000
_GOING_AWAY = 1001
_PROTOCOL_ERROR = 1002
_NO_STATUS = 1005
_ABNORMAL = 1006
_TOO_BIG = 1009
_INTERNAL = 1011


async def run_websocket(connection: Http1Connection, request: Request) -> None:
    """Serve one WebSocket request to its end; the connection carries nothing after it. Raises BadTarget."""
    fields = dict(request.headers)
    key = fields.get(b"sec-websocket-key", b"")
    if fields.get(b"sec-websocket-version") != b"13":
        await _answer(connection, 426, [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")])
    elif len(key) != 24:
        await _answer(connection, 400, [])
    else:
        session = WebSocketSession(connection, request, key)
        connection.session = session
        try:
            await session.run()
        finally:
            connection.session = None


async def _answer(connection: Http1Connection, status: int, headers: Headers, body: bytes = b"") -> None:
    head, _, _ = connection.server.heads.http1(status, headers)
    framing = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    await connection.write([head + framing + body])
    await connection.linger()


class WebSocketSession:
    """One WebSocket: the ``receive`` and ``send`` of its handler, and a task that reads while the handler runs."""

    def __init__(self, connection: Http1Connection, request: Request, key: bytes) -> None:
        self._connection = connection
        self._key = key
        self._leftover = connection.parser.leftover
        extensions = {**connection.extensions, "websocket.http.response": {}}
        self._scope = connection.request_scope("websocket", "1.1", "GET", request.target, request.headers, extensions)
        offered = b",".join(value for name, value in request.headers if name == b"sec-websocket-protocol")
        self._scope["subprotocols"] = [item.strip().decode("latin-1") for item in offered.split(b",") if item.strip()]
        self._ws = WsConnection(ConnectionType.SERVER)
        self._queue: deque[Message] = deque([{"type": "websocket.connect"}])
        self._queued_size = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._writing = trio.Lock()
        self._reading = trio.CancelScope()
        self._accepted = False
        self._denial: Message | None = None
        self._denial_body = b""
        self._closed = False
        self._disconnected = False
        self._partial: list[Any] = []
        self._partial_size = 0
        self._last_heard = trio.current_time()
        self._paused = False

    async def run(self) -> None:
        connection = self._connection
        connection.server.requests += 1
        connection.busy = True
        code = _NORMAL
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await connection.server.app(self._scope, self._receive, self._send)
            except Exception as error:
                code = _INTERNAL
                if not (connection.gone or self._disconnected):
                    connection.server.handler_failed(self._scope, error)
            await self._finish(code)
            nursery.cancel_scope.cancel()

    def enforce(self, now: float) -> None:
        """Called by the sweep: ping a silent peer, cut one that stays silent."""
        if not self._accepted or self._paused or self._disconnected:
            return
        interval = self._connection.limits.websocket_ping
        silent = now - self._last_heard
        if silent > 2 * interval:
            self._connection.cut()
        elif silent > interval and not self._writing.locked() and not self._closed:
            try:
                frame = self._ws.send(Ping())
                rest = self._connection.transport.try_send([frame])
            except (OSError, LocalProtocolError):
                self._connection.abandon()
                return
            if rest and sum(map(len, rest)) < len(frame):
                self._connection.cut()  # Half a frame is out, and nobody can tell when the rest goes.

    def going_away(self) -> None:
        """The server shuts down: tell the peer, and let the handler see a disconnect."""
        if self._accepted and not self._disconnected:
            self._nursery.start_soon(self._go_away)

    async def _go_away(self) -> None:
        await self._close(_GOING_AWAY, "")
        self._disconnect(_GOING_AWAY, "")

    async def _finish(self, code: int) -> None:
        connection = self._connection
        if not self._accepted:
            if self._denial is None:
                await _answer(connection, 500 if code == _INTERNAL else 403, [])
            else:
                await self._deny(self._denial)
            return
        await self._close(code, "")
        connection.read_deadline = trio.current_time() + _CLOSE_PATIENCE
        while not self._disconnected and not connection.gone:
            await self._arrived.park()

    # The handler's side.

    async def _receive(self) -> Message:
        while not self._queue:
            if self._disconnected:
                return {"type": "websocket.disconnect", "code": _ABNORMAL, "reason": ""}
            await self._arrived.park()
        message = self._queue.popleft()
        self._queued_size -= len(message.get("text") or message.get("bytes") or b"")
        self._room.unpark_all()
        return message

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept" and not self._accepted and self._denial is None:
            await self._accept(message)
        elif kind == "websocket.close" and not self._accepted:
            self._denial = self._denial or {"status": 403, "headers": []}
        elif kind == "websocket.http.response.start" and not self._accepted:
            self._denial = message
        elif kind == "websocket.http.response.body" and self._denial is not None:
            self._denial_body += b"".join(body_buffers(message)[0])
        elif kind == "websocket.close":
            await self._close(message.get("code", _NORMAL), message.get("reason") or "")
        elif kind == "websocket.send" and self._accepted:
            await self._send_message(message)
        else:
            raise RuntimeError(f"unexpected message {kind}")

    async def _send_message(self, message: Message) -> None:
        if self._disconnected or self._closed:
            raise ClientDisconnected("the client is gone")
        text = message.get("text")
        if text is not None:
            await self._write(self._ws.send(TextMessage(data=text)))
        else:
            await self._write(self._ws.send(BytesMessage(data=bytes(message["bytes"]))))

    async def _accept(self, message: Message) -> None:
        headers = [(b"upgrade", b"websocket"), (b"sec-websocket-accept", generate_accept_token(self._key))]
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        headers.extend(message.get("headers", ()))
        head, _, _ = self._connection.server.heads.http1(101, headers)
        await self._write(head + b"connection: upgrade\r\n\r\n")
        self._accepted = True
        self._last_heard = trio.current_time()
        self._connection.busy = False  # From now on the reader sees when the client leaves.
        self._nursery.start_soon(self._read)

    async def _deny(self, start: Message) -> None:
        await _answer(self._connection, start.get("status", 403), start.get("headers", []), self._denial_body)

    # The peer's side.

    async def _read(self) -> None:
        connection = self._connection
        if self._leftover:
            await self._feed(self._leftover)
        while not self._disconnected:
            await self._wait_for_room()
            await trio.lowlevel.wait_readable(connection.transport.fd)
            data = connection.transport.try_receive()
            if data:
                self._last_heard = trio.current_time()
                await self._feed(data)
            elif data is not None:
                self._disconnect(_ABNORMAL, "")

    async def _wait_for_room(self) -> None:
        limit = self._connection.limits.websocket_message
        while not self._disconnected and (len(self._queue) >= _MOST_QUEUED or self._queued_size > limit):
            self._paused = True
            self._connection.busy = True
            await self._room.park()
            self._connection.busy = False
        if self._paused:
            self._paused = False
            self._last_heard = trio.current_time()

    async def _feed(self, data: bytes) -> None:
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                if isinstance(event, TextMessage | BytesMessage):
                    if not await self._message(event):
                        return
                elif isinstance(event, Ping):
                    await self._write(self._ws.send(event.response()))
                elif isinstance(event, CloseConnection):
                    if self._ws.state is ConnectionState.REMOTE_CLOSING:
                        self._closed = True
                        await self._write(self._ws.send(event.response()))
                    else:  # The peer closes nothing: its frame was broken, and wsproto tells what to close with.
                        await self._close(event.code, "")
                    self._disconnect(event.code or _NO_STATUS, event.reason or "")
                    return
        except RemoteProtocolError as error:
            hint = error.event_hint
            code = hint.code if isinstance(hint, CloseConnection) else _PROTOCOL_ERROR
            await self._close(code, "")
            self._disconnect(code, "")
        except (ClientDisconnected, LocalProtocolError):
            self._disconnect(_ABNORMAL, "")

    async def _message(self, event: TextMessage | BytesMessage) -> bool:
        """Collect the pieces of a message. False when it grows too big."""
        if event.data:
            self._partial.append(event.data)
        self._partial_size += len(event.data)
        if self._partial_size > self._connection.limits.websocket_message:
            await self._close(_TOO_BIG, "")
            self._disconnect(_TOO_BIG, "")
            return False
        if len(self._partial) > _MOST_PIECES:
            self._partial = [("" if isinstance(event, TextMessage) else b"").join(self._partial)]
        if event.message_finished and not self._disconnected:
            text = isinstance(event, TextMessage)
            whole = ("" if text else b"").join(self._partial)
            self._queue.append(
                {"type": "websocket.receive", "text": whole if text else None, "bytes": None if text else whole}
            )
            self._queued_size += len(whole)
            self._partial, self._partial_size = [], 0
            self._arrived.unpark_all()
        return True

    def _disconnect(self, code: int, reason: str) -> None:
        if not self._disconnected:
            self._disconnected = True
            self._queue.append({"type": "websocket.disconnect", "code": code, "reason": reason})
            self._arrived.unpark_all()
            self._room.unpark_all()
            self._connection.read_deadline = trio.current_time() + _HANDLER_PATIENCE

    async def _close(self, code: int, reason: str) -> None:
        if not self._closed and not self._disconnected:
            self._closed = True
            try:
                await self._write(self._ws.send(CloseConnection(code=code, reason=reason)))
            except (ClientDisconnected, LocalProtocolError):
                self._disconnect(_ABNORMAL, "")

    async def _write(self, frame: bytes) -> None:
        async with self._writing:
            await self._connection.write([frame])
