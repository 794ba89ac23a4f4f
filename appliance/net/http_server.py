"""The HTTP server: ASGI 3 on trio over HTTP/1.1, HTTP/2 and WebSocket, on TCP, TLS and unix sockets."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import struct
from collections.abc import Sequence

import trio

from appliance.net.asgi import ASGIApp, BodyLimit, ClientDisconnected, Scope, error_body
from appliance.net.connection import Address, Connection, Server
from appliance.net.direct import direct_of
from appliance.net.dispatcher import Dispatcher
from appliance.net.http1 import Http1Connection
from appliance.net.http1_direct import DirectHttp1Connection
from appliance.net.http1_parser import Request
from appliance.net.limits import Limits
from appliance.net.listener import Listener, bind_listeners
from appliance.net.quiet_log import QuietLog
from appliance.net.request_fields import RequestFields
from appliance.net.response import Heads
from appliance.net.tcp_server import PeerCounts, accept_forever, peer_address
from appliance.net.tls import handshake
from appliance.net.transport import PlainTransport, TlsTransport

LOG = logging.getLogger("kiln.net")

_MOST_TURNED_AWAY = 64


class HttpServer:
    """Serves one ASGI app on any number of listeners. One object is served once; a restart is a new object.

    ``name`` is for the log, ``server_header`` the Server header of all answers (None: none). ``body_limit(scope)``
    gives the largest request body in bytes for a request that has one (default: ``limits.body_size`` for all).

    ``scope["extensions"]`` offers ``kiln.park`` (``await park(lot, deadline=inf)``, see ``net.parking.Park``),
    ``kiln.buffers`` (``http.response.body`` may carry ``buffers``, a list of bytes-likes sent after ``body``, never
    joined) and, on unix sockets, ``kiln.peer`` (``{"pid", "uid", "gid"}``). What an app has as ``direct`` answers
    (``net.direct``) is given without a task a request.

    ``requests`` counts requests given to the app, ``connections`` is the number open now.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        name: str,
        server_header: str | None,
        limits: Limits | None = None,
        body_limit: BodyLimit | None = None,
    ) -> None:
        self.app = app
        self.name = name
        self.limits = limits or Limits()
        self.requests = 0
        self.stopping = False
        self.now = 0.0  # The time of the last sweep, for deadlines that need be no more exact than that.
        self.heads = Heads(server_header)
        self.request_fields = RequestFields()
        self._direct = direct_of(app)
        self._dispatcher: Dispatcher | None = None
        self._body_limit = body_limit
        self._quiet = QuietLog(LOG)
        self._counts = PeerCounts(self.limits)
        self._open: set[Connection] = set()
        self._turned_away = 0
        self._handshakes = trio.Semaphore(self.limits.handshakes)
        self._accepting = trio.CancelScope()
        self._serving: trio.CancelScope | None = None
        self._emptied = trio.lowlevel.ParkingLot()
        self._ended = trio.Event()

    @property
    def connections(self) -> int:
        return len(self._open)

    def body_limit(self, scope: Scope) -> int:
        return self._body_limit(scope) if self._body_limit else self.limits.body_size

    def note(self, key: str, message: str, *args: object) -> None:
        """Log a warning, at most one a second for each key."""
        self._quiet.log(logging.WARNING, key, message, *args)

    def handler_failed(self, scope: Scope, error: Exception) -> None:
        """Log what a handler raised, with its traceback."""
        self._quiet.log(
            logging.ERROR,
            f"{type(error).__name__} {scope['path']}",
            "event=handler_failed server=%s path=%s",
            self.name,
            scope["path"],
            error=error,
        )

    async def serve(
        self,
        listeners: Sequence[Listener],
        task_status: trio.TaskStatus[list[Listener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled or shut down; then the listeners are closed. Raises KilnError if one can't be bound.

        Reports the bound listeners when it accepts connections.
        """
        if self._serving is not None:
            raise RuntimeError("a server is served once")
        if self.stopping:
            task_status.started([])
            return
        bound = bind_listeners(listeners)
        self.now = trio.current_time()
        if self._direct is not None:
            self._dispatcher = Dispatcher()
        try:
            async with trio.open_nursery() as nursery:
                if self._dispatcher is not None:
                    nursery.start_soon(self._dispatcher.run)
                self._serving = nursery.cancel_scope
                nursery.start_soon(self._sweep)
                nursery.start_soon(self._accept, bound, nursery)
                task_status.started(bound)
        finally:
            for listener in bound:
                listener.close()
            if self._dispatcher is not None:
                self._dispatcher.close()
            self._ended.set()

    async def shut_down(self, grace_s: float) -> None:
        """Accept nothing more, let running answers end within ``grace_s`` seconds, then cut. Returns when closed."""
        self.stopping = True
        self._accepting.cancel()
        if self._serving is None:
            return
        for connection in list(self._open):
            connection.stop_when_idle()
        with trio.move_on_after(grace_s):
            while self._open:
                await self._emptied.park()
        for connection in self._open:
            connection.transport.reset()
        self._serving.cancel()
        await self._ended.wait()

    async def _accept(self, listeners: list[Listener], connections: trio.Nursery) -> None:
        with self._accepting:
            try:
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        nursery.start_soon(self._accept_on, listener, connections)
            finally:
                for listener in listeners:
                    if listener.bound:
                        trio.lowlevel.notify_closing(listener.sock)
                        listener.close()

    async def _accept_on(self, listener: Listener, connections: trio.Nursery) -> None:
        def accepted(sock: socket.socket, address: object) -> None:
            host, port = peer_address(address)
            refusal = self._counts.take(host)
            if not refusal:
                connections.start_soon(self._connection, sock, host, port, listener)
                return
            self._quiet.log(
                logging.WARNING, refusal, "event=refused server=%s peer=%s reason=%s", self.name, host, refusal
            )
            if listener.contexts is None and self._turned_away < _MOST_TURNED_AWAY:
                self._turned_away += 1
                connections.start_soon(self._turn_away, sock)
            else:
                sock.close()

        await accept_forever(listener.sock, accepted, name=f"{self.name} {listener}")

    async def _turn_away(self, sock: socket.socket) -> None:
        """Answer 503 to a connection over the limits, and close it once the client has read that."""
        transport = PlainTransport(sock)
        body = error_body(503)
        fields = b"content-length: %d\r\nretry-after: 5\r\nconnection: close\r\n\r\n" % len(body)
        try:
            with contextlib.suppress(OSError), trio.move_on_after(self.limits.sweep_interval):
                transport.try_send([self.heads.start(503) + fields + body])
                transport.shut_write()
                while transport.try_receive() != b"":
                    await trio.lowlevel.wait_readable(transport.fd)
        finally:
            self._turned_away -= 1
            transport.close()

    async def _connection(self, sock: socket.socket, host: str, port: int, listener: Listener) -> None:
        """One connection from accept to close. Nothing but cancellation of the server leaves it."""
        transport: PlainTransport = PlainTransport(sock)
        try:
            if listener.contexts is not None:
                transport = TlsTransport(
                    listener.contexts.default.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                )
                shaking = _Handshake(self, transport, (host, port), self._handshakes)
                if await self._run(shaking):
                    await self._run(self._connected(transport, shaking.protocol, host, port, listener))
            else:
                await self._run(self._connected(transport, None, host, port, listener))
        except (OSError, ValueError) as error:
            LOG.debug("event=connection_lost server=%s peer=%s reason=%s", self.name, host, error)
        finally:
            transport.close()
            self._counts.give_back(host)

    async def _run(self, connection: Connection) -> bool:
        """Run it to its end; whether that was a good one."""
        self._open.add(connection)
        try:
            with connection.scope:
                if self.stopping:
                    return False
                await connection.run()
                return True
        except (ClientDisconnected, ssl.SSLError):
            pass
        except Exception as error:
            self._quiet.log(
                logging.ERROR, type(error).__name__, "event=connection_failed server=%s", self.name, error=error
            )
        finally:
            self._open.discard(connection)
            if not self._open:
                self._emptied.unpark_all()
        return False

    def _connected(
        self, transport: PlainTransport, protocol: str | None, host: str, port: int, listener: Listener
    ) -> Connection:
        client: Address | None = None
        local: tuple[str, int | None] = (listener.path, None)
        extensions: dict[str, object] = {"kiln.buffers": {}}
        if listener.path:
            credentials = transport.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, gid = struct.unpack("3i", credentials)
            extensions["kiln.peer"] = {"pid": pid, "uid": uid, "gid": gid}
        else:
            client = (host, port)
            local = peer_address(transport.sock.getsockname())
        connection: Connection
        if protocol == "h2":
            from appliance.net.http2 import Http2Connection

            connection = Http2Connection(self, transport, client, local, self._direct, self._dispatcher)
        else:
            connection = self._http1(transport, client, local)
            extensions["kiln.park"] = connection.parking.park
        connection.extensions.update(extensions)
        return connection

    def _http1(self, transport: PlainTransport, client: Address | None, local: object) -> Http1Connection:
        if self._direct is None or self._dispatcher is None:
            return Http1Connection(self, transport, client, local, _run_websocket)
        return DirectHttp1Connection(self, transport, client, local, _run_websocket, self._direct, self._dispatcher)

    async def _sweep(self) -> None:
        """Once an interval: deadlines, and clients that left while their handler runs."""
        while True:
            await trio.sleep(self.limits.sweep_interval)
            now = self.now = trio.current_time()
            poll = select.poll()
            watched: dict[int, Connection] = {}
            for connection in self._open:
                try:
                    connection.enforce(now)
                except Exception as error:
                    self._quiet.log(logging.ERROR, "sweep", "event=sweep_failed server=%s", self.name, error=error)
                    connection.abandon()
                if connection.busy and connection.transport.fd >= 0:
                    watched[connection.transport.fd] = connection
                    poll.register(connection.transport.fd, select.POLLRDHUP)
            if watched:
                for fd, events in poll.poll(0):
                    watched[fd].client_left(reset=bool(events & (select.POLLHUP | select.POLLERR)))


async def _run_websocket(connection: Http1Connection, request: Request) -> None:
    from appliance.net.websocket import run_websocket

    await run_websocket(connection, request)


class _Handshake(Connection):
    """A connection whose TLS handshake runs."""

    protocol: str | None = None

    def __init__(self, server: Server, transport: PlainTransport, client: Address, slots: trio.Semaphore) -> None:
        super().__init__(server, transport, client, None)
        self._slots = slots

    async def run(self) -> None:
        self.read_deadline = trio.current_time() + self.limits.handshake_timeout
        sock = self.transport.sock
        assert isinstance(sock, ssl.SSLSocket)
        await handshake(sock, self._slots)
        self.protocol = sock.selected_alpn_protocol()

    def stop_when_idle(self) -> None:
        self.scope.cancel()
