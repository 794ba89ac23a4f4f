"""A tiny HTTP server: files of a folder, and answers made by the test, with the requests remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

#: Takes the connection and the request's path; writes the whole answer.
Answer = Callable[[trio.SocketStream, str], Awaitable[None]]


class StaticServer:
    """``answers`` by path come before files of ``folder``. ``asked`` are the paths asked for, in order."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def gives(self, path: str, body: bytes | str, status: int = 200, *headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", *headers]

        async def answer(stream: trio.SocketStream, _: str) -> None:
            await stream.send_all("\r\n".join([*head, "", ""]).encode() + data)

        self.answers[path] = answer

    async def handle(self, stream: trio.SocketStream) -> None:
        waiting = b""
        async with stream:
            while True:
                while b"\r\n\r\n" not in waiting:
                    try:
                        data = await stream.receive_some(65536)
                    except trio.BrokenResourceError:
                        return
                    if not data:
                        return
                    waiting += data
                head, _, waiting = waiting.partition(b"\r\n\r\n")
                try:
                    await self._answer(stream, head.decode())
                except trio.BrokenResourceError:
                    return

    async def _answer(self, stream: trio.SocketStream, head: str) -> None:
        path = head.split(" ")[1]
        bare = path.partition("?")[0]
        self.asked.append(path)
        wanted = next((line[6:].strip() for line in head.split("\r\n") if line.lower().startswith("range:")), "")
        answer = self.answers.get(bare)
        if answer is not None:
            await answer(stream, path)
            return
        file = self.folder / bare.lstrip("/") if self.folder is not None else None
        if file is None or not file.is_file():
            await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        data, status = file.read_bytes(), "200 OK"
        if wanted.startswith("bytes="):
            self.ranges.append(wanted)
            first, last = wanted[6:].split("-")
            data, status = data[int(first) : int(last) + 1], "206 Partial Content"
        await stream.send_all(f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)


@asynccontextmanager
async def static_server(folder: Path | None = None) -> AsyncIterator[StaticServer]:
    """On a port of loopback that the kernel chose."""
    server = StaticServer(folder)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, server.handle, 0)
        server.port = listeners[0].socket.getsockname()[1]
        yield server
        nursery.cancel_scope.cancel()
