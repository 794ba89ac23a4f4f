"""The SRT provider: encoders call it (wire catalogue 6.1 to 6.3)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec
import trio

from appliance.errors import Forbidden, KilnError, Unavailable
from appliance.media.contracts import Context
from appliance.net.quiet_log import QuietLog
from appliance.net.srt import Caller, SrtListener, SrtSocket, SrtStatistics, version
from appliance.protocols.mpegts.demuxer import Damage
from appliance.protocols.srt_streamid import without_secrets
from appliance.providers.srt.admission import Wish, find, reject_code, source_of
from appliance.providers.srt.connection import Connection

log = logging.getLogger("kiln.srt")

#: How often connections are looked at for what they fail to do (s).
_SWEEP: Final = 1.0
#: Connections of one address that send nothing yet.
PENDING_PER_ADDRESS: Final = 32
#: Reasons of refusals that are told apart; they are ours, not the peers', so this is never reached.
_MOST_REASONS: Final = 64


@dataclass(frozen=True, slots=True)
class SrtPort:
    """One port to listen on. ``options`` are libsrt's by name; ``stream_path`` is ``vhost/app/stream`` for callers that
    send no stream id, "" when those are refused."""

    host: str
    port: int
    options: Mapping[str, str] = field(default_factory=dict)
    stream_path: str = ""


class Counters(msgspec.Struct):
    """Since the provider was made; ``connections`` and ``publishers`` are of now. ``reasons``: refusals by reject
    code."""

    connections: int = 0
    publishers: int = 0
    accepted: int = 0
    published: int = 0
    refused: int = 0
    protocol_errors: int = 0
    reasons: dict[int, int] = msgspec.field(default_factory=dict)


class SrtProvider:
    """A supervised child: ``run`` serves until cancelled. ``counters`` and ``statistics`` may be read at any time."""

    name = "srt"

    def __init__(
        self, context: Context, ports: Sequence[SrtPort], opened: Callable[[Sequence[SrtListener]], None] | None = None
    ) -> None:
        """``opened`` is called with the listeners once all are bound."""
        self.counters = Counters()
        self.connections: set[Connection] = set()
        self._directory = context.directory
        self._ports = list(ports)
        self._listeners: list[SrtListener] = []
        self._opened = opened
        self._publishing: Counter[tuple[str, str]] = Counter()
        self._quiet = QuietLog(log)

    @property
    def statistics(self) -> dict[str, SrtStatistics]:
        """Of every publisher, by ``vhost/app/stream``."""
        return {connection.label: connection.statistics for connection in self.connections}

    @property
    def damage(self) -> dict[str, Damage]:
        """What was wrong with the transport packets of every publisher, by ``vhost/app/stream``."""
        return {connection.label: connection.feed.damage for connection in self.connections}

    @property
    def ports(self) -> list[int]:
        """The ports that are listened on, in the order they were given in."""
        return [listener.port for listener in self._listeners]

    async def run(
        self, progress: Callable[[], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Raises SrtMissing, ConfigError (an option) and KilnError when a port can't be bound."""
        await trio.to_thread.run_sync(version)
        try:
            for port in self._ports:
                listener = SrtListener(port.host, port.port, options=port.options, decide=partial(self._judge, port))
                listener.bind()
                self._listeners.append(listener)
            if self._opened is not None:
                self._opened(self._listeners)
            async with trio.open_nursery() as nursery:
                for listener, port in zip(self._listeners, self._ports, strict=True):
                    nursery.start_soon(self._accept, nursery, listener, port)
                task_status.started()
                await self._sweep(progress)
        finally:
            for listener in self._listeners:
                listener.close()

    def _judge(self, port: SrtPort, caller: Caller) -> int:
        """In a thread of libsrt: looks, and changes nothing but counts."""
        try:
            wish = self._find(port, caller.stream_id)
            source = source_of(caller.peer, caller.address)
            self._directory.check_input(wish.vhost, wish.app, wish.stream, source, replace=wish.replace)
            pending = sum(
                1 for each in self.connections.copy() if each.socket.address == caller.address and not each.sending
            )
            if pending >= PENDING_PER_ADDRESS:
                raise Unavailable(f"{PENDING_PER_ADDRESS} connections of this address that send nothing")
        except KilnError as error:
            return self._refused(caller.peer, caller.stream_id, error)
        return 0

    def _find(self, port: SrtPort, stream_id: str) -> Wish:
        wish = find(self._directory, stream_id, port.stream_path)
        most = wish.settings.max_connection
        if most and self._publishing[wish.vhost, wish.app] >= most:
            raise Forbidden(f"application {wish.app!r} takes no more than {most} SRT publishers")
        return wish

    def _refused(self, peer: str, stream_id: str, error: KilnError) -> int:
        code = reject_code(error)
        counters = self.counters
        counters.refused += 1
        if len(counters.reasons) < _MOST_REASONS:
            counters.reasons[code] = counters.reasons.get(code, 0) + 1
        shown = without_secrets(stream_id)
        self._quiet.log(logging.WARNING, str(code), "caller refused peer=%s stream_id=%r code=%d reason=%r",
                        peer, shown, code, str(error))  # fmt: skip
        return code

    async def _accept(self, nursery: trio.Nursery, listener: SrtListener, port: SrtPort) -> None:
        while True:
            socket = await listener.accept()
            connection = self._open(socket, port)
            if connection is not None:
                nursery.start_soon(self._serve, connection)

    def _open(self, socket: SrtSocket, port: SrtPort) -> Connection | None:
        """Take the name. Somebody may have been quicker since the caller was judged."""
        try:
            wish = self._find(port, socket.stream_id)
            source = source_of(socket.peer, socket.address)
            target = self._directory.open_input(wish.vhost, wish.app, wish.stream, source, replace=wish.replace)
        except KilnError as error:
            self._refused(socket.peer, socket.stream_id, error)
            socket.close()
            return None
        connection = Connection(socket, wish, target)
        counters = self.counters
        counters.accepted += 1
        counters.connections += 1
        self._publishing[wish.vhost, wish.app] += 1
        self.connections.add(connection)
        return connection

    async def _serve(self, connection: Connection) -> None:
        place = connection.wish.vhost, connection.wish.app
        reason = ""
        try:
            reason = await connection.run()
        except Exception as error:
            # One publisher's fault is not the others'.
            self._quiet.log(logging.ERROR, "fault", "publisher failed stream=%s", connection.label, error=error)
        finally:
            self.connections.discard(connection)
            counters = self.counters
            counters.connections -= 1
            counters.published += connection.feed.on_air
            counters.protocol_errors += reason.startswith("protocol error")
            self._publishing[place] -= 1
            if not self._publishing[place]:
                del self._publishing[place]

    async def _sweep(self, progress: Callable[[], None]) -> None:
        """One timer for the deadlines of all connections."""
        while True:
            progress()
            await trio.sleep(_SWEEP)
            now = trio.current_time()
            self.counters.publishers = sum(connection.feed.on_air for connection in self.connections)
            for connection in tuple(self.connections):
                reason = connection.overdue(now)
                if reason:
                    connection.cancel(reason)
