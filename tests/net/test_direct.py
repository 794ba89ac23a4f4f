"""Direct answers over HTTP/1.1 and HTTP/2: the dispatcher's work, and where it gives it over to a connection's task."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import trio

from appliance.net.asgi import Receive, Scope, Send
from appliance.net.direct import Answering, Reply, Wait, WithDirect, answer_by_asgi
from appliance.net.http2 import Http2Connection
from appliance.net.parking import ParkingLot
from appliance.net.tls import TlsContexts, self_signed
from tests.net.http_kit import QUICK, Client, echo, serving, until
from tests.net.test_http2 import H2Client, start

_GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = [bytes([n]) * 300_000 for n in range(20)]


class Site:
    """``/now``, ``/large`` and ``/park…`` are answered directly, the rest is an echo by ASGI."""

    def __init__(self, *, patience: float = math.inf) -> None:
        self.lot = ParkingLot()
        self.patience = patience
        self.asked: list[str] = []
        self.closed = 0
        self._replies = {"/now": _reply(b"ready"), "/large": _reply(*LARGE), "/empty": _reply()}
        self.app = WithDirect(self._asgi, self._direct)

    async def _asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in self._replies:
            await answer_by_asgi(self._answering(scope["path"]), scope, send)
        else:
            await echo(scope, receive, send)

    def _direct(self, scope: Scope) -> Answering | None:
        path = scope["path"]
        if path.startswith(("/park", "/bug")) or path in self._replies:
            self.asked.append(path)
            return self._answering(path)
        return None

    def _answering(self, path: str) -> Answering:
        if path == "/bug":
            raise ValueError("a bug")
        if path in self._replies:
            return self._replies[path]
        deadline = trio.current_time() + self.patience
        try:
            while (yield Wait(self.lot, deadline)):
                if path != "/park/twice" or self.closed:
                    return _reply(b"released " + path.encode())
                self.closed = -1
            return _reply(b"too late", status=503)
        except GeneratorExit:
            self.closed += 1
            raise


def _reply(*buffers: bytes, status: int = 200) -> Reply:
    return Reply(status, [(b"content-length", b"%d" % sum(map(len, buffers))), (b"x-kind", b"direct")], buffers)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsContexts:
    contexts = TlsContexts()
    contexts.replace("*", *self_signed(["localhost"], tmp_path_factory.mktemp("tls")))
    return contexts


# HTTP/1.1


async def test_direct_and_other_answers_on_one_connection() -> None:
    site = Site()
    async with serving(site.app) as it:
        client = await it.connect()
        for _ in range(3):
            answer = await client.get("/now")
            assert (answer.status, answer.body, answer.headers["x-kind"]) == (200, b"ready", "direct")
            assert {"date", "server"} <= answer.headers.keys()
            assert (await client.get("/other")).body == b"GET /other "
            assert (await client.get("/empty")).body == b""
        await client.send(b"HEAD /now HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer(bodyless=True)).headers["content-length"] == "5"
        await client.send(b"POST /now HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.read_all() == b""
        assert site.asked == ["/now", "/empty"] * 3
        assert it.server.requests == 11


async def test_pipelined_requests_are_answered_in_order_however_they_are_cut() -> None:
    site = Site()
    paths = ["/now", "/a", "/now", "/now", "/b", *["/now"] * 30, "/c", "/empty"]
    wanted = {"/now": b"ready", "/empty": b""}
    text = b"".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in paths)
    async with serving(site.app) as it:
        for size in (len(text), 7, 100):
            client = await it.connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_in_pieces, client, text, size)
                for path in paths:
                    assert (await client.answer()).body == wanted.get(path, f"GET {path} ".encode())


async def _send_in_pieces(client: Client, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        await client.send(data[at : at + size])
        await trio.lowlevel.checkpoint()


async def test_a_release_answers_all_that_wait() -> None:
    site = Site()
    async with serving(site.app) as it:
        clients = [await it.connect() for _ in range(200)]
        for number, client in enumerate(clients):
            await client.send(_GET % (b"/park/%d" % number) + _GET % b"/now")
        await until(lambda: len(site.lot) == 200)
        assert site.lot.release_all() == 200
        for number, client in enumerate(clients):
            assert (await client.answer()).body == b"released /park/%d" % number
            assert (await client.answer()).body == b"ready"


async def test_an_answer_may_wait_more_than_once_and_a_request_behind_it_waits_too() -> None:
    site = Site()
    async with serving(site.app) as it:
        client = await it.connect()
        await client.send(b"GET /park/twice HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: len(site.lot) == 1)
        await client.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.03)
        site.lot.release_all()
        await until(lambda: len(site.lot) == 1)
        site.lot.release_all()
        assert (await client.answer()).body == b"released /park/twice"
        assert (await client.answer()).body == b"ready"


async def test_a_wait_ends_at_its_deadline() -> None:
    async with serving(Site(patience=0.05).app) as it:
        client = await it.connect()
        answer = await client.get("/park")
        assert (answer.status, answer.body) == (503, b"too late")
        assert (await client.get("/now")).body == b"ready"


@pytest.mark.parametrize("more", [b"", b"GET /now HTTP/1.1\r\n"])
async def test_a_client_that_leaves_while_it_waits_is_forgotten(more: bytes) -> None:
    site = Site()
    async with serving(site.app) as it:
        client = await it.connect()
        await client.send(b"GET /park HTTP/1.1\r\nHost: a\r\n\r\n" + more)
        await until(lambda: len(site.lot) == 1)
        await client.close()
        await until(lambda: it.server.connections == 0)
        assert (len(site.lot), site.closed) == (0, 1)


async def test_a_client_that_never_reads_is_cut_and_one_that_reads_slowly_is_not() -> None:
    async with serving(Site().app, limits=replace(QUICK, write_timeout=0.3)) as it:
        never, slow = await it.connect(), await it.connect()
        for client in (never, slow):
            await client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /now HTTP/1.1\r\nHost: a\r\n\r\n")
        whole = b"".join(LARGE)
        head = await slow.read_until(b"\r\n\r\n")
        assert b"x-kind: direct" in head
        for at in range(0, len(whole), 500_000):
            assert await slow.read_exactly(500_000) == whole[at : at + 500_000]
            await trio.sleep(0.03)
        assert (await slow.answer()).body == b"ready"
        await until(lambda: it.server.connections == 1)
        assert (await (await it.connect()).get("/now")).body == b"ready"


async def test_a_bug_in_an_answer_is_told_and_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Site().app) as it:
        other = await it.connect()
        with caplog.at_level(logging.ERROR, "kiln.net"):
            answer = await (await it.connect()).get("/bug")
        assert (answer.status, answer.headers["connection"]) == (500, "close")
        assert "path=/bug" in caplog.text
        assert (await other.get("/now")).body == b"ready"


async def test_shutdown_lets_an_answer_that_is_waited_for_end() -> None:
    site = Site()
    async with serving(site.app) as it:
        idle, waiting = await it.connect(), await it.connect()
        assert (await idle.get("/now")).body == b"ready"
        await waiting.send(b"GET /park HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: len(site.lot) == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.server.shut_down, 5.0)
            assert await idle.read_all() == b""
            site.lot.release_all()
            answer = await waiting.answer()
            assert (answer.body, answer.headers["connection"]) == (b"released /park", "close")
            assert await waiting.read_all() == b""


async def test_a_shutdown_without_grace_forgets_those_who_wait() -> None:
    site = Site()
    async with serving(site.app) as it:
        waiting = await it.connect()
        await waiting.send(b"GET /park HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: len(site.lot) == 1)
        await it.server.shut_down(0.0)
        assert (len(site.lot), site.closed) == (0, 1)


@pytest.mark.parametrize("sent", [b"", b"GET /now HT"])
async def test_silent_clients_are_ended(sent: bytes) -> None:
    limits = replace(QUICK, header_timeout=0.1, idle_timeout=0.2)
    async with serving(Site().app, limits=limits) as it:
        client = await it.connect()
        assert (await client.get("/now")).body == b"ready"
        await client.send(sent)
        left = await client.read_all()
        assert left.startswith(b"HTTP/1.1 408 ") if sent else left == b""


async def test_what_is_no_request_is_refused() -> None:
    async with serving(Site().app) as it:
        for bad in (b"GET /now%zz HTTP/1.1\r\nHost: a\r\n\r\n", b"nonsense\r\n\r\n", b"GET /now HTTP/1.1\r\n\r\n"):
            client = await it.connect()
            await client.send(bad)
            assert (await client.answer()).status == 400
            assert await client.read_all() == b""


# HTTP/2


async def _parked(site: Site, client: H2Client, count: int) -> list[int]:
    streams = [await client.request(b"/park/%d" % number) for number in range(count)]
    await until(lambda: len(site.lot) == count)
    return streams


async def test_direct_answers_over_http2(tls: TlsContexts) -> None:
    site = Site()
    async with serving(site.app, tls=tls) as it:
        client = await start(it)
        streams = {path: await client.request(path) for path in (b"/now", b"/other", b"/empty", b"/large")}
        await client.until(*streams.values())
        bodies = {path: bytes(client.body[stream]) for path, stream in streams.items()}
        assert bodies == {b"/now": b"ready", b"/other": b"GET /other ", b"/empty": b"", b"/large": b"".join(LARGE)}
        headers = client.headers[streams[b"/now"]]
        assert headers[b"x-kind"] == b"direct"
        assert headers[b"server"] == b"Kiln"
        assert headers[b"content-length"] == b"5"
        head = await client.request(b"/now", b"HEAD")
        posted = await client.request(b"/now", b"POST", end=False)
        client.h2.send_data(posted, b"hi", end_stream=True)
        await client.flush()
        await client.until(head, posted)
        assert not client.body[head]
        assert client.body[posted] == b"ready"
        assert site.asked == ["/now", "/empty", "/large"]
        assert it.server.requests == 6
        connection = next(iter(it.server._open))
        assert isinstance(connection, Http2Connection)
        await until(lambda: not connection.streams)


@pytest.mark.parametrize("window", [1, 100, 10_000, 400_000, 8_000_000])
async def test_windows_hold_for_direct_answers(tls: TlsContexts, window: int) -> None:
    """The client's h2 raises FlowControlError if one byte more than allowed comes."""
    async with serving(Site().app, tls=tls) as it:
        client = await start(it, INITIAL_WINDOW_SIZE=window)
        path, wanted = (b"/now", b"ready") if window < 10_000 else (b"/large", b"".join(LARGE))
        streams = [await client.request(path) for _ in range(3)]
        await client.until(*streams)
        assert [client.body[stream] for stream in streams] == [wanted] * 3


async def test_a_release_answers_all_streams_that_wait(tls: TlsContexts) -> None:
    site = Site()
    async with serving(site.app, tls=tls) as it:
        client = await start(it)
        streams = await _parked(site, client, 60)
        site.lot.release_all()
        await client.until(*streams)
        assert [client.body[stream] for stream in streams] == [b"released /park/%d" % n for n in range(60)]


async def test_a_stream_that_is_reset_while_it_waits_is_forgotten(tls: TlsContexts) -> None:
    site = Site()
    async with serving(site.app, tls=tls) as it:
        client = await start(it)
        streams = await _parked(site, client, 2)
        client.h2.reset_stream(streams[0])
        await client.flush()
        await until(lambda: len(site.lot) == 1)
        assert site.closed == 1
        site.lot.release_all()
        await client.until(streams[1])
        assert client.body[streams[1]] == b"released /park/1"
        await client.client.close()
        await until(lambda: it.server.connections == 0)


async def test_a_connection_that_ends_forgets_its_streams(tls: TlsContexts) -> None:
    site = Site()
    async with serving(site.app, tls=tls) as it:
        client = await start(it)
        await _parked(site, client, 5)
        await client.client.close()
        await until(lambda: it.server.connections == 0)
        assert (len(site.lot), site.closed) == (0, 5)


async def test_deadlines_and_bugs_over_http2(tls: TlsContexts) -> None:
    async with serving(Site(patience=0.05).app, tls=tls) as it:
        client = await start(it)
        parked, bug = await client.request(b"/park"), await client.request(b"/bug")
        await client.until(parked, bug)
        assert client.status(parked) == 503
        assert client.body[parked] == b"too late"
        assert client.status(bug) == 500


async def test_shutdown_over_http2_lets_streams_end(tls: TlsContexts) -> None:
    site = Site()
    async with serving(site.app, tls=tls) as it:
        client = await start(it)
        await _parked(site, client, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.server.shut_down, 5.0)
            await until(lambda: it.server.stopping)
            site.lot.release_all()
            # The client's h2 takes nothing more once it has seen GOAWAY, so read the bytes as they are.
            raw = await client.client.read_all()
        assert b"released /park/0" in raw


async def test_a_client_that_never_reads_is_cut_over_http2(tls: TlsContexts) -> None:
    async with serving(Site().app, tls=tls, limits=replace(QUICK, write_timeout=0.2)) as it:
        client = await start(it, INITIAL_WINDOW_SIZE=100_000_000)
        client.h2.increment_flow_control_window(100_000_000)
        for _ in range(5):
            await client.request(b"/large")
        await until(lambda: it.server.connections == 0)
