"""Limits of the HTTP server, clients that leave or never read, and its end."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from appliance.net.asgi import Receive, Scope, Send
from appliance.net.limits import Limits
from appliance.net.listener import Listener
from appliance.net.parking import ParkingLot
from tests.net.http_kit import hello, read_body, respond, serving, until


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
