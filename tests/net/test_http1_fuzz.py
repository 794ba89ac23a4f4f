"""The same answers however the bytes are cut, and never an exception out of a connection."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.net.http1_parser import Http1Parser
from tests.net.http_kit import QUICK, Serving, echo, serving

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
