"""What the tests of the HTTP server share: a server on loopback ports, and a client that says what it is told."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from appliance.net.asgi import ASGIApp, BodyLimit, Receive, Scope, Send
from appliance.net.http_server import HttpServer
from appliance.net.limits import Limits
from appliance.net.listener import Listener
from appliance.net.tls import TlsContexts

QUICK = Limits(sweep_interval=0.02)


@dataclass
class Serving:
    """A server that runs, the ports it listens on, and clients of it, closed when the block ends."""

    server: HttpServer
    listeners: list[Listener]
    clients: list[Client] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.listeners[0].port

    async def connect(self) -> Client:
        return self.keep(Client(await trio.open_tcp_stream("127.0.0.1", self.port)))

    async def connect_unix(self, path: str) -> Client:
        return self.keep(Client(await trio.open_unix_socket(path)))

    async def connect_tls(self, name: str, *, alpn: list[str] | None = None, ca: Path | None = None) -> Client:
        """A TLS connection; the certificate is verified against ``ca`` where given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is not None:
            context.load_verify_locations(ca)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(alpn or ["http/1.1"])
        tcp = await trio.open_tcp_stream("127.0.0.1", self.port)
        client = self.keep(Client(trio.SSLStream(tcp, context, server_hostname=name, https_compatible=True)))
        await client.stream.do_handshake()  # type: ignore[attr-defined]
        return client

    def keep(self, client: Client) -> Client:
        self.clients.append(client)
        return client


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    limits: Limits = QUICK,
    tls: TlsContexts | None = None,
    listeners: list[Listener] | None = None,
    server_header: str | None = "Kiln",
    body_limit: BodyLimit | None = None,
) -> AsyncIterator[Serving]:
    """Run a server for ``app`` on a loopback port (over TLS if ``tls``), and end it when the block ends."""
    if listeners is None:
        listeners = [Listener.tls("127.0.0.1", 0, tls) if tls else Listener.tcp("127.0.0.1", 0)]
    server = HttpServer(app, name="test", server_header=server_header, limits=limits, body_limit=body_limit)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(server.serve, listeners)
        it = Serving(server, bound)
        try:
            yield it
        finally:
            for client in it.clients:
                await trio.aclose_forcefully(client.stream)
            nursery.cancel_scope.cancel()


@dataclass
class Answer:
    """A response as it came: ``headers`` by lower-case name (the last of equal ones)."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A stream and what of it was read too far."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._read = bytearray()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def read_until(self, end: bytes) -> bytes:
        while end not in self._read:
            data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError(f"closed after {self._read!r}")
            self._read += data
        head, _, self._read = self._read.partition(end)
        return bytes(head)

    async def read_exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError(f"closed after {len(self._read)} of {size} bytes")
            self._read += data
        part = bytes(self._read[:size])
        del self._read[:size]
        return part

    async def read_some(self) -> bytes:
        """What comes next, b"" at the end."""
        if self._read:
            data = bytes(self._read)
            self._read.clear()
            return data
        return bytes(await self.stream.receive_some(65536))

    async def read_all(self) -> bytes:
        """Everything up to the end of the connection, however that comes."""
        with contextlib.suppress(trio.BrokenResourceError, ConnectionError):
            while data := await self.stream.receive_some(65536):
                self._read += data
        return bytes(self._read)

    async def answer(self, *, bodyless: bool = False) -> Answer:
        lines = (await self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = b""
        if not bodyless:
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await self.read_until(b"\r\n"), 16):
                    body += await self.read_exactly(size)
                    await self.read_until(b"\r\n")
                await self.read_until(b"\r\n")
            else:
                body = await self.read_exactly(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split(" ")[1]), headers, body)

    async def get(self, path: str = "/", extra: str = "") -> Answer:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n{extra}\r\n".encode())
        return await self.answer()

    async def close(self) -> None:
        await self.stream.aclose()


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers every request with ``hello``."""
    await respond(send, b"hello")


async def respond(send: Send, body: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers or []})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    """The whole request body; EOFError if the client left before."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with method, path and body."""
    body = await read_body(receive)
    await respond(send, scope["method"].encode() + b" " + scope["path"].encode() + b" " + body)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until ``condition()`` holds; fails after ``seconds``."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is of any kind
            await trio.sleep(0.005)
