"""HTTP/1.1 over real sockets: what clients may send, and what they get."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.net.asgi import Message, Receive, Scope, Send
from appliance.net.http1_parser import Http1Parser
from appliance.net.limits import Limits
from appliance.net.listener import Listener
from appliance.net.parking import ParkingLot
from tests.net.http_kit import QUICK, Client, Serving, hello, read_body, respond, serving, until


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    await respond(send, scope["method"].encode() + b" " + scope["path"].encode() + b" " + body)


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


async def test_a_route_may_allow_a_larger_body() -> None:
    def body_limit(scope: Scope) -> int:
        return 3_000_000 if scope["path"] == "/upload" else 10

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"%d" % len(await read_body(receive)))

    async with serving(count, body_limit=body_limit) as it:
        client = await it.connect()
        await client.send(b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000)
        assert (await client.answer()).body == b"2000000"
        await client.send(b"POST /other HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\n" + b"x" * 11)
        assert (await client.answer()).status == 413


@pytest.mark.parametrize("begin", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: t\r\n", b"\r\n\r\n"])
async def test_slow_heads_are_ended(begin: bytes) -> None:
    async with serving(hello, limits=Limits(header_timeout=0.1, sweep_interval=0.02)) as it:
        client = await it.connect()
        if begin:
            await client.send(begin)
        with trio.fail_after(2):
            raw = await client.read_all()
        assert raw.startswith(b"HTTP/1.1 408 ") if begin.startswith(b"GET") else raw == b""


async def test_trickling_head_is_ended_too() -> None:
    async with serving(hello, limits=Limits(header_timeout=0.15, sweep_interval=0.02)) as it:
        client = await it.connect()

        async def trickle() -> None:
            for byte in b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 1000:
                try:
                    await client.send(bytes([byte]))
                except trio.BrokenResourceError:
                    return
                await trio.sleep(0.01)

        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trickle)
                await client.read_all()
                nursery.cancel_scope.cancel()


async def test_idle_connection_is_ended_after_the_idle_time() -> None:
    async with serving(hello, limits=Limits(idle_timeout=0.1, sweep_interval=0.02)) as it:
        client = await it.connect()
        await client.get()
        start = trio.current_time()
        with trio.fail_after(2):
            assert await client.read_all() == b""
        assert trio.current_time() - start >= 0.09


async def test_slow_body_cancels_the_handler() -> None:
    cancelled = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(receive)
        except trio.Cancelled:
            cancelled.set()
            raise

    async with serving(app, limits=Limits(body_timeout=0.1, sweep_interval=0.02)) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nabc")
        with trio.fail_after(2):
            assert await client.read_all() == b""
            await cancelled.wait()


async def test_connections_a_peer_and_in_all_are_limited() -> None:
    async with serving(hello, limits=Limits(connections_per_peer=3, sweep_interval=0.02)) as it:
        clients = [await it.connect() for _ in range(3)]
        for client in clients:
            await client.get()
        refused = await it.connect()
        assert (await refused.answer()).status == 503
        assert await refused.read_all() == b""
        await clients[0].close()
        await until(lambda: it.server.connections == 2)
        assert (await (await it.connect()).get()).status == 200


async def test_total_limit_holds_for_unix_sockets_and_the_peer_limit_does_not(tmp_path: Any) -> None:
    path = str(tmp_path / "s")
    limits = Limits(connections=4, connections_per_peer=2, sweep_interval=0.02)
    async with serving(hello, limits=limits, listeners=[Listener.unix(path)]) as it:
        clients = [await it.connect_unix(path) for _ in range(4)]
        for client in clients:
            assert (await client.get()).status == 200
        assert (await (await it.connect_unix(path)).answer()).status == 503


async def test_five_hundred_half_open_connections_do_not_matter() -> None:
    async with serving(hello, limits=Limits(connections_per_peer=600)) as it:
        slow = []
        for _ in range(500):
            client = await it.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: t\r\nX-A: ")
            slow.append(client)
        await until(lambda: it.server.connections == 500)
        normal = await it.connect()
        with trio.fail_after(1):
            for _ in range(50):
                assert (await normal.get()).body == b"hello"
        for client in slow:
            await client.close()


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


@pytest.mark.parametrize("how", ["sleep", "receive", "park", "stream"])
async def test_handler_is_cancelled_when_its_client_goes(how: str) -> None:
    started, ended = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            assert (await receive())["type"] == "http.request"
            started.set()
            if how == "sleep":
                await trio.sleep_forever()
            elif how == "park":
                await scope["extensions"]["kiln.park"](ParkingLot())
            elif how == "receive":
                assert (await receive())["type"] == "http.disconnect"
                await trio.sleep_forever()
            else:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                    await trio.sleep(0.01)
        finally:
            ended.set()

    async with serving(app) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\nGET /pipelined")
        with trio.fail_after(2):
            await started.wait()
            await client.close()
            await ended.wait()
        await until(lambda: it.server.connections == 0)


async def test_parked_requests_are_released_together_and_by_deadline() -> None:
    lot = ParkingLot()
    outcomes: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        deadline = trio.current_time() + 0.1 if scope["path"] == "/late" else math.inf
        released = await scope["extensions"]["kiln.park"](lot, deadline=deadline)
        outcomes.append(released)
        await respond(send, b"yes" if released else b"no")

    async with serving(app) as it:
        late = await it.connect()
        assert (await late.get("/late")).body == b"no"
        clients = [await it.connect() for _ in range(150)]
        for client in clients:
            await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        await until(lambda: len(lot) == 150)
        assert lot.release_all() == 150
        for client in clients:
            assert (await client.answer()).body == b"yes"
    assert outcomes == [False] + [True] * 150


async def test_a_past_deadline_does_not_park() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        released = await scope["extensions"]["kiln.park"](ParkingLot(), deadline=trio.current_time())
        await respond(send, str(released).encode())

    async with serving(app) as it:
        assert (await (await it.connect()).get()).body == b"False"


async def big(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"x" * (scope["path"] == "/small" or 64 * 1024 * 1024))


async def test_a_client_that_never_reads_is_cut_off() -> None:
    async with serving(big, limits=Limits(write_timeout=0.2, sweep_interval=0.02)) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        await until(lambda: it.server.connections == 1)
        await until(lambda: it.server.connections == 0, 3)


async def test_a_client_that_never_reads_does_not_delay_shutdown() -> None:
    async with serving(big, limits=Limits()) as it:
        stuck = [await it.connect() for _ in range(5)]
        for client in stuck:
            await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n" * 3)
        await until(lambda: it.server.requests == 5)
        with trio.fail_after(2):
            await it.server.shut_down(0.5)
        assert it.server.connections == 0


async def test_a_client_that_reads_slowly_gets_it_all() -> None:
    async with serving(big, limits=Limits(write_timeout=0.3, sweep_interval=0.02)) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        start = trio.current_time()
        received = 0
        while received < 64 * 1024 * 1024:
            data = await client.stream.receive_some(2 * 1024 * 1024)
            assert data
            received += len(data)
            await trio.sleep(0.02)
        assert trio.current_time() - start > 0.6


async def test_shutdown_lets_running_answers_end_and_refuses_new_ones() -> None:
    go = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await go.wait()
        await respond(send, b"done")

    async with serving(app) as it:
        idle, slow = await it.connect(), await it.connect()
        await idle.get()
        await slow.send(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
        await until(lambda: it.server.requests == 2)
        port = it.port
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.server.shut_down, 5)
            assert await idle.read_all() == b""
            with pytest.raises(OSError):
                await trio.open_tcp_stream("127.0.0.1", port)
            go.set()
            answer = await slow.answer()
            assert (answer.body, answer.headers["connection"]) == (b"done", "close")
        assert it.server.connections == 0


async def test_shutdown_cuts_what_does_not_end() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with serving(app) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        await until(lambda: it.server.requests == 1)
        with trio.fail_after(1):
            await it.server.shut_down(0.1)
            assert await client.read_all() == b""


async def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(hello) as it:
        await (await it.connect()).get()
    assert caplog.text == ""


# The same answers however the bytes are cut, and never an exception out of a connection.

_PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nT: x\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n",
        b"X: " + b"y" * 20000 + b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b" ",
        b"\x00",
        b"%",
    ]
)
_STREAMS = st.lists(st.one_of(_PIECES, st.binary(max_size=20)), max_size=8).map(b"".join)


def _parsed(data: bytes, step: int) -> list[object]:
    parser = Http1Parser(16384)
    for at in range(0, len(data), step):
        parser.feed(data[at : at + step])
    requests = [
        (r.method, r.target, r.headers, r.keep_alive, b"".join(r.chunks), r.complete, r.broken, r.refusal, r.websocket)
        for r in parser.requests
    ]
    # A head that is both too long and malformed may be refused for either, by where it is cut.
    return [*requests, bool(parser.failure), parser.in_head]


@given(_STREAMS, st.integers(1, 50))
@settings(max_examples=250, deadline=None)
def test_parser_gives_the_same_however_the_bytes_are_cut(data: bytes, step: int) -> None:
    whole = _parsed(data, max(1, len(data)))
    assert _parsed(data, 1) == whole
    assert _parsed(data, step) == whole


async def _talk(it: Serving, data: bytes, step: int) -> bytes:
    client = await it.connect()
    try:
        for at in range(0, len(data), step):
            await client.send(data[at : at + step])
            if step < len(data):
                await trio.lowlevel.checkpoint()
    except (trio.BrokenResourceError, OSError):
        pass
    try:
        await client.stream.send_eof()  # type: ignore[attr-defined]
    except (trio.BrokenResourceError, OSError):
        pass
    with trio.fail_after(5):
        raw = await client.read_all()
    lines = [line for line in raw.split(b"\r\n") if not line.startswith(b"date: ")]
    # A head that is both too long and malformed may be refused for either, by where it is cut.
    too_long = b"431 Request Header Fields Too Large"
    fields = b"\r\n".join(lines).replace(too_long, b"400 Bad Request")
    return fields.replace(b"content-length: 36", b"content-length: 16")


@given(_STREAMS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_are_the_same_byte_by_byte(caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    async def main() -> None:
        async with serving(echo, limits=QUICK) as it:
            whole = await _talk(it, data, max(1, len(data)))
            pieces = await _talk(it, data, 1 if len(data) < 2000 else 997)
            assert whole == pieces
            assert (await (await it.connect()).get("/alive")).body == b"GET /alive "

    caplog.clear()
    trio.run(main)
    assert caplog.text == ""
