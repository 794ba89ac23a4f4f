"""The RTMP provider: encoders publish to it (wire catalogue 5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from appliance.errors import ConfigError
from appliance.media.contracts import Context
from appliance.net.limits import Limits
from appliance.net.listener import Listener, bind_listeners
from appliance.net.tcp_server import serve_tcp
from appliance.providers.rtmp.connection import Connection
from appliance.providers.rtmp.ingest import Peer
from appliance.providers.rtmp.room import Counters, Room

log = logging.getLogger("kiln.rtmp")

#: How often connections are looked at for what they fail to do (s).
_SWEEP: Final = 1.0


class RtmpProvider:
    """A supervised child: ``run`` binds ``listeners`` and serves until cancelled; it may be run again after a fault.

    ``counters``, ``bytes`` and ``connections`` may be read at any time.
    """

    name = "rtmp"

    def __init__(self, context: Context, listeners: Sequence[Listener], *, limits: Limits | None = None) -> None:
        """Raises ConfigError for a TLS listener: RTMPS is not terminated here."""
        if any(listener.contexts is not None for listener in listeners):
            raise ConfigError("RTMP over TLS is not served in this version", hint="remove TLSPort from Providers/RTMP")
        self.connections: set[Connection] = set()
        self._bytes_before = 0
        self._room = Room(context.directory)
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
        await serve_tcp(listener.sock, self._handle, limits=self._limits, name="rtmp", task_status=task_status)

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
