"""HTTP/1.1 over real sockets: what clients may send, and what they get."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest
import trio

from appliance.net.asgi import Message, Receive, Scope, Send
from appliance.net.listener import Listener
from tests.net.http_kit import Client, echo, hello, respond, serving, until


async def test_keep_alive_serves_requests_in_turn() -> None:
    async with serving(hello) as it:
        client = await it.connect()
        for _ in range(20):
            answer = await client.get()
            assert (answer.status, answer.body) == (200, b"hello")
            assert "connection" not in answer.headers
        assert it.server.requests == 20
        assert it.server.connections == 1
        await client.close()
        await until(lambda: it.server.connections == 0)


async def test_date_and_server_header() -> None:
    async with serving(hello) as it:
        answer = await (await it.connect()).get()
        assert answer.headers["server"] == "Kiln"
        assert answer.headers["date"].endswith(" GMT")
    async with serving(hello, server_header=None) as it:
        assert "server" not in (await (await it.connect()).get()).headers


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo) as it:
        client = await it.connect()
        count = 100
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(count)))
        for n in range(count):
            assert (await client.answer()).body == b"GET /%d " % n


async def test_pipelining_one_client_does_not_starve_another() -> None:
    async with serving(hello) as it:
        greedy, other = await it.connect(), await it.connect()
        await greedy.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n" * 1500)
        before = it.server.requests
        await other.get()
        assert it.server.requests - before < 1500


@pytest.mark.parametrize("size", [1, 5, 10_000])
async def test_chunked_body_is_joined(size: int) -> None:
    body = bytes(range(256)) * 100
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    async with serving(echo) as it:
        client = await it.connect()
        await client.send(b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks))
        await client.send(b"0\r\nTrailer: x\r\n\r\n")
        assert (await client.answer()).body == b"POST /x " + body
        assert (await client.get("/next")).body == b"GET /next "


async def test_expect_100_continue_is_answered_when_the_handler_reads() -> None:
    async with serving(echo) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).body == b"POST / abc"


async def test_expect_100_continue_unread_closes() -> None:
    async with serving(hello) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.read_all() == b""


async def test_unread_body_is_drained_and_the_connection_kept() -> None:
    async with serving(hello) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 30000\r\n\r\n" + b"x" * 10000)
        assert (await client.answer()).status == 200
        await client.send(b"x" * 20000)
        assert (await client.get()).status == 200


async def test_head_has_the_length_and_no_body() -> None:
    async with serving(hello) as it:
        client = await it.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n")
        answer = await client.answer(bodyless=True)
        assert answer.headers["content-length"] == "5"
        assert (await client.get()).body == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_body(status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", status, [(b"etag", b"x")])

    async with serving(app) as it:
        client = await it.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            answer = await client.answer(bodyless=True)
            assert answer.status == status
            assert not {"content-length", "transfer-encoding"} & answer.headers.keys()


async def test_connection_close_and_http10() -> None:
    async with serving(hello) as it:
        client = await it.connect()
        assert (await client.get(extra="Connection: close\r\n")).headers["connection"] == "close"
        assert await client.read_all() == b""
        client = await it.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        raw = await client.read_all()
        assert raw.endswith(b"\r\n\r\nhello")
        client = await it.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await client.answer()).headers["connection"] == "keep-alive"


async def stream_three(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in (b"one", b"", b"three"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def test_streamed_response_is_chunked_and_for_http10_ends_with_the_connection() -> None:
    async with serving(stream_three) as it:
        client = await it.connect()
        for _ in range(2):
            answer = await client.get()
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.body == b"onethree"
        old = await it.connect()
        await old.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        raw = await old.read_all()
        assert raw.endswith(b"\r\n\r\nonethree")
        assert b"chunked" not in raw


async def test_buffers_are_sent_in_order_whatever_they_are() -> None:
    parts: list[Any] = [b"a" * 100_000, bytearray(b"b" * 10), memoryview(b"c" * 70_000), b"", b"d"] * 300

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "kiln.buffers" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"head", "buffers": parts})

    async with serving(app) as it:
        answer = await (await it.connect()).get()
        assert answer.body == b"head" + b"".join(parts)
        assert answer.headers["content-length"] == str(len(answer.body))


async def test_scope(tmp_path: Any) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await respond(send, b"")

    path = str(tmp_path / "box.sock")
    async with serving(
        app, listeners=[Listener.tcp("127.0.0.1", 0), Listener.tcp("::1", 0), Listener.unix(path)]
    ) as it:
        client = await it.connect()
        await client.send(b"GET /a%20b/%C3%BC?q=%20x HTTP/1.1\r\nHost: t\r\nX-Y:  z \r\n\r\n")
        await client.answer()
        await client.send(b"GET http://other:80?x HTTP/1.1\r\nHost: t\r\n\r\n")
        await client.answer()
        port = it.port
        six = it.keep(Client(await trio.open_tcp_stream("::1", it.listeners[1].port)))
        await six.get()
        unix = await it.connect_unix(path)
        await unix.get()
    first, second, third, fourth = seen
    assert (first["type"], first["method"], first["http_version"], first["scheme"]) == ("http", "GET", "1.1", "http")
    assert (first["path"], first["raw_path"], first["query_string"]) == ("/a b/ü", b"/a%20b/%C3%BC", b"q=%20x")
    assert first["headers"] == [(b"host", b"t"), (b"x-y", b"z")]
    assert first["client"][0] == "127.0.0.1"
    assert first["server"] == ("127.0.0.1", port)
    assert (second["path"], second["query_string"], dict(second["headers"])[b"host"]) == ("/", b"x", b"other:80")
    assert third["client"][0] == "::1"
    assert fourth["client"] is None
    assert fourth["extensions"]["kiln.peer"] == {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}


REFUSED = {
    b"nonsense\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n": 400,
    b"GET / HTTP/1.1\nHost: a\n\n": 400,
    b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET relative HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET * HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 501,
    b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: something\r\nContent-Length: 1\r\n\r\na": 417,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n": 501,
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 505,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 17000 + b"\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 3000 + b"\r\n": 431,
    b"GET /" + b"x" * 17000 + b" HTTP/1.1\r\nHost: a\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40000: 431,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n": 413,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n" + b"x" * 0x100001 + b"\r\n": 413,
}


@pytest.mark.parametrize("request_bytes", REFUSED, ids=[f"{n}-{status}" for n, status in enumerate(REFUSED.values())])
async def test_what_is_refused_is_answered_and_closed(request_bytes: bytes) -> None:
    async with serving(echo) as it:
        client = await it.connect()
        await client.send(b"GET /fine HTTP/1.1\r\nHost: t\r\n\r\n" + request_bytes)
        assert (await client.answer()).body == b"GET /fine "
        answer = await client.answer()
        assert answer.status == REFUSED[request_bytes]
        assert answer.headers["connection"] == "close"
        assert await client.read_all() == b""
        assert it.server.requests <= 2


async def test_other_upgrades_are_ignored() -> None:
    async with serving(echo) as it:
        client = await it.connect()
        upgrade = b"GET /a HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
        await client.send(upgrade + b"GET /b HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (await client.answer()).body == b"GET /a "
        assert (await client.answer()).body == b"GET /b "
        await client.send(upgrade.replace(b"GET /a", b"POST /c").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n"))
        assert (await client.answer()).headers["connection"] == "close"


async def test_a_failing_handler_gives_500_and_touches_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise ValueError("wires crossed")
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
            await send({"type": "http.response.body", "body": b"12345", "more_body": True})
            raise ValueError("wires crossed again")
        if scope["path"] == "/silent":
            return
        await respond(send, b"fine")

    async with serving(app) as it:
        other = await it.connect()
        assert (await other.get()).body == b"fine"
        assert (await (await it.connect()).get("/bad")).status == 500
        assert (await (await it.connect()).get("/silent")).status == 500
        half = await it.connect()
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await half.get("/half")
        assert (await other.get()).body == b"fine"
    assert "wires crossed" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "messages",
    [
        [{"body": b"12345678901"}],
        [{"body": b"123"}],
        [{"body": b"123", "more_body": True}, {"body": b"4"}],
        [{"body": b"123", "more_body": True}, {"body": b"45678901"}],
    ],
)
async def test_a_body_unlike_its_content_length_never_reaches_the_next_request(
    messages: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        for message in messages:
            await send({"type": "http.response.body", **message})

    async with serving(app) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n" * 2)
        raw = await client.read_all()
        assert raw.count(b"HTTP/1.1") <= 1
        assert len(messages) > 1 or raw.startswith(b"HTTP/1.1 500")
    assert "content-length" in caplog.text


async def test_a_header_with_a_line_break_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", headers=[(b"x", b"a\r\nset-cookie: b")])

    async with serving(app) as it:
        assert (await (await it.connect()).get()).status == 500
    assert "line break" in caplog.text


async def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(hello) as it:
        await (await it.connect()).get()
    assert caplog.text == ""
