"""The ways out that are built: the publishers, and the HTTP servers in front of those that answer requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from appliance.engine.ports import Ports
from appliance.engine.srt_ports import srt_ports
from appliance.errors import KilnError
from appliance.media.contracts import Context, Progress, Publisher
from appliance.media.tasks import TaskChanged, TaskRunner
from appliance.net.asgi import ASGIApp, Receive, Scope, Send
from appliance.net.direct import WithDirect
from appliance.net.http_server import HttpServer
from appliance.net.limits import Limits
from appliance.net.listener import Listener
from appliance.net.srt import SrtListener, SrtMissing
from appliance.publishers import hls, thumbnail
from appliance.publishers.dump import DumpRunner
from appliance.publishers.hls import HlsPublisher
from appliance.publishers.llhls import LlhlsPublisher
from appliance.publishers.push import PushRunner
from appliance.publishers.record import RecordRunner
from appliance.publishers.srt import SrtPlayPort, SrtPlayServer, SrtPublisher
from appliance.publishers.thumbnail import ThumbnailPublisher
from appliance.settings import models
from appliance.storage.client import DiskClient
from appliance.supervisor import ChildSpec, Supervisor

SERVER_HEADER = "Kiln"
#: Viewers behind one address translator are many.
DELIVERY_LIMITS = Limits(connections=8192, connections_per_peer=4096)
#: The API bounds the bodies that it reads itself, to say so in its own words.
API_LIMITS = Limits(body_size=1 << 40)


@dataclass(slots=True)
class Fronts:
    """The ASGI applications that stand above the engine: the management API, and the status page."""

    api: ASGIApp
    status: ASGIApp


class Delivery:
    """Every publisher, made once. ``publishers`` are those that get each output stream, ``runners`` those that carry
    out tasks, by kind (``record``, ``push``, ``dump``): they tell ``changed`` of what is worth keeping."""

    def __init__(self, context: Context, changed: TaskChanged, disk: DiskClient) -> None:
        def short() -> str:
            return disk.short

        self.llhls = LlhlsPublisher(context, short)
        self.hls = HlsPublisher(context)
        self.thumbnail = ThumbnailPublisher(context)
        self.srt = SrtPublisher()
        self.dumps = DumpRunner(context, self.llhls, changed, short)
        #: With its counters, and the statistics of each player; None when SRT is off.
        self.srt_server: SrtPlayServer | None = None
        self._context = context
        self.runners: dict[str, TaskRunner[Any]] = {
            "dump": self.dumps, "push": PushRunner(context, changed),
            "record": RecordRunner(context, disk, changed),
        }  # fmt: skip

    @property
    def publishers(self) -> Sequence[Publisher]:
        return (self.llhls, self.hls, self.thumbnail, self.srt)

    def add_srt(
        self, bind: models.BindSrtPublisher | None, addresses: Sequence[str], ports: Ports, supervisor: Supervisor
    ) -> None:
        """The port that SRT players call, as a child of ``supervisor``."""
        if bind is None:
            return
        places = srt_ports(bind, addresses)

        def opened(listeners: Sequence[SrtListener]) -> None:
            ports.forget("srt-play")
            for listener in listeners:
                ports.opened("srt-play", "srt", listener.host, listener.port)
            ports.attempted("srt-play")

        async def start(progress: Progress) -> None:
            server = SrtPlayServer(self._context, self.srt, [SrtPlayPort(*place) for place in places], opened)
            self.srt_server = server
            try:
                await server.run(progress)
            except SrtMissing as error:
                # Nothing to try again: the box does without.
                ports.failed("srt-play", error)
                await trio.sleep_forever()
            except KilnError as error:
                ports.failed("srt-play", error)
                raise

        ports.expect("srt-play")
        supervisor.add(ChildSpec(name="srt-play", start=start, order=10))

    def app(self, status: ASGIApp) -> ASGIApp:
        """What the delivery port answers: its own pages are ``/`` and what lies under ``/-/``, all else a stream's."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("path", "")
            if path == "/" or path.startswith("/-/"):
                await status(scope, receive, send)
            elif hls.claims(path, scope.get("query_string", b"")):
                await self.hls.app(scope, receive, send)
            elif thumbnail.claims(path):
                await self.thumbnail.app(scope, receive, send)
            else:
                await self.llhls.app(scope, receive, send)

        return WithDirect(app, self.llhls.app.direct)


class HttpServers:
    """Adds HTTP servers to ``supervisor``: a fault in one is the others' only by the port."""

    def __init__(self, ports: Ports, supervisor: Supervisor) -> None:
        self._ports = ports
        self._supervisor = supervisor

    def add(self, name: str, app: ASGIApp, listeners: Sequence[Listener], limits: Limits) -> None:
        """``name`` is what the ports are known by (``api``, ``llhls-tls`` …)."""

        async def start(progress: Progress) -> None:
            # A new life binds anew: the port may have been taken or given back meanwhile.
            self._ports.bind(name, listeners)
            try:
                await HttpServer(app, name=name, server_header=SERVER_HEADER, limits=limits).serve(listeners)
            finally:
                for listener in listeners:
                    listener.close()

        self._ports.expect(name)
        self._supervisor.add(ChildSpec(name=f"http:{name}", start=start, order=10))
