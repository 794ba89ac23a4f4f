"""The running box is made to be as another configuration says; what is the same in both goes on untouched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import trio

from appliance.engine.certificates import certificate_names
from appliance.engine.configuration import VhostEntry
from appliance.engine.editor import entry_of
from appliance.engine.http_places import http_places
from appliance.engine.not_built import without_effect
from appliance.engine.virtual_host import TEMPLATE, VirtualHost
from appliance.settings import models
from appliance.settings.schema import camel_case

if TYPE_CHECKING:
    from appliance.engine.engine import Engine

log = logging.getLogger("kiln.engine")

#: Long enough for the answer to go out before the port that it goes through closes (s).
API_PORT_AFTER = 0.5


@dataclass(slots=True)
class Target:
    """What the box is to be: ``settings`` is the whole Server.xml, ``entries`` all virtual hosts in their order."""

    settings: models.Server
    entries: list[VhostEntry]


def target_of(engine: Engine) -> Target:
    """What it is now."""
    return Target(engine.settings, [entry_of(vhost) for vhost in engine.directory.vhosts.values()])


def needs_restart(running: models.Server, wanted: models.Server) -> list[str]:
    """XML paths of what can't be changed while the box runs; ``running`` is what it has been started with."""
    attrs = ("name", "type", "stun_server", "privacy_protection", "modules", "box", "alert", "analytics", "defaults")
    found = [f"Server/{camel_case(attr)}" for attr in attrs if getattr(running, attr) != getattr(wanted, attr)]
    if running.managers.host.names != wanted.managers.host.names:
        found.append("Server/Managers/Host/Names")
    if running.managers.api != wanted.managers.api:
        found.append("Server/Managers/API")
    return found


class Reconfiguration:
    """Turns ``engine``; one turn at a time, which ``engine.commands`` sees to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ports = trio.Lock()
        #: What the box has been started with: what it can't change while it runs is still as this says.
        self.started = engine.settings

    def services(self, to: models.Server) -> list[str]:
        """The services whose ports close and open anew on the way to ``to``."""
        before, after = dict(services(self._engine.settings)), dict(services(to))
        return [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]

    async def turn(self, to: Target) -> None:
        """Be as ``to`` says. Called with what was before it undoes itself, however far it came."""
        engine = self._engine
        changed = self.services(to.settings)
        before, engine.settings = engine.settings, to.settings
        self._show_certificates(before, to.settings)
        await self._turn_vhosts(to.entries)
        await self._turn_services([name for name in changed if not name.startswith("http:api")])
        api = [name for name in changed if name.startswith("http:api")]
        if api:
            engine.later(API_PORT_AFTER, lambda: self._turn_services(api))
        self._tell(before, to.settings)

    def _show_certificates(self, before: models.Server, after: models.Server) -> None:
        certificates = self._engine.certificates
        if certificates is not None and before.managers.host != after.managers.host:
            self._engine.alarms.pop("certificate:managers", None)
            refused = certificates.show_managers(after.managers.host)
            if refused:
                self._engine.alarms["certificate:managers"] = refused

    def _tell(self, before: models.Server, after: models.Server) -> None:
        alarms = self._engine.alarms
        waiting = needs_restart(self.started, after)
        if waiting:
            alarms["configuration:restart"] = f"Kiln must be restarted before this takes effect: {', '.join(waiting)}"
        else:
            alarms.pop("configuration:restart", None)
        old, new = (
            {f"settings:{path}": effect for path, effect in without_effect(_alone(server))}
            for server in (before, after)
        )
        for key in old.keys() - new.keys():
            alarms.pop(key, None)
        for key, effect in new.items():
            if key not in old:
                alarms[key] = f"not built in this version: {effect}"

    # Virtual hosts

    async def _turn_vhosts(self, entries: list[VhostEntry]) -> None:
        engine = self._engine
        wanted = {entry.settings.name: entry for entry in entries}
        for name in list(engine.directory.vhosts):
            if name not in wanted:
                await engine.editor.take_down(name)
        for name, entry in wanted.items():
            await trio.lowlevel.checkpoint()
            present = engine.directory.vhosts.get(name)
            if present is not None and _guards(present.settings) != _guards(entry.settings):
                await engine.editor.take_down(name)
                present = None
            if present is None:
                engine.editor.bring_up(entry).read_only = entry.read_only
            else:
                await self._turn_vhost(present, entry)
        engine.directory.arrange(list(wanted))

    async def _turn_vhost(self, vhost: VirtualHost, entry: VhostEntry) -> None:
        editor = self._engine.editor
        before = vhost.settings
        vhost.settings, vhost.raw, vhost.read_only = entry.settings, entry.raw, entry.read_only
        if before.host != entry.settings.host:
            self._show_certificate(vhost, before.host)
        wanted = {each.settings.name: each for each in entry.applications}
        for name in [each.name for each in vhost.applications.values() if not each.dynamic and each.name not in wanted]:
            await editor.end_application(vhost, name)
        vhost.template = wanted.pop(TEMPLATE, None)
        for name, each in wanted.items():
            present = vhost.applications.get(name)
            if present is not None and present.dynamic:
                await editor.end_application(vhost, name)
                present = None
            if present is None:
                editor.start_application(vhost, each)
            elif (present.settings, present.raw) != (each.settings, each.raw):
                await editor.turn_application(present, each)
        order = [*wanted, *(name for name in vhost.applications if name not in wanted)]
        vhost.applications = {name: vhost.applications[name] for name in order}
        if before != entry.settings:
            editor.note_without_effect(vhost)

    def _show_certificate(self, vhost: VirtualHost, before: models.Host) -> None:
        engine = self._engine
        engine.alarms.pop(f"certificate:vhost:{vhost.name}", None)
        if engine.certificates is None:
            return
        if set(certificate_names(before)) - set(certificate_names(vhost.settings.host)):
            engine.certificates.remove(before)
            engine.editor.show_certificates_of_others(before)
        refused = engine.certificates.add(vhost.settings.host)
        if refused:
            engine.alarms[f"certificate:vhost:{vhost.name}"] = refused

    # Ports

    async def _turn_services(self, names: list[str]) -> None:
        """All are closed first: what one gives back another may want."""
        engine = self._engine
        async with self._ports:
            for name in names:
                await engine.close_service(name)
            present = dict(services(engine.settings))
            for name in names:
                if name in present:
                    engine.open_service(name)


def services(server: models.Server) -> Iterator[tuple[str, object]]:
    """Each service that opens ports, by the name of its child, and all that its ports hang on."""
    for place in http_places(server):
        yield f"http:{place.name}", place
    providers, publishers = server.bind.providers, server.bind.publishers
    for name, bind in (
        ("rtmp", providers.rtmp and providers.rtmp.port), ("rtmps", providers.rtmp and providers.rtmp.tls_port),
        ("srt", providers.srt), ("mpegts", providers.mpegts), ("srt-play", publishers.srt),
    ):  # fmt: skip
        if bind is not None:
            yield name, (bind, server.ip)


def _guards(vhost: models.VirtualHost) -> tuple[object, object]:
    """What applications take over when they are made."""
    return vhost.signed_policy, vhost.admission_webhooks


def _alone(server: models.Server) -> models.Server:
    return msgspec.structs.replace(server, virtual_hosts=())
