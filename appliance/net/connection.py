"""What every connection has: a transport, a cancel scope, and deadlines that the server's sweep enforces."""

from __future__ import annotations

import math
from typing import Any, Protocol

import trio

from appliance.net.asgi import ASGI_VERSION, ASGIApp, ClientDisconnected, Headers, Scope, parse_target
from appliance.net.limits import Limits
from appliance.net.parking import ParkedTask, ParkingLot
from appliance.net.request_fields import RequestFields
from appliance.net.response import Heads
from appliance.net.transport import PlainTransport

Address = tuple[str, int]


class Server(Protocol):
    """What a connection needs of its server. ``now`` is the time of the last sweep."""

    app: ASGIApp
    name: str
    limits: Limits
    heads: Heads
    request_fields: RequestFields
    requests: int
    stopping: bool
    now: float

    def body_limit(self, scope: Scope) -> int: ...

    def note(self, key: str, message: str, *args: object) -> None: ...

    def handler_failed(self, scope: Scope, error: Exception) -> None: ...


class Parking:
    """The one place where a handler parks: what the sweep must know of it."""

    __slots__ = ("place",)

    def __init__(self) -> None:
        self.place: ParkedTask | None = None

    async def park(self, lot: ParkingLot, deadline: float = math.inf) -> bool:
        """``scope["extensions"]["kiln.park"]``; see ``appliance.net.parking.Park``. One wait at a time."""
        if self.place is not None:
            raise RuntimeError("this request is parked already")
        if trio.current_time() >= deadline:
            await trio.lowlevel.checkpoint()
            return False
        self.place = ParkedTask(deadline)
        try:
            return await lot.park(self.place)
        finally:
            self.place = None

    def enforce(self, now: float) -> None:
        place = self.place
        if place is not None and now >= place.deadline:
            place.give_up()


class Connection:
    """One connection. ``scope`` cancels all that runs for it; ``gone``: nobody is there to send to.

    ``busy`` connections have a handler running and do not read: the sweep asks the kernel whether the client left.
    """

    def __init__(self, server: Server, transport: PlainTransport, client: Address | None, local: Any) -> None:
        self.server = server
        self.limits = server.limits
        self.transport = transport
        self.client = client
        self.local = local
        self.scope = trio.CancelScope()
        self.read_deadline = math.inf
        self.write_deadline = math.inf
        self.busy = False
        self.gone = False
        self.extensions: dict[str, Any] = {}
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": ASGI_VERSION,
            "scheme": transport.scheme,
            "root_path": "",
            "client": client,
            "server": local,
        }

    async def run(self) -> None:
        raise NotImplementedError

    def stop_when_idle(self) -> None:
        """The server shuts down: end now if nothing is being answered, else after that."""
        raise NotImplementedError

    def enforce(self, now: float) -> None:
        """Called by the sweep: act on what is overdue."""
        if now >= self.write_deadline:
            self.cut()
        elif now >= self.read_deadline:
            self.time_out()

    def time_out(self) -> None:
        """The peer sent nothing, or not enough, for too long."""
        self.abandon()

    def abandon(self) -> None:
        """Nobody is there: cancel whatever runs for this connection."""
        self.gone = True
        self.scope.cancel()

    def cut(self) -> None:
        """Drop the peer and whatever it has not read."""
        self.transport.reset()
        self.abandon()

    def client_left(self, reset: bool) -> None:
        """The kernel tells the sweep that the client closed its side, or (``reset``) both."""
        # A client that only ended its side may still read what is being written, and what it sent is read first.
        if reset or (self.write_deadline == math.inf and self.read_deadline == math.inf):
            self.abandon()

    async def write(self, buffers: list[bytes | memoryview]) -> None:
        """Send all, at once if the socket takes it. Raises ClientDisconnected."""
        try:
            rest = self.transport.try_send(buffers)
            if rest:
                await self._write_slowly(rest)
        except OSError as error:
            self.gone = True
            raise ClientDisconnected(str(error)) from error

    async def _write_slowly(self, buffers: list[bytes | memoryview]) -> None:
        transport = self.transport
        try:
            while buffers:
                self.write_deadline = trio.current_time() + self.limits.write_timeout
                await trio.lowlevel.wait_writable(transport.fd)
                buffers = transport.try_send(buffers)
        finally:
            self.write_deadline = math.inf

    def request_scope(
        self, kind: str, version: str, method: str, target: bytes, headers: Headers, extensions: dict[str, Any]
    ) -> Scope:
        """An ASGI scope. Raises BadTarget."""
        scope: Scope = self._scope.copy()
        scope["path"], scope["raw_path"], scope["query_string"] = parse_target(target)
        scope["http_version"] = version
        scope["headers"] = headers
        scope["extensions"] = extensions
        if kind == "http":
            scope["method"] = method
        else:
            scope["type"] = kind
            scope["scheme"] = self.transport.scheme.replace("http", "ws")
        return scope
