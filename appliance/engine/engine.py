"""The composition root: everything that runs in the engine process is built and wired here."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from appliance.access.named_tokens import NamedTokens
from appliance.access.tokens import AccessToken
from appliance.engine.alarms import Alarms
from appliance.engine.certificate_store import CertificateStore
from appliance.engine.certificates import Certificates
from appliance.engine.channels import Channels
from appliance.engine.commands import Commands
from appliance.engine.configuration import Configuration
from appliance.engine.delivery import API_LIMITS, DELIVERY_LIMITS, Delivery, Fronts, HttpServers
from appliance.engine.directory import Directory
from appliance.engine.dynamic_applications import DynamicApplications
from appliance.engine.editor import Editor
from appliance.engine.garbage import collect_garbage
from appliance.engine.http_places import HttpPlace, http_places
from appliance.engine.import_config import ConfigImport
from appliance.engine.ingest import PORTS, Ingest
from appliance.engine.not_built import without_effect
from appliance.engine.origins import Origins
from appliance.engine.ports import Bound, Ports
from appliance.engine.pulls import Pulls
from appliance.engine.reconfigure import Reconfiguration
from appliance.engine.recordings import DISK_ORDER, Recordings
from appliance.engine.server_file import NAME as SERVER_FILE
from appliance.engine.server_file import ServerFile
from appliance.engine.services import Services
from appliance.engine.statistics import Statistics
from appliance.engine.tasks.board import KEEPER_ORDER, TaskBoard
from appliance.engine.tasks.kinds import KINDS
from appliance.engine.tasks.publisher import TaskPublisher
from appliance.engine.warm_up import warm_up
from appliance.errors import WorkerFault
from appliance.media.clock import Clock
from appliance.media.contracts import Context, Progress, Publisher, PullSource
from appliance.media.tasks import TaskRunner
from appliance.net.egress import Egress
from appliance.net.listener import Listener
from appliance.notify import LoopLag, Notifier, Watchdog
from appliance.settings import models
from appliance.settings.schema import Raw
from appliance.settings.store import Store
from appliance.settings.xml_edit import rendered
from appliance.supervisor import Alarm, ChildSpec, Restart, Supervisor
from appliance.transcoder.pool import WorkerPool

log = logging.getLogger("kiln.engine")

#: Each look at the lag of the loop wakes the box up (seconds).
LAG_SAMPLES_EVERY = 0.5


class Engine:
    """``settings`` is the whole Server.xml, ``raw`` the same as written; ``state`` the folder with store, token, keys
    and recordings. ``configuration`` says which virtual hosts there are (None: those of Server.xml alone),
    ``file`` where changes of Server.xml are written (None: into the state folder)."""

    def __init__(
        self, settings: models.Server, raw: Raw, *, state: Path, store: Store, token: AccessToken,
        clock: Clock | None = None, configuration: Configuration | None = None, file: ServerFile | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.state = state
        self.store = store
        self.token = token
        self.named_tokens = NamedTokens(store)
        self.clock = clock or Clock()
        #: The only folder that paths from outside lead into.
        self.media_root = Path(os.environ.get("KILN_MEDIA_ROOT") or settings.modules.media_root or state / "media")
        self.alarms = Alarms(self.clock)
        #: The only way out for URLs from outside.
        self.egress = Egress.configured(settings.modules.egress.allow, os.environ, self.alarms)
        self.ports = Ports(self.alarms)
        self.started_wall = self.clock.wall()
        self.supervisor = Supervisor("kiln", on_alarm=self._note_alarm)
        self.pool = WorkerPool()
        self.lag = LoopLag(interval=LAG_SAMPLES_EVERY)
        self.certificates: Certificates | None = None
        self.delivery: Delivery | None = None
        self.recordings: Recordings | None = None
        self.publishers: list[Publisher] = []
        self.runners: dict[str, TaskRunner[Any]] = {}
        self.pull_sources: list[PullSource] = []
        self.configuration = configuration or Configuration.of_file(settings, raw)
        self.alarms.update(self.configuration.alarms)
        self.directory = Directory(
            self.configuration.entries, Services(self.clock, self.supervisor, self.pool, self.publishers, self.alarms)
        )
        self.channels = Channels(self.directory, self.supervisor, self.alarms, self.media_root)
        self.tasks = TaskBoard(store, self.clock, self.supervisor, self.runners, self.alarms)
        self.statistics = Statistics(self.clock, self.directory, self.tasks, self.publishers)
        self.pulls = Pulls(
            self.pull_sources, self.directory, store, self.supervisor, self.clock, in_use=self.statistics.in_use,
            alarms=self.alarms,
        )  # fmt: skip
        self.directory.on_demand = Origins(self.directory.vhosts, self.pulls, time.monotonic).wanted
        self.ingest: Ingest | None = None
        self.commands = Commands(store)
        self.editor = Editor(self)
        for path, effect in without_effect(msgspec.structs.replace(settings, virtual_hosts=())):
            self.alarms[f"settings:{path}"] = f"not built in this version: {effect}"
            log.warning("not built in this version setting=%s effect=%r", path, effect)
        for vhost in self.directory.vhosts.values():
            self.editor.note_without_effect(vhost)
        self.reconfiguration = Reconfiguration(self)
        file = file or ServerFile(state / SERVER_FILE, rendered(raw), raw, declared=True)
        self.config_import = ConfigImport(self, file)
        self.certificate_store = CertificateStore(self)
        self._fronts: Fronts | None = None
        self._laters = 0
        self._stop = trio.Event()

    async def run(self, make_fronts: Callable[[Engine], Fronts], ready: Callable[[], Awaitable[None]]) -> None:
        """Be on the air until ``stop`` is called, then stop in order. ``ready`` is awaited once all ports are tried."""
        # The first worker loads its libraries while the rest of the box comes up.
        with suppress(WorkerFault):
            self.pool.fill()
        await self.named_tokens.load()
        notifier = Notifier(os.environ)
        async with trio.open_nursery() as nursery:
            context = Context(
                directory=self.directory, clock=self.clock, nursery=nursery, reserve=self.store.reserve,
                environment=os.environ, media_root=self.media_root, egress=self.egress,
            )  # fmt: skip
            self.recordings = Recordings(context, self.directory, self.alarms)
            self.delivery = Delivery(context, self.tasks.changed, self.recordings.disk)
            self.runners.update(self.delivery.runners)
            self.publishers.extend(self.delivery.publishers)
            self.publishers.extend(TaskPublisher(kind, self.tasks, self.directory.source_of) for kind in KINDS)
            await self.tasks.restore()
            fronts = make_fronts(self)
            ingest = self.ingest = Ingest(
                self.settings, self.directory, context, self.ports, self.supervisor,
                lambda: self._read_certificates().delivery,
            )  # fmt: skip
            async with self.supervisor:
                self._add_core(notifier)
                self._fronts = fronts
                for place in http_places(self.settings):
                    self.open_service(f"http:{place.name}")
                local = [Listener.unix(self.state / "kiln.sock")]
                HttpServers(self.ports, self.supervisor).add("api-socket", fronts.api, local, API_LIMITS)
                self.open_service("srt-play")
                ingest.add_all()
                self.channels.open(context)
                self.pull_sources.extend(ingest.pull_sources)
                await self.pulls.restore()
                await self.ports.all_attempted()
                await ready()
                self.supervisor.add(ChildSpec(name="warm-up", start=warm_up, restart=Restart.TEMPORARY, order=0))
                # Not before: what a crash left is mended while the box is on the air already.
                self.supervisor.add(ChildSpec(name="disk", start=self.recordings.disk.run, order=DISK_ORDER))
                notifier.ready("on the air")
                await self._stop.wait()
                notifier.stopping()
                log.info("stopping")
                self.directory.close("the box is shutting down")
                await self.supervisor.shut_down()
            nursery.cancel_scope.cancel()

    @property
    def bound(self) -> Bound:
        return self.ports.bound

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

    def _add_core(self, notifier: Notifier) -> None:
        add = self.supervisor.add
        add(ChildSpec(name="worker-pool", start=self.pool.run, order=5))
        add(ChildSpec(name="tasks", start=self.tasks.run, order=KEEPER_ORDER))
        add(ChildSpec(name="pulls", start=self.pulls.run, order=KEEPER_ORDER))
        if self.settings.modules.dynamic_app_removal.enable:
            dynamic = DynamicApplications(self.directory.vhosts, self.clock, self._is_waited_in)
            add(ChildSpec(name="dynamic-applications", start=dynamic.run, order=KEEPER_ORDER))
        add(ChildSpec(name="certificates", start=self.certificate_store.run, order=0))
        add(ChildSpec(name="statistics", start=self.statistics.run, order=5))
        add(ChildSpec(name="loop-lag", start=self.lag.run, order=0))
        add(ChildSpec(name="garbage", start=collect_garbage, order=0))
        add(ChildSpec(name="watchdog", start=Watchdog(notifier, self.lag, self._trouble).run, order=0))

    def _is_waited_in(self, vhost: str, app: str) -> bool:
        """Whether a task or a pull of the application waits for its stream."""
        names = [(entry.task.vhost, entry.task.app) for entry in self.tasks.all()]
        names += [(pull.spec.vhost, pull.spec.app) for pull in self.pulls]
        return (vhost, app) in names

    def _trouble(self) -> str:
        """Why the core is not healthy, "" when it is."""
        abandoned = self.supervisor.abandoned
        return f"tasks that can't be stopped: {', '.join(abandoned)}" if abandoned else ""

    # Services that open ports (``appliance.engine.reconfigure.services``)

    def open_service(self, name: str) -> None:
        """Add it as a child, as the settings say now; one that has no place in them is not opened."""
        if self.delivery is None or self._fronts is None:
            return  # the box is not on the air yet: it will open all
        if name in PORTS:
            assert self.ingest is not None
            self.ingest.open(name, self.settings)
        elif name == "srt-play":
            self.delivery.add_srt(self.settings.bind.publishers.srt, self.settings.ip, self.ports, self.supervisor)
        for place in http_places(self.settings):
            if name == f"http:{place.name}":
                self._open_http(place, self.delivery, self._fronts)

    async def close_service(self, name: str) -> None:
        """Its ports are free when this returns."""
        if name in self.supervisor.children:
            await self.supervisor.stop(name)
        service = name.removeprefix("http:")
        self.ports.forget(service)
        self.alarms.pop(f"port:{service}", None)

    def later(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` after that time, whoever asked for it and is gone by then."""

        async def start(progress: Progress) -> None:
            await trio.sleep(seconds)
            await work()

        self._laters += 1
        self.supervisor.add(ChildSpec(name=f"later-{self._laters}", start=start, restart=Restart.TEMPORARY, order=0))

    def _open_http(self, place: HttpPlace, delivery: Delivery, fronts: Fronts) -> None:
        of_api = place.name.startswith("api")
        if place.tls:
            certificates = self._read_certificates()
            contexts = certificates.api if of_api else certificates.delivery
            listeners = [Listener.tls(host, place.port, contexts) for host in place.hosts]
        else:
            listeners = [Listener.tcp(host, place.port) for host in place.hosts]
        app, limits = (fronts.api, API_LIMITS) if of_api else (delivery.app(fronts.status), DELIVERY_LIMITS)
        HttpServers(self.ports, self.supervisor).add(place.name, app, listeners, limits)

    def _read_certificates(self) -> Certificates:
        if self.certificates is None:
            hosts = [vhost.settings.host for vhost in self.directory.vhosts.values()]
            self.certificates = Certificates(self.settings, self.state / "tls", hosts)
            for number, reason in enumerate(self.certificates.refused):
                self.alarms[f"certificate:{number}"] = reason
        return self.certificates


__all__ = ["Engine", "Fronts"]
