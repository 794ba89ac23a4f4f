"""The port that SRT players call (wire catalogue 6.4)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import msgspec
import trio

from appliance.errors import Forbidden, KilnError, NotFound, RemoteProtocolError, Unavailable
from appliance.media.contracts import Context
from appliance.net.quiet_log import QuietLog
from appliance.net.srt import Caller, SrtListener, SrtSocket, SrtStatistics, version
from appliance.protocols.srt_streamid import StreamId, parse_stream_id, without_secrets
from appliance.publishers.srt.programs import Viewer
from appliance.publishers.srt.publisher import Outlet, SrtPublisher

if TYPE_CHECKING:
    from appliance.settings.models import Application

log = logging.getLogger("kiln.srt")

_LOOK_EVERY: Final = 1.0
#: Players of one address at once.
_PER_ADDRESS: Final = 256


class BadMode(RemoteProtocolError):
    """The caller wants to publish where streams go out."""

    status = 405


@dataclass(frozen=True, slots=True)
class SrtPlayPort:
    """``options`` are libsrt's by name; ``stream_path`` is what callers without a stream id get, "" for nothing."""

    host: str
    port: int
    options: Mapping[str, str] = field(default_factory=dict)
    stream_path: str = ""


class Counters(msgspec.Struct):
    """Since the server was made. ``reasons``: refusals by reject code."""

    accepted: int = 0
    refused: int = 0
    reasons: dict[int, int] = msgspec.field(default_factory=dict)


class SrtPlayServer:
    """A supervised child: ``run`` listens and hands callers to ``publisher`` until cancelled."""

    def __init__(
        self, context: Context, publisher: SrtPublisher, ports: Sequence[SrtPlayPort],
        opened: Callable[[Sequence[SrtListener]], None] | None = None,
    ) -> None:  # fmt: skip
        """``opened`` is called with the listeners once all are bound."""
        self.counters = Counters()
        self._directory = context.directory
        self._publisher = publisher
        self._ports = list(ports)
        self._opened = opened
        self._listeners: list[SrtListener] = []
        self._quiet = QuietLog(log)

    @property
    def ports(self) -> list[int]:
        """The ports that are listened on, in the order they were given in."""
        return [listener.port for listener in self._listeners]

    @property
    def statistics(self) -> dict[str, list[SrtStatistics]]:
        """Of every player, by ``vhost/app/stream``."""
        return {
            outlet.output.label: [viewer.socket.statistics() for viewer in outlet.viewers]
            for outlet in self._publisher.outlets.values()
        }

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
                    nursery.start_soon(self._accept, listener, port)
                task_status.started()
                while True:
                    progress()
                    await trio.sleep(_LOOK_EVERY)
        finally:
            for listener in self._listeners:
                listener.close()

    def _judge(self, port: SrtPlayPort, caller: Caller) -> int:
        """In a thread of libsrt: looks, and changes nothing but counts."""
        try:
            self._find(port, caller.stream_id, caller.address)
        except KilnError as error:
            return self._refused(caller.peer, caller.stream_id, error)
        return 0

    def _find(self, port: SrtPlayPort, stream_id: str, address: str) -> tuple[Outlet, str]:
        text = stream_id or port.stream_path
        if not text:
            raise RemoteProtocolError("there is no stream id, and this port is not mapped to a stream")
        wanted = parse_stream_id(text)
        if wanted.mode == "publish":
            raise BadMode("this port gives streams out: publish to the SRT provider's port")
        vhost, application = self._resolve(wanted)
        settings = application.publishers.srt
        if settings is None:
            raise Forbidden(f"SRT is off for players in application {wanted.app!r}")
        outlet = self._publisher.outlets.get((vhost, wanted.app, wanted.stream))
        if outlet is None:
            raise NotFound(f"there is no stream {vhost}/{wanted.app}/{wanted.stream}")
        outlet.check(wanted.playlist)
        if settings.max_connection and self._publisher.watching(vhost, wanted.app) >= settings.max_connection:
            raise Unavailable(f"application {wanted.app!r} has no more than {settings.max_connection} SRT players")
        mine = [viewer for each in self._publisher.outlets.copy().values() for viewer in each.viewers
                if viewer.socket.address == address]  # fmt: skip
        if len(mine) >= _PER_ADDRESS:
            raise Unavailable(f"{_PER_ADDRESS} players of this address")
        return outlet, wanted.playlist

    def _resolve(self, wanted: StreamId) -> tuple[str, Application]:
        """Names of virtual hosts before domains. Raises NotFound."""
        directory = self._directory
        for vhost in (wanted.host, directory.vhost_for_host(wanted.host)):
            application = directory.application(vhost, wanted.app) if vhost else None
            if vhost and application is not None:
                return vhost, cast("Application", application)
        raise NotFound(f"there is no application {wanted.host}/{wanted.app}")

    def _refused(self, peer: str, stream_id: str, error: KilnError) -> int:
        code = 1000 + error.status
        self.counters.refused += 1
        self.counters.reasons[code] = self.counters.reasons.get(code, 0) + 1
        shown = without_secrets(stream_id)
        self._quiet.log(logging.WARNING, str(code), "player refused peer=%s stream_id=%r code=%d reason=%r",
                        peer, shown, code, str(error))  # fmt: skip
        return code

    async def _accept(self, listener: SrtListener, port: SrtPlayPort) -> None:
        while True:
            socket = await listener.accept()
            try:
                self._admit(socket, port)
            except KilnError as error:
                self._refused(socket.peer, socket.stream_id, error)
                socket.close()

    def _admit(self, socket: SrtSocket, port: SrtPlayPort) -> None:
        outlet, playlist = self._find(port, socket.stream_id, socket.address)
        label = outlet.output.label
        outlet.join(playlist, Viewer(socket, label))
        self.counters.accepted += 1
        log.info("player on stream=%s playlist=%s peer=%s latency_ms=%d", label, playlist or "playlist", socket.peer,
                 socket.latency_ms)  # fmt: skip
