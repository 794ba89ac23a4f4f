"""The RTMP provider: encoders publish to it (wire catalogue 5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from appliance.media.contracts import Context
from appliance.net.limits import Limits
from appliance.net.listener import Listener, bind_listeners
from appliance.net.tcp_server import serve_tcp
from appliance.net.tls import TlsContexts
from appliance.providers.rtmp.connection import Connection, keep_alive
from appliance.providers.rtmp.ingest import Peer
from appliance.providers.rtmp.room import Counters, Room
from appliance.providers.rtmp.tls import without_tls

log = logging.getLogger("kiln.rtmp")

#: How often connections are looked at for what they fail to do (s).
_SWEEP: Final = 1.0


class RtmpProvider:
    """A supervised child: ``run`` binds ``listeners`` and serves until cancelled; it may be run again after a fault.

    ``counters``, ``bytes`` and ``connections`` may be read at any time.
    """

    name = "rtmp"

    def __init__(
        self, context: Context, listeners: Sequence[Listener], *, limits: Limits | None = None,
        room: Room | None = None,
    ) -> None:  # fmt: skip
        """Listeners with TLS serve RTMPS. ``room`` is shared with other providers of the same engine."""
        self.connections: set[Connection] = set()
        self._bytes_before = 0
        self._room = room or Room(context.directory)
        self._listeners = list(listeners)
        self._limits = limits or Limits()

    @property
    def counters(self) -> Counters:
        return self._room.counters

    @property
    def bytes(self) -> int:
        """Bytes received since the provider was made."""
        return self._bytes_before + sum(connection.bytes for connection in self.connections)

    @property
    def ports(self) -> list[int]:
        """The ports that are listened on, in the order of the listeners."""
        return [listener.port for listener in self._listeners]

    async def run(
        self,
        progress: Callable[[], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Raises KilnError when a port can't be bound. Calls ``progress`` once a second."""
        bind_listeners(self._listeners)
        try:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    await nursery.start(self._listen, listener)
                    log.info("listening for publishers address=%s", listener)
                task_status.started()
                await self._sweep(progress)
        finally:
            for listener in self._listeners:
                listener.close()

    async def _listen(self, listener: Listener, *, task_status: trio.TaskStatus[None]) -> None:
        name, handle = "rtmp", self._handle
        if listener.contexts is not None:
            name, handle = "rtmps", partial(self._handle_tls, listener.contexts)
        await serve_tcp(listener.sock, handle, limits=self._limits, name=name, task_status=task_status)

    async def _sweep(self, progress: Callable[[], None]) -> None:
        """One timer for the deadlines of all connections."""
        while True:
            progress()
            await trio.sleep(_SWEEP)
            now = trio.current_time()
            for connection in self.connections:
                reason = connection.overdue(now)
                if reason:
                    connection.cancel(reason)

    async def _handle_tls(self, contexts: TlsContexts, sock: trio.socket.SocketType, name: str) -> None:
        keep_alive(sock)
        async with without_tls(sock, contexts.default) as inner:
            if inner is not None:
                await self._handle(inner, name)

    async def _handle(self, sock: trio.socket.SocketType, name: str) -> None:
        peer = Peer(name, name.rpartition(":")[0])
        if not self._room.enter(peer):
            return
        connection = Connection(self._room, sock, peer)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self._bytes_before += connection.bytes
            self._room.leave()
            if not connection.published:
                self._room.no_longer_pending(peer)
