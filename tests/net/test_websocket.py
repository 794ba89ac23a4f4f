"""WebSocket, with wsproto as the client."""

from __future__ import annotations

import pytest
import trio
from wsproto.connection import Connection as WsConnection
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.utilities import generate_accept_token

from appliance.net.asgi import ClientDisconnected, Receive, Scope, Send
from appliance.net.limits import Limits
from appliance.net.parking import ParkingLot
from tests.net.http_kit import Client, Serving, hello, serving, until

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    b"GET /chat?x=y HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Protocol: a, b\r\n"
)


class WsClient:
    """A WebSocket client after its handshake."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ws = WsConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def send(self, event: Event) -> None:
        await self.client.send(self.ws.send(event))

    async def next(self) -> Event:
        """The next event; EOFError when the connection ends without a close frame."""
        with trio.fail_after(5):
            while not self._events:
                data = await self.client.read_some()
                if not data:
                    raise EOFError
                self.ws.receive_data(data)
                self._events.extend(self.ws.events())
        return self._events.pop(0)

    async def message(self) -> str | bytes:
        """The next whole message."""
        parts: list[str | bytes] = []
        while True:
            event = await self.next()
            assert isinstance(event, Message)
            parts.append(event.data)
            if event.message_finished:
                return "".join(parts) if isinstance(parts[0], str) else b"".join(parts)  # type: ignore[arg-type]


async def open_websocket(it: Serving, extra: bytes = b"") -> WsClient:
    client = await it.connect()
    await client.send(UPGRADE + b"\r\n" + extra)
    answer = await client.answer(bodyless=True)
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == generate_accept_token(KEY).decode()
    return WsClient(client)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive()) == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def test_echo_of_text_and_bytes() -> None:
    async with serving(echo) as it:
        ws = await open_websocket(it)
        for data in ("grüß", "", "x" * 300_000):
            await ws.send(TextMessage(data=data))
            assert await ws.message() == data
        for payload in (b"\x00\xff", b"y" * 100_000):
            await ws.send(BytesMessage(data=payload))
            assert await ws.message() == payload
        await ws.send(CloseConnection(code=1000))
        closing = await ws.next()
        assert isinstance(closing, CloseConnection)
        assert closing.code == 1000
        await until(lambda: it.server.connections == 0)


async def test_messages_sent_with_the_handshake_and_in_fragments() -> None:
    first = WsConnection(ConnectionType.CLIENT).send(TextMessage(data="early"))
    async with serving(echo) as it:
        ws = await open_websocket(it, first)
        assert await ws.message() == "early"
        for at in range(5):
            await ws.send(TextMessage(data="ab", message_finished=at == 4))
        assert await ws.message() == "ab" * 5


async def test_scope_and_subprotocol() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-y", b"z")]})

    async with serving(app) as it:
        client = await it.connect()
        await client.send(UPGRADE + b"\r\n")
        answer = await client.answer(bodyless=True)
        assert (answer.headers["sec-websocket-protocol"], answer.headers["x-y"]) == ("b", "z")
        closing = await WsClient(client).next()
        assert isinstance(closing, CloseConnection)
        assert closing.code == 1000
    scope = seen[0]
    assert (scope["type"], scope["scheme"], scope["path"], scope["query_string"]) == (
        "websocket",
        "ws",
        "/chat",
        b"x=y",
    )
    assert scope["subprotocols"] == ["a", "b"]
    assert "method" not in scope


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 8"), 426),
        ((KEY, b"short"), 400),
        ((b"/chat", b"/%zz"), 400),
        ((b"GET", b"POST"), 200),
    ],
)
async def test_bad_handshakes(change: tuple[bytes, bytes], status: int) -> None:
    async with serving(hello) as it:
        client = await it.connect()
        await client.send((UPGRADE + b"\r\n").replace(*change))
        assert (await client.answer()).status == status


@pytest.mark.parametrize("how", ["close", "return", "response", "raise"])
async def test_denied_before_accept(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if how == "close":
            await send({"type": "websocket.close"})
        elif how == "response":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"y")]})
            await send({"type": "websocket.http.response.body", "body": b"who?"})
        elif how == "raise":
            raise ValueError("wires crossed")

    async with serving(app) as it:
        client = await it.connect()
        await client.send(UPGRADE + b"\r\n")
        answer = await client.answer()
        assert answer.status == {"close": 403, "return": 403, "response": 401, "raise": 500}[how]
        if how == "response":
            assert (answer.body, answer.headers["x"]) == (b"who?", "y")
    assert ("wires crossed" in caplog.text) == (how == "raise")


async def test_the_handler_closes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "more"})

    async with serving(app) as it:
        closing = await (await open_websocket(it)).next()
        assert isinstance(closing, CloseConnection)
        assert (closing.code, closing.reason) == (4001, "enough")


async def test_a_failing_handler_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ValueError("wires crossed")

    async with serving(app) as it:
        closing = await (await open_websocket(it)).next()
        assert isinstance(closing, CloseConnection)
        assert closing.code == 1011
    assert "wires crossed" in caplog.text


@pytest.mark.parametrize("polite", [True, False])
async def test_the_handler_is_told_that_the_client_left(polite: bool) -> None:
    told: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append((await receive())["code"])
        told.append((await receive())["code"])

    async with serving(app) as it:
        ws = await open_websocket(it)
        if polite:
            await ws.send(CloseConnection(code=4000))
        else:
            await trio.aclose_forcefully(ws.client.stream)
        await until(lambda: len(told) == 2)
        assert told == [4000 if polite else 1006, 1006]
        await until(lambda: it.server.connections == 0)


async def test_a_handler_that_waits_for_else_is_cancelled_when_the_client_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("appliance.net.websocket._HANDLER_PATIENCE", 0.1)
    ended = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await scope["extensions"]["kiln.park"](ParkingLot())
        finally:
            ended.set()

    async with serving(app) as it:
        ws = await open_websocket(it)
        await trio.aclose_forcefully(ws.client.stream)
        with trio.fail_after(2):
            await ended.wait()


async def test_pings_are_answered_and_silent_peers_pinged_then_cut() -> None:
    limits = Limits(websocket_ping=0.1, sweep_interval=0.02)
    async with serving(echo, limits=limits) as it:
        ws = await open_websocket(it)
        await ws.send(Ping(payload=b"p"))
        pong = await ws.next()
        assert isinstance(pong, Pong)
        assert bytes(pong.payload) == b"p"
        assert isinstance(await ws.next(), Ping)
        with trio.fail_after(2):
            await ws.client.read_all()
        await until(lambda: it.server.connections == 0)


async def test_a_peer_that_answers_pings_stays() -> None:
    limits = Limits(websocket_ping=0.05, sweep_interval=0.01)
    async with serving(echo, limits=limits) as it:
        ws = await open_websocket(it)
        for _ in range(6):
            ping = await ws.next()
            assert isinstance(ping, Ping)
            await ws.send(ping.response())
        assert it.server.connections == 1


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x85\0\0\0\0" + b"\xff\xff\xff\xff\xff", 1007),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x81\x01x", 1002),
        (b"\xf1\x81\0\0\0\0x", 1002),
    ],
)
async def test_broken_frames_close_with_a_code(frame: bytes, code: int) -> None:
    async with serving(echo) as it:
        ws = await open_websocket(it)
        await ws.client.send(frame)
        closing = await ws.next()
        assert isinstance(closing, CloseConnection)
        assert closing.code == code
        await until(lambda: it.server.connections == 0)


async def test_a_message_over_the_limit_closes_with_1009() -> None:
    async with serving(echo, limits=Limits(websocket_message=1000, sweep_interval=0.02)) as it:
        ws = await open_websocket(it)
        await ws.send(TextMessage(data="x" * 1001))
        closing = await ws.next()
        assert isinstance(closing, CloseConnection)
        assert closing.code == 1009


async def test_messages_not_received_hold_the_peer_back() -> None:
    resume = trio.Event()
    received = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal received
        await receive()
        await send({"type": "websocket.accept"})
        await resume.wait()
        while (await receive())["type"] == "websocket.receive":
            received += 1

    async with serving(app) as it:
        ws = await open_websocket(it)
        frame = ws.ws.send(BytesMessage(data=b"x" * 100_000))
        sent = 0
        with trio.move_on_after(0.3):
            while True:
                await ws.client.send(frame)
                sent += 1
        assert sent < 1000
        resume.set()
        await until(lambda: received >= sent)


async def test_a_client_that_never_reads_is_cut_off_and_does_not_delay_shutdown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 100_000})

    async with serving(app, limits=Limits(write_timeout=0.2, sweep_interval=0.02)) as it:
        await open_websocket(it)
        await until(lambda: it.server.connections == 0)
    async with serving(app) as it:
        await open_websocket(it)
        await trio.sleep(0.05)
        with trio.fail_after(2):
            await it.server.shut_down(0.2)


async def test_shutdown_says_goodbye() -> None:
    async with serving(echo) as it:
        ws = await open_websocket(it)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.server.shut_down, 2)
            closing = await ws.next()
            assert isinstance(closing, CloseConnection)
            assert closing.code == 1001
            await ws.client.close()
        assert it.server.connections == 0
