"""The ways in that are built: one short method wires each provider to its settings, its ports and its supervisor."""

from __future__ import annotations

from functools import partial

from appliance.engine.directory import Directory
from appliance.engine.ports import Ports
from appliance.media.contracts import Context, Progress, PullSource
from appliance.net.listener import Listener
from appliance.providers.capture import CaptureProvider
from appliance.providers.rtmp import RtmpProvider
from appliance.settings import models
from appliance.supervisor import ChildSpec, Supervisor

#: Providers stop first of all that media flows through.
ORDER = 50


class Ingest:
    """Adds the providers of ``settings`` to ``supervisor``."""

    def __init__(
        self, settings: models.Server, directory: Directory, context: Context, ports: Ports, supervisor: Supervisor
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._context = context
        self._ports = ports
        self._supervisor = supervisor
        #: What streams can be pulled with (``appliance.engine.pulls``).
        self.pull_sources: list[PullSource] = []

    def add_all(self) -> None:
        self._add_rtmp()
        self._add_capture()

    def _add_rtmp(self) -> None:
        bind = self._settings.bind.providers.rtmp
        if bind is None:
            return
        listeners = [Listener.tcp(host, bind.port) for host in self._settings.ip]

        async def start(progress: Progress) -> None:
            self._ports.bind("rtmp", listeners, scheme="rtmp")
            try:
                await RtmpProvider(self._context, listeners).run(progress)
            finally:
                for listener in listeners:
                    listener.close()

        self._ports.expect("rtmp")
        self._supervisor.add(ChildSpec(name="rtmp", start=start, order=ORDER))

    def _add_capture(self) -> None:
        for vhost in self._directory.vhosts.values():
            for application in vhost.applications.values():
                self.begin(vhost.name, None, application.settings)

    # What an application captures by itself, when the application comes, changes or goes

    async def end(self, vhost: str, before: models.Application, after: models.Application | None) -> None:
        """Stop what ``before`` captures and ``after`` does not, or not in that way (None: the application goes)."""
        kept = _captures(after)
        for stream in _captures(before):
            name = _capture_name(vhost, before.name, stream)
            if stream not in kept and name in self._supervisor.children:
                await self._supervisor.stop(name)

    def begin(self, vhost: str, before: models.Application | None, after: models.Application) -> None:
        """Start what ``after`` captures and ``before`` did not (None: the application is new)."""
        known = _captures(before)
        for stream in _captures(after):
            if stream not in known:
                self._supervisor.add(
                    ChildSpec(
                        name=_capture_name(vhost, after.name, stream),
                        start=partial(_capture, self._context, vhost, after.name, stream),
                        order=ORDER,
                    )
                )


def _captures(application: models.Application | None) -> tuple[models.CaptureStream, ...]:
    capture = application.providers.capture if application else None
    return capture.streams if capture else ()


def _capture_name(vhost: str, app: str, stream: models.CaptureStream) -> str:
    return f"capture:{vhost}/{app}/{stream.name}"


async def _capture(
    context: Context, vhost: str, app: str, stream: models.CaptureStream, progress: Progress
) -> None:
    await CaptureProvider(context, vhost, app, stream.name, stream.url).run(progress)
