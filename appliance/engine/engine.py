"""The composition root: everything that runs in the engine process is built and wired here."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from appliance.access.tokens import AccessToken
from appliance.engine.certificates import Certificates
from appliance.engine.directory import Directory
from appliance.engine.not_built import without_effect
from appliance.engine.services import Services
from appliance.errors import KilnError, WorkerFault
from appliance.media.clock import Clock
from appliance.media.contracts import Context, Publisher
from appliance.net.asgi import ASGIApp, Receive, Scope, Send
from appliance.net.http_server import HttpServer
from appliance.net.limits import Limits
from appliance.net.listener import Listener, bind_listeners
from appliance.notify import LoopLag, Notifier, Watchdog
from appliance.providers.capture import CaptureProvider
from appliance.providers.rtmp import RtmpProvider
from appliance.publishers.llhls import LlhlsPublisher
from appliance.settings import models
from appliance.settings.schema import Raw
from appliance.settings.store import Store
from appliance.supervisor import Alarm, ChildSpec, Progress, Supervisor
from appliance.transcoder.pool import WorkerPool

log = logging.getLogger("kiln.engine")

SERVER_HEADER = "Kiln"
#: Viewers behind one address translator are many.
DELIVERY_LIMITS = Limits(connections=8192, connections_per_peer=4096)
API_LIMITS = Limits()
#: Each look at the lag of the loop wakes the box up (seconds).
LAG_SAMPLES_EVERY = 0.5


@dataclass(slots=True)
class Fronts:
    """The ASGI applications that stand above the engine: the management API, and the status page."""

    api: ASGIApp
    status: ASGIApp


@dataclass(slots=True)
class Bound:
    """Where the box can be reached, filled as sockets are bound: (service, scheme, host, port)."""

    services: list[tuple[str, str, str, int]] = field(default_factory=list)

    def port(self, service: str, scheme: str) -> int | None:
        return next((port for name, kind, _, port in self.services if (name, kind) == (service, scheme)), None)


class Engine:
    """``settings`` is the whole Server.xml, ``raw`` the same as written; ``state`` the folder with store, token, keys
    and recordings."""

    def __init__(
        self, settings: models.Server, raw: Raw, *, state: Path, store: Store, token: AccessToken,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.state = state
        self.store = store
        self.token = token
        self.clock = clock or Clock()
        self.alarms: dict[str, str] = {}
        self.bound = Bound()
        self.started_wall = self.clock.wall()
        self.supervisor = Supervisor("kiln", on_alarm=self._note_alarm)
        self.pool = WorkerPool()
        self.lag = LoopLag(interval=LAG_SAMPLES_EVERY)
        self.certificates: Certificates | None = None
        self.publishers: list[Publisher] = []
        self.directory = Directory(
            zip(settings.virtual_hosts, raw.get("virtualHosts", ()), strict=True),
            Services(self.clock, self.supervisor, self.pool, self.publishers),
        )
        for path, effect in without_effect(settings):
            self.alarms[f"settings:{path}"] = f"not built in this version: {effect}"
            log.warning("not built in this version setting=%s effect=%r", path, effect)
        self._stop = trio.Event()
        self._attempted: set[str] = set()
        self._expected: set[str] = set()
        self._all_attempted = trio.Event()

    async def run(self, make_fronts: Callable[[Engine], Fronts], ready: Callable[[], Awaitable[None]]) -> None:
        """Be on the air until ``stop`` is called, then stop in order. ``ready`` is awaited once all ports are tried."""
        # The first worker loads its libraries while the rest of the box comes up.
        with suppress(WorkerFault):
            self.pool.fill()
        notifier = Notifier(os.environ)
        async with trio.open_nursery() as nursery:
            context = Context(
                directory=self.directory, clock=self.clock, nursery=nursery, reserve=self.store.reserve,
                environment=os.environ,
            )  # fmt: skip
            llhls = LlhlsPublisher(context)
            self.publishers.append(llhls)
            fronts = make_fronts(self)
            async with self.supervisor:
                self._add_children(context, fronts, llhls, notifier)
                await self._all_attempted.wait()
                await ready()
                notifier.ready("on the air")
                await self._stop.wait()
                notifier.stopping()
                log.info("stopping")
                self.directory.close("the box is shutting down")
                await self.supervisor.shut_down()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        self._stop.set()

    def reload_certificates(self) -> None:
        """Read all certificate files again; a bad one is refused, logged, and the old one stays."""
        faults = self.certificates.reload() if self.certificates else []
        for fault in faults:
            log.error("certificate refused, the old one stays reason=%s", fault)
        log.info("certificates read again refused=%d", len(faults))

    def _note_alarm(self, alarm: Alarm) -> None:
        if alarm.active:
            self.alarms[alarm.path] = alarm.text
        else:
            self.alarms.pop(alarm.path, None)

    # Children

    def _add_children(self, context: Context, fronts: Fronts, llhls: LlhlsPublisher, notifier: Notifier) -> None:
        add = self.supervisor.add
        add(ChildSpec(name="worker-pool", start=self.pool.run, order=5))
        add(ChildSpec(name="loop-lag", start=self.lag.run, order=0))
        add(ChildSpec(name="watchdog", start=Watchdog(notifier, self.lag, self._trouble).run, order=0))
        self._add_http_servers(fronts, llhls)
        self._add_rtmp(context)
        self._add_capture(context)

    def _trouble(self) -> str:
        """Why the core is not healthy, "" when it is."""
        abandoned = self.supervisor.abandoned
        return f"tasks that can't be stopped: {', '.join(abandoned)}" if abandoned else ""

    def _add_http_servers(self, fronts: Fronts, llhls: LlhlsPublisher) -> None:
        bind = self.settings.bind
        delivery = bind.publishers.llhls
        if delivery is not None and self.settings.modules.llhls.enable:
            self._add_http("llhls", _status_beside(fronts.status, llhls.app), delivery.port, delivery.tls_port,
                           DELIVERY_LIMITS)  # fmt: skip
        api = bind.managers.api
        if api is not None:
            self._add_http("api", fronts.api, api.port, api.tls_port, API_LIMITS)
        self._add_server("api-socket", fronts.api, [Listener.unix(self.state / "kiln.sock")], API_LIMITS)

    def _add_http(self, name: str, app: ASGIApp, port: int, tls_port: int | None, limits: Limits) -> None:
        listeners = [Listener.tcp(host, port) for host in self.settings.ip]
        self._add_server(name, app, listeners, limits)
        if tls_port is not None:
            certificates = self._read_certificates()
            contexts = certificates.api if name == "api" else certificates.delivery
            self._add_server(f"{name}-tls", app, [Listener.tls(host, tls_port, contexts) for host in self.settings.ip],
                             limits)  # fmt: skip

    def _read_certificates(self) -> Certificates:
        if self.certificates is None:
            self.certificates = Certificates(self.settings, self.state / "tls")
            for number, reason in enumerate(self.certificates.refused):
                self.alarms[f"certificate:{number}"] = reason
        return self.certificates

    def _add_server(self, name: str, app: ASGIApp, listeners: Sequence[Listener], limits: Limits) -> None:
        async def start(progress: Progress) -> None:
            # A new life binds anew: the port may have been taken or given back meanwhile.
            self._bind(name, listeners)
            try:
                await HttpServer(app, name=name, server_header=SERVER_HEADER, limits=limits).serve(listeners)
            finally:
                for listener in listeners:
                    listener.close()

        self._expected.add(name)
        self.supervisor.add(ChildSpec(name=f"http:{name}", start=start, order=10))

    def _bind(self, name: str, listeners: Sequence[Listener]) -> None:
        """Raises KilnError, and an alarm stands until a later try has the port."""
        try:
            bind_listeners(listeners)
        except KilnError as error:
            self.alarms[f"port:{name}"] = f"{error}. {error.hint}"
            raise
        else:
            self.alarms.pop(f"port:{name}", None)
            self._note_bound(name, listeners)
        finally:
            self._note_attempt(name)

    def _note_bound(self, name: str, listeners: Sequence[Listener]) -> None:
        self.bound.services = [service for service in self.bound.services if service[0] != name]
        for listener in listeners:
            scheme = "unix" if listener.path else "https" if listener.contexts else "http"
            port = 0 if listener.path else listener.port
            self.bound.services.append((name, scheme, listener.path or listener.host, port))
            log.info("listening service=%s on=%s", name, listener)

    def _note_attempt(self, name: str) -> None:
        self._attempted.add(name)
        if self._attempted >= self._expected:
            self._all_attempted.set()

    def _add_rtmp(self, context: Context) -> None:
        bind = self.settings.bind.providers.rtmp
        if bind is None:
            return
        listeners = [Listener.tcp(host, bind.port) for host in self.settings.ip]

        async def start(progress: Progress) -> None:
            self._bind("rtmp", listeners)
            try:
                await RtmpProvider(context, listeners).run(progress)
            finally:
                for listener in listeners:
                    listener.close()

        self._expected.add("rtmp")
        self.supervisor.add(ChildSpec(name="rtmp", start=start, order=50))

    def _add_capture(self, context: Context) -> None:
        for vhost in self.directory.vhosts.values():
            for application in vhost.applications.values():
                capture = application.settings.providers.capture
                for stream in capture.streams if capture else ():
                    self.supervisor.add(
                        ChildSpec(
                            name=f"capture:{application.label}/{stream.name}",
                            start=partial(_capture, context, vhost.name, application.name, stream),
                            order=50,
                        )
                    )


async def _capture(
    context: Context, vhost: str, app: str, stream: models.CaptureStream, progress: Progress
) -> None:
    await CaptureProvider(context, vhost, app, stream.name, stream.url).run(progress)


def _status_beside(status: ASGIApp, delivery: ASGIApp) -> ASGIApp:
    """The delivery port's own pages are ``/`` and what lies under ``/-/``; everything else is a stream's."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == "/" or path.startswith("/-/"):
            await status(scope, receive, send)
        else:
            await delivery(scope, receive, send)

    return app


__all__ = ["Bound", "Engine", "Fronts", "KilnError"]
