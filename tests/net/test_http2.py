"""HTTP/2 over TLS, with h2 as the client."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.net.asgi import Receive, Scope, Send
from appliance.net.http2 import Http2Connection
from appliance.net.limits import Limits
from appliance.net.parking import ParkingLot
from appliance.net.tls import TlsContexts, self_signed
from tests.net.http_kit import QUICK, Client, Serving, echo, hello, respond, serving, until

Fields = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsContexts:
    contexts = TlsContexts()
    contexts.replace("*", *self_signed(["localhost"], tmp_path_factory.mktemp("tls")))
    return contexts


class H2Client:
    """A client that counts what comes: ``status``, ``headers``, ``body`` by stream, ``ended`` and ``reset`` streams."""

    def __init__(self, client: Client, *, consume: bool = True) -> None:
        self.client = client
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.consume = consume
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.body: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.informational: list[bytes] = []
        self.goaway: int | None = None
        self.closed = False

    async def start(self, **settings: int) -> None:
        values = {SettingCodes[name]: value for name, value in settings.items()}
        self.h2.local_settings = Settings(client=True, initial_values=values)
        self.h2.max_inbound_frame_size = self.h2.local_settings.max_frame_size
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            await self.client.send(data)

    async def request(
        self, path: bytes = b"/", method: bytes = b"GET", extra: Fields | None = None, *, end: bool = True
    ) -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = [(b":method", method), (b":path", path), (b":scheme", b"https"), (b":authority", b"localhost")]
        self.h2.send_headers(stream, fields + (extra or []), end_stream=end)
        await self.flush()
        return stream

    def status(self, stream: int) -> int:
        return int(self.headers[stream][b":status"])

    async def step(self) -> None:
        """Take in what comes next."""
        data = b""
        with contextlib.suppress(trio.BrokenResourceError):
            data = await self.client.read_some()
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.InformationalResponseReceived):
                self.informational.append(dict(event.headers or [])[b":status"])
            elif isinstance(event, h2.events.ResponseReceived):
                self.headers[event.stream_id or 0] = dict(event.headers or [])
            elif isinstance(event, h2.events.DataReceived):
                self.body[event.stream_id or 0] += event.data or b""
                if self.consume:
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id or 0)
            elif isinstance(event, h2.events.StreamReset):
                self.reset[event.stream_id or 0] = int(event.error_code or 0)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = int(event.error_code or 0)
        with contextlib.suppress(trio.BrokenResourceError, h2.exceptions.ProtocolError):
            await self.flush()

    async def until(self, *streams: int) -> None:
        """Until those streams are over, or the connection is."""
        with trio.fail_after(5):
            while not self.closed and not set(streams) <= (self.ended | self.reset.keys()):
                await self.step()

    async def until_closed(self) -> None:
        with trio.fail_after(5):
            while not self.closed:
                await self.step()


async def start(it: Serving, *, consume: bool = True, **settings: int) -> H2Client:
    client = H2Client(await it.connect_tls("localhost", alpn=["h2"]), consume=consume)
    await client.start(**settings)
    return client


async def test_a_request_and_its_scope(tls: TlsContexts) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await respond(send, b"hi", headers=[(b"content-type", b"text/plain"), (b"Connection", b"close")])

    async with serving(app, tls=tls) as it:
        client = await start(it)
        stream = await client.request(b"/a%20b?c=d", extra=[(b"cookie", b"a=1"), (b"x-y", b"z"), (b"cookie", b"b=2")])
        await client.until(stream)
        assert client.status(stream) == 200
        assert client.body[stream] == b"hi"
        headers = client.headers[stream]
        assert headers[b"content-length"] == b"2"
        assert headers[b"server"] == b"Kiln"
        assert b"connection" not in headers
    scope = seen[0]
    assert (scope["http_version"], scope["scheme"], scope["path"]) == ("2", "https", "/a b")
    assert (scope["query_string"], scope["method"]) == (b"c=d", "GET")
    assert dict(scope["headers"]) == {b"host": b"localhost", b"x-y": b"z", b"cookie": b"a=1; b=2"}
    assert {"kiln.park", "kiln.buffers"} <= scope["extensions"].keys()


async def test_many_streams_at_once_with_bodies_both_ways(tls: TlsContexts) -> None:
    body = bytes(range(256)) * 200
    async with serving(echo, tls=tls) as it:
        client = await start(it)
        streams = []
        for n in range(50):
            stream = await client.request(b"/%d" % n, b"POST", end=False)
            streams.append(stream)
            for at in range(0, len(body), 1000):
                while client.h2.local_flow_control_window(stream) < 1000:
                    await client.step()
                client.h2.send_data(stream, body[at : at + 1000])
            client.h2.end_stream(stream)
            await client.flush()
        await client.until(*streams)
        for n, stream in enumerate(streams):
            assert client.body[stream] == b"POST /%d " % n + body


PARTS: list[Any] = [b"a" * 100_000, bytearray(b"b" * 10), memoryview(b"c" * 70_000), b"", b"d"] * 5


async def buffers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"head", "buffers": PARTS})


@pytest.mark.parametrize("window", [1, 1000, 65_535, 10_000_000])
async def test_flow_control_is_obeyed(tls: TlsContexts, window: int) -> None:
    """The client's h2 raises FlowControlError if one byte more than allowed comes."""
    parts = b"head" + b"".join(PARTS)
    if window == 1:
        parts = b"h" * 50

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if window == 1:
            await respond(send, parts)
        else:
            await buffers(scope, receive, send)

    async with serving(app, tls=tls) as it:
        client = await start(it, INITIAL_WINDOW_SIZE=window)
        streams = [await client.request() for _ in range(3)]
        await client.until(*streams)
        for stream in streams:
            assert client.body[stream] == parts


async def test_many_large_answers_wait_for_a_slow_reader_and_queue_little(tls: TlsContexts) -> None:
    body = b"x" * 1_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, body)

    async with serving(app, tls=tls) as it:
        client = await start(it, INITIAL_WINDOW_SIZE=10_000_000)
        client.h2.increment_flow_control_window(100_000_000)
        streams = [await client.request() for _ in range(40)]
        await until(lambda: it.server.requests == 40)
        await trio.sleep(0.05)
        (connection,) = it.server._open
        assert isinstance(connection, Http2Connection)
        assert sum(map(len, connection._out)) < 1_000_000
        await client.until(*streams)
        assert all(client.body[stream] == body for stream in streams)


async def test_a_larger_frame_size_is_used(tls: TlsContexts) -> None:
    async with serving(buffers, tls=tls) as it:
        client = await start(it, MAX_FRAME_SIZE=100_000, INITIAL_WINDOW_SIZE=10_000_000)
        stream = await client.request()
        await client.until(stream)
        assert client.body[stream] == b"head" + b"".join(PARTS)


async def test_a_stream_whose_window_stays_shut_is_reset(tls: TlsContexts) -> None:
    async with serving(buffers, tls=tls, limits=Limits(write_timeout=0.2, sweep_interval=0.02)) as it:
        client = await start(it, consume=False, INITIAL_WINDOW_SIZE=1000)
        stream = await client.request()
        await client.until(stream)
        assert client.reset == {stream: ErrorCodes.CANCEL}
        assert len(client.body[stream]) == 1000


@pytest.mark.parametrize("how", ["sleep", "receive", "park", "window"])
async def test_a_reset_stream_cancels_its_handler_alone(tls: TlsContexts, how: str) -> None:
    lot = ParkingLot()
    started, ended = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/other":
            await scope["extensions"]["kiln.park"](lot)
            await respond(send, b"other")
            return
        await receive()
        started.set()
        try:
            if how == "sleep":
                await trio.sleep_forever()
            elif how == "park":
                await scope["extensions"]["kiln.park"](lot)
            elif how == "receive":
                await receive()
            else:
                await respond(send, b"x" * 1_000_000)
        finally:
            ended.set()

    async with serving(app, tls=tls) as it:
        client = await start(it, consume=False)
        other = await client.request(b"/other")
        stream = await client.request(b"/mine")
        with trio.fail_after(2):
            await started.wait()
            client.h2.reset_stream(stream)
            await client.flush()
            await ended.wait()
        client.consume = True
        client.h2.increment_flow_control_window(1_000_000)
        await client.flush()
        lot.release_all()
        await client.until(other)
        assert client.body[other] == b"other"


async def test_a_lost_connection_cancels_all_handlers(tls: TlsContexts) -> None:
    running = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        try:
            await scope["extensions"]["kiln.park"](ParkingLot())
        finally:
            running -= 1

    async with serving(app, tls=tls) as it:
        client = await start(it)
        for _ in range(5):
            await client.request()
        await until(lambda: running == 5)
        await trio.aclose_forcefully(client.client.stream)
        await until(lambda: running == 0 and it.server.connections == 0)


async def test_a_parked_stream_is_told_of_its_deadline(tls: TlsContexts) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        park = scope["extensions"]["kiln.park"]
        await respond(send, str(await park(ParkingLot(), deadline=trio.current_time() + 0.05)).encode())

    async with serving(app, tls=tls) as it:
        client = await start(it)
        stream = await client.request()
        await client.until(stream)
        assert client.body[stream] == b"False"


async def test_rapid_reset_ends_the_connection_and_not_the_server(tls: TlsContexts) -> None:
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await respond(send, b"hello")

    async with serving(app, tls=tls) as it:
        client = await start(it)
        other = await start(it)
        fields = [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"https"), (b":authority", b"localhost")]
        with contextlib.suppress(trio.BrokenResourceError, h2.exceptions.ProtocolError):
            for _ in range(100):
                for _ in range(50):
                    stream = client.h2.get_next_available_stream_id()
                    client.h2.send_headers(stream, fields, end_stream=True)
                    client.h2.reset_stream(stream)
                await client.flush()
        with contextlib.suppress(h2.exceptions.ProtocolError):
            await client.until_closed()
        assert calls < 1000
        stream = await other.request()
        await other.until(stream)
        assert other.body[stream] == b"hello"


async def test_a_flood_of_pings_ends_the_connection(tls: TlsContexts) -> None:
    async with serving(hello, tls=tls) as it:
        client = await start(it)
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(1000):
                client.h2.ping(b"12345678")
            await client.flush()
        await client.until_closed()
        assert client.goaway == ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    ("fields", "path", "status"),
    [
        ([(b"x", b"y" * 17000)], b"/", 431),
        ([], b"/%zz", 400),
        ([], b"/%ff", 400),
        ([], b"*", 400),
        ([], b"relative", 400),
        ([(b"content-length", b"1048577")], b"/", 413),
    ],
)
async def test_what_is_refused_is_answered(tls: TlsContexts, fields: Fields, path: bytes, status: int) -> None:
    async with serving(echo, tls=tls) as it:
        client = await start(it)
        stream = await client.request(path, b"POST", fields, end=False)
        await client.until(stream)
        assert client.status(stream) == status
        fine = await client.request(b"/fine")
        await client.until(fine)
        assert client.body[fine] == b"GET /fine "


async def test_a_body_over_the_limit_gives_413(tls: TlsContexts) -> None:
    async with serving(echo, tls=tls, limits=Limits(body_size=10_000, sweep_interval=0.02)) as it:
        client = await start(it)
        stream = await client.request(b"/", b"POST", end=False)
        client.h2.send_data(stream, b"x" * 10_001)
        await client.flush()
        await client.until(stream)
        assert client.status(stream) == 413


async def test_expect_continue(tls: TlsContexts) -> None:
    async with serving(echo, tls=tls) as it:
        client = await start(it)
        stream = await client.request(b"/", b"POST", [(b"expect", b"100-continue")], end=False)
        while not client.informational:
            await client.step()
        client.h2.send_data(stream, b"now", end_stream=True)
        await client.flush()
        await client.until(stream)
        assert client.body[stream] == b"POST / now"


async def test_unread_bodies_do_not_eat_the_connection_window(tls: TlsContexts) -> None:
    async with serving(hello, tls=tls) as it:
        client = await start(it)
        for _ in range(10):
            stream = await client.request(b"/", b"POST", end=False)
            with contextlib.suppress(h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
                client.h2.send_data(stream, b"x" * 16_000)
                await client.flush()
            await client.until(stream)
            assert client.status(stream) == 200
        with trio.fail_after(2):
            while client.h2.outbound_flow_control_window < 30_000:
                await client.step()


async def test_head_and_204(tls: TlsContexts) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/none":
            await respond(send, b"", 204)
        else:
            await respond(send, b"hello")

    async with serving(app, tls=tls) as it:
        client = await start(it)
        head, none = await client.request(method=b"HEAD"), await client.request(b"/none")
        await client.until(head, none)
        assert client.headers[head][b"content-length"] == b"5"
        assert (client.status(none), b"content-length" in client.headers[none]) == (204, False)
        assert not client.body[head]
        assert not client.body[none]


async def test_a_failing_handler(tls: TlsContexts, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        raise ValueError("wires crossed")

    async with serving(app, tls=tls) as it:
        client = await start(it)
        whole, half = await client.request(), await client.request(b"/half")
        await client.until(whole, half)
        assert client.status(whole) == 500
        assert client.reset == {half: ErrorCodes.INTERNAL_ERROR}
    assert "wires crossed" in caplog.text


async def test_idle_connections_are_ended_politely(tls: TlsContexts) -> None:
    async with serving(hello, tls=tls, limits=Limits(idle_timeout=0.1, sweep_interval=0.02)) as it:
        client = await start(it)
        await client.until(await client.request())
        await client.until_closed()
        assert client.goaway == ErrorCodes.NO_ERROR


async def test_a_client_that_never_reads_does_not_delay_shutdown(tls: TlsContexts) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x" * 50_000_000)

    async with serving(app, tls=tls) as it:
        client = await start(it, INITIAL_WINDOW_SIZE=2**31 - 1)
        client.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        await client.flush()
        await client.request()
        await until(lambda: it.server.requests == 1)
        await trio.sleep(0.05)
        with trio.fail_after(2):
            await it.server.shut_down(0.3)
        assert it.server.connections == 0


async def test_a_client_that_never_reads_is_cut_off(tls: TlsContexts) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x" * 50_000_000)

    async with serving(app, tls=tls, limits=Limits(write_timeout=0.2, sweep_interval=0.02)) as it:
        client = await start(it, INITIAL_WINDOW_SIZE=2**31 - 1)
        client.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        await client.flush()
        await client.request()
        await until(lambda: it.server.requests == 1)
        await until(lambda: it.server.connections == 0)


async def test_shutdown_lets_running_streams_end(tls: TlsContexts) -> None:
    lot = ParkingLot()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await scope["extensions"]["kiln.park"](lot)
        await respond(send, b"done")

    async with serving(app, tls=tls) as it:
        client = await start(it)
        stream = await client.request()
        await until(lambda: len(lot) == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.server.shut_down, 5)
            await trio.sleep(0.02)
            lot.release_all()
            # The client's h2 takes nothing more once it has seen GOAWAY, so read the bytes as they are.
            raw = await client.client.read_all()
        assert b"done" in raw
        assert stream == 1


_FRAMES = st.builds(
    lambda kind, flags, stream, payload: (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    ),
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x25, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5, 7, 2**31 - 1, 2**32 - 1]),
    st.one_of(st.binary(max_size=40), st.just(bytes.fromhex("828684418aa0e41d139d09b8f01e07"))),
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@given(st.booleans(), st.lists(st.one_of(_FRAMES, st.binary(max_size=30)), max_size=8).map(b"".join), st.booleans())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_an_exception(
    tls: TlsContexts, caplog: pytest.LogCaptureFixture, preface: bool, data: bytes, whole: bool
) -> None:
    async def main() -> None:
        async with serving(echo, tls=tls, limits=QUICK) as it:
            client = await it.connect_tls("localhost", alpn=["h2"])
            everything = (_PREFACE if preface else b"") + data
            with contextlib.suppress(trio.BrokenResourceError):
                for piece in [everything] if whole else [bytes([byte]) for byte in everything]:
                    await client.send(piece)
            await trio.aclose_forcefully(client.stream)
            await until(lambda: it.server.connections == 0)
            fine = await start(it)
            stream = await fine.request(b"/alive")
            await fine.until(stream)
            assert fine.body[stream] == b"GET /alive "

    caplog.clear()
    trio.run(main)
    assert caplog.text == ""


@pytest.mark.system
async def test_h2load(tls: TlsContexts, tmp_path: Path) -> None:
    h2load = shutil.which("h2load")
    if h2load is None:
        pytest.skip("h2load (nghttp2-client) is not installed")

    async with serving(buffers, tls=tls, limits=Limits()) as it:
        command = [h2load, "-n500", "-c20", "-m10", f"https://127.0.0.1:{it.port}/"]
        run = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
        output = run.stdout.decode()
        assert "500 succeeded, 0 failed, 0 errored, 0 timeout" in output
        assert it.server.requests == 500
