"""The ways in that are built: one short method wires each provider to its settings, its ports and its supervisor."""

from __future__ import annotations

from functools import partial

from appliance.engine.directory import Directory
from appliance.engine.ports import Ports
from appliance.media.contracts import Context, Progress
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
                capture = application.settings.providers.capture
                for stream in capture.streams if capture else ():
                    self._supervisor.add(
                        ChildSpec(
                            name=f"capture:{application.label}/{stream.name}",
                            start=partial(_capture, self._context, vhost.name, application.name, stream),
                            order=ORDER,
                        )
                    )


async def _capture(
    context: Context, vhost: str, app: str, stream: models.CaptureStream, progress: Progress
) -> None:
    await CaptureProvider(context, vhost, app, stream.name, stream.url).run(progress)
