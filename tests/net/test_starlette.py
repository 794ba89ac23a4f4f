"""The server under a framework that others write handlers with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from appliance.net.tls import TlsContexts, self_signed
from tests.net.http_kit import serving, until

ended: list[str] = []


async def endless() -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"tick\n"
            await trio.sleep(0.01)
    finally:
        ended.append("stream")


async def post(request: Request) -> Response:
    body = await request.json()
    return JSONResponse({"got": body, "client": request.client is not None, "url": str(request.url)})


async def events(request: Request) -> Response:
    return StreamingResponse(endless(), media_type="text/event-stream")


async def later(request: Request) -> Response:
    async def task() -> None:
        ended.append("task")

    return Response(b"now", background=BackgroundTask(task))


app = Starlette(
    routes=[Route("/post", post, methods=["POST"]), Route("/events", events), Route("/later", later)],
)


async def test_json_streams_and_background_tasks(tmp_path: Path) -> None:
    ended.clear()
    async with serving(app) as it:
        client = await it.connect()
        await client.send(b'POST /post?q=1 HTTP/1.1\r\nHost: box\r\nContent-Length: 8\r\n\r\n{"a": 1}')
        assert (await client.answer()).body == b'{"got":{"a":1},"client":true,"url":"http://box/post?q=1"}'
        assert (await client.get("/missing")).status == 404
        assert (await client.get("/later")).body == b"now"
        await until(lambda: ended == ["task"])
        await client.send(b"GET /events HTTP/1.1\r\nHost: box\r\n\r\n")
        await client.read_until(b"tick")
        await client.close()
        await until(lambda: ended == ["task", "stream"])
    tls = TlsContexts()
    tls.replace("*", *self_signed(["localhost"], tmp_path))
    async with serving(app, tls=tls) as it:
        assert (await (await it.connect_tls("localhost")).get("/later")).body == b"now"
