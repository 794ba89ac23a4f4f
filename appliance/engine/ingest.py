"""The ways in that are built: one short method wires each provider to its settings, its ports and its supervisor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import trio

from appliance.engine.directory import Directory
from appliance.engine.mpegts_ports import find_target, mpegts_groups, mpegts_ports
from appliance.engine.ports import Ports
from appliance.engine.srt_ports import srt_ports
from appliance.errors import KilnError
from appliance.media.contracts import Context, Progress, PullSource
from appliance.net.listener import Listener
from appliance.net.srt import SrtListener, SrtMissing
from appliance.net.tls import TlsContexts
from appliance.providers.capture import CaptureProvider
from appliance.providers.file import FilePullSource, FileStream
from appliance.providers.hls import HlsPullSource
from appliance.providers.mpegts import MpegtsPort, MpegtsProvider, Target
from appliance.providers.rtmp import Room, RtmpProvider, RtmpPullSource
from appliance.providers.rtsp import RtspPullSource
from appliance.providers.srt import SrtPort, SrtProvider
from appliance.settings import models
from appliance.supervisor import ChildSpec, Supervisor

#: Those that listen, by the name of their child.
PORTS = ("rtmp", "rtmps", "srt", "mpegts")
#: Providers stop first of all that media flows through.
ORDER = 50

OwnStream = models.CaptureStream | models.FileStream


class Ingest:
    """Adds the providers of ``settings`` to ``supervisor``."""

    def __init__(
        self, settings: models.Server, directory: Directory, context: Context, ports: Ports, supervisor: Supervisor,
        certificates: Callable[[], TlsContexts],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._directory = directory
        self._context = context
        self._ports = ports
        self._supervisor = supervisor
        self._certificates = certificates
        self._rtmp_room = Room(directory)
        #: With its counters, and the statistics of each publisher; None when SRT is off.
        self.srt: SrtProvider | None = None
        self.mpegts: MpegtsProvider | None = None
        #: What streams can be pulled with (``appliance.engine.pulls``).
        self.pull_sources: list[PullSource] = [
            RtspPullSource(context), RtmpPullSource(context), HlsPullSource(context), FilePullSource(context),
        ]  # fmt: skip

    def add_all(self) -> None:
        for name in PORTS:
            self.open(name, self._settings)
        self._add_capture()

    def open(self, name: str, settings: models.Server) -> None:
        """Add one of those that listen (``PORTS``) as ``settings`` says."""
        self._settings = settings
        {"rtmp": self._add_rtmp, "rtmps": self._add_rtmps, "srt": self._add_srt, "mpegts": self._add_mpegts}[name]()

    def _add_rtmp(self) -> None:
        bind = self._settings.bind.providers.rtmp
        if bind is None:
            return
        self._serve_rtmp("rtmp", [Listener.tcp(host, bind.port) for host in self._settings.ip])

    def _add_rtmps(self) -> None:
        bind = self._settings.bind.providers.rtmp
        if bind is None or bind.tls_port is None:
            return
        contexts = self._certificates()
        self._serve_rtmp("rtmps", [Listener.tls(host, bind.tls_port, contexts) for host in self._settings.ip])

    def _serve_rtmp(self, name: str, listeners: list[Listener]) -> None:
        async def start(progress: Progress) -> None:
            self._ports.bind(name, listeners, scheme="rtmp")
            try:
                await RtmpProvider(self._context, listeners, room=self._rtmp_room).run(progress)
            finally:
                for listener in listeners:
                    listener.close()

        self._ports.expect(name)
        self._supervisor.add(ChildSpec(name=name, start=start, order=ORDER))

    def _add_srt(self) -> None:
        bind = self._settings.bind.providers.srt
        if bind is None:
            return
        places = srt_ports(bind, self._settings.ip)

        def opened(listeners: Sequence[SrtListener]) -> None:
            self._ports.forget("srt")
            for listener in listeners:
                self._ports.opened("srt", "srt", listener.host, listener.port)
            self._ports.attempted("srt")

        async def start(progress: Progress) -> None:
            self.srt = SrtProvider(self._context, [SrtPort(*place) for place in places], opened)
            try:
                await self.srt.run(progress)
            except SrtMissing as error:
                # Nothing to try again: the box does without.
                self._ports.failed("srt", error)
                await trio.sleep_forever()
            except KilnError as error:
                self._ports.failed("srt", error)
                raise

        self._ports.expect("srt")
        self._supervisor.add(ChildSpec(name="srt", start=start, order=ORDER))

    def _add_mpegts(self) -> None:
        bind, addresses = self._settings.bind.providers.mpegts, self._settings.ip
        if bind is None:
            return

        def applications() -> list[tuple[str, models.Application]]:
            return [
                (vhost.name, application.settings)
                for vhost in self._directory.vhosts.values() for application in vhost.applications.values()
            ]  # fmt: skip

        def look_up(port: MpegtsPort) -> Target | None:
            return find_target(port, addresses, applications())

        def group_failed(group: MpegtsPort, error: KilnError | None) -> None:
            self._ports.lacking("mpegts", f"{group.host}:{group.port}", error)

        def opened(places: Sequence[tuple[str, str, int]]) -> None:
            self._ports.forget("mpegts")
            for scheme, host, port in places:
                self._ports.opened("mpegts", scheme, host, port)
            self._ports.attempted("mpegts")

        async def start(progress: Progress) -> None:
            self.mpegts = MpegtsProvider(
                self._context, mpegts_ports(bind, addresses), look_up, opened,
                groups=lambda: mpegts_groups(applications()), group_failed=group_failed,
            )  # fmt: skip
            try:
                await self.mpegts.run(progress)
            except KilnError as error:
                self._ports.failed("mpegts", error)
                raise

        self._ports.expect("mpegts")
        self._supervisor.add(ChildSpec(name="mpegts", start=start, order=ORDER))

    def _add_capture(self) -> None:
        for vhost in self._directory.vhosts.values():
            for application in vhost.applications.values():
                self.begin(vhost.name, None, application.settings)

    # What an application captures and plays by itself, when the application comes, changes or goes

    async def end(self, vhost: str, before: models.Application, after: models.Application | None) -> None:
        """Stop what ``before`` captures and ``after`` does not, or not in that way (None: the application goes)."""
        kept = _own(after)
        for stream in _own(before):
            name = _own_name(vhost, before.name, stream)
            if stream not in kept and name in self._supervisor.children:
                await self._supervisor.stop(name)

    def begin(self, vhost: str, before: models.Application | None, after: models.Application) -> None:
        """Start what ``after`` captures and ``before`` did not (None: the application is new)."""
        known = _own(before)
        for stream in _own(after):
            if stream not in known:
                self._supervisor.add(
                    ChildSpec(
                        name=_own_name(vhost, after.name, stream),
                        start=partial(_feed, self._context, vhost, after.name, stream),
                        order=ORDER,
                    )
                )


def _captures(application: models.Application | None) -> tuple[models.CaptureStream, ...]:
    capture = application.providers.capture if application else None
    return capture.streams if capture else ()


def _files(application: models.Application | None) -> tuple[models.FileStream, ...]:
    file = application.providers.file if application else None
    return file.stream_map if file else ()


def _own(application: models.Application | None) -> tuple[OwnStream, ...]:
    return (*_captures(application), *_files(application))


def _own_name(vhost: str, app: str, stream: OwnStream) -> str:
    kind = "capture" if isinstance(stream, models.CaptureStream) else "file"
    return f"{kind}:{vhost}/{app}/{stream.name}"


async def _feed(context: Context, vhost: str, app: str, stream: OwnStream, progress: Progress) -> None:
    if isinstance(stream, models.CaptureStream):
        await CaptureProvider(context, vhost, app, stream.name, stream.url).run(progress)
    else:
        await FileStream(context, vhost, app, stream.name, stream.path).run(progress)
