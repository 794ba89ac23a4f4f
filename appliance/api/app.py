"""The ASGI applications that stand above the engine."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from appliance.access.guessing import Guessing
from appliance.api.auth import TokenCheck
from appliance.api.box.backup import BackupApi
from appliance.api.box.certificates import CertificatesApi
from appliance.api.box.config import Config
from appliance.api.box.gpio import GpioApi
from appliance.api.box.panel import PanelApi
from appliance.api.box.ptz import PtzApi
from appliance.api.box.recordings import Recordings
from appliance.api.box.sensors import SensorsApi
from appliance.api.box.storage import Storage
from appliance.api.box.tokens import Tokens
from appliance.api.box.watching import Watching
from appliance.api.cors import CrossOrigin
from appliance.api.management import ManagementApi
from appliance.api.ome.applications import Applications
from appliance.api.ome.groups import LiveStreams
from appliance.api.ome.output_profiles import OutputProfiles
from appliance.api.ome.resources import Resources
from appliance.api.ome.vhosts import Vhosts
from appliance.api.openapi import OpenApi
from appliance.api.routes import Route, RouteTable
from appliance.api.status import status_app
from appliance.api.view import EngineView
from appliance.box.box import Box
from appliance.engine.backup import Backup
from appliance.engine.engine import Engine, Fronts
from appliance.engine.hosts import host_matches
from appliance.net.asgi import ASGIApp, Receive, Scope, Send


def make_fronts(engine: Engine, fake_hardware: Path | None = None) -> Fronts:
    """The management API (with the status page beside it), and the status page alone. ``fake_hardware``: see Box."""
    box = Box(engine, fake_hardware)
    status = status_app(engine)
    token = TokenCheck(engine.token.matches, engine.named_tokens.find, Guessing(time.monotonic))
    groups = (
        Vhosts(engine),
        Applications(engine),
        OutputProfiles(engine),
        LiveStreams(engine),
        Watching(engine, lambda: box.previews_shed),
        PtzApi(box.ptz),
        PanelApi(box.panel),
        GpioApi(box.gpio),
        SensorsApi(box.sensors, box.gps),
        Tokens(engine.named_tokens, engine.clock),
        Config(engine.config_import),
        BackupApi(Backup(engine), engine.clock),
        CertificatesApi(engine.certificate_store, engine.clock),
        *_of_recordings(engine),
    )
    api = management_api(engine, token, [route for group in groups for route in group.routes()])
    return Fronts(api=_beside(status, api), status=status)


def _of_recordings(engine: Engine) -> tuple[Storage | Recordings, ...]:
    if engine.recordings is None:
        return ()
    return Storage(engine.recordings.disk), Recordings(engine.recordings.disk)


def management_api(engine: EngineView, token: TokenCheck, more: Iterable[Route] = ()) -> ManagementApi:
    """``/v1`` over one engine, and what else answers to the same token."""
    settings = engine.settings
    managers = settings.managers
    names = managers.host.names
    routes = [*Resources(engine).routes(), *more]
    return ManagementApi(
        RouteTable([*routes, *OpenApi(routes).routes()]),
        token,
        CrossOrigin(settings.defaults.cross_domains, managers.api.cross_domains if managers.api else None),
        lambda host: not names or host_matches(names, host),
        etag=settings.modules.etag.enable,
    )


def _beside(status: ASGIApp, api: ASGIApp) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] == "http" and (path == "/" or path.startswith("/-/")):
            await status(scope, receive, send)
        elif scope["type"] == "http":
            await api(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    return app
