"""Changes of virtual hosts and applications while the box runs: each checked, stored, and then made so.

The texts of errors are the catalogue's (1.2, 1.3).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from appliance.engine.application import Application
from appliance.engine.certificates import certificate_names, check_certificate
from appliance.engine.commands import Change
from appliance.engine.configuration import APPLICATION, VHOST, ApplicationEntry, VhostEntry
from appliance.engine.not_built import without_effect_in
from appliance.engine.tasks.kinds import KINDS
from appliance.engine.virtual_host import TEMPLATE, VirtualHost
from appliance.errors import ConfigError, Forbidden, KilnError, NameTaken, NotFound
from appliance.settings import models
from appliance.settings.json_form import load_json
from appliance.settings.schema import Raw
from appliance.settings.store import Transaction

if TYPE_CHECKING:
    from appliance.engine.engine import Engine

log = logging.getLogger("kiln.engine")

#: What the store keeps of work in applications: keys begin with ``vhost/app/``.
_WORK = ("pull", *(f"task:{kind.name}" for kind in KINDS))


class Editor:
    """Carries changes out in ``engine.commands``; each method raises NotFound, Forbidden and ConfigError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Who may be changed

    def vhost(self, name: str, *, to_write: bool = False) -> VirtualHost:
        """Raises NotFound, and with ``to_write`` Forbidden for one of Server.xml."""
        found = self._engine.directory.vhosts.get(name)
        if found is None:
            raise NotFound(f"Could not find the virtual host: [{name}]")
        if to_write and found.read_only:
            raise Forbidden(f"The VirtualHost is read-only: [{name}]")
        return found

    def application(self, vhost: str, app: str, *, to_write: bool = False) -> Application:
        """Raises NotFound, and with ``to_write`` Forbidden for one of Server.xml."""
        found = self.vhost(vhost).applications.get(app)
        if found is None:
            raise NotFound(f"Could not find the application: [{vhost}/{app}]")
        self.vhost(vhost, to_write=to_write)
        return found

    # Virtual hosts

    async def create_vhosts(self, items: Sequence[Any]) -> list[VirtualHost | KilnError]:
        """One result an item: what was made of it, or why nothing was."""
        return await self._engine.commands.run(lambda: self._creating_vhosts(items))

    async def delete_vhost(self, name: str) -> None:
        await self._engine.commands.run(lambda: self._deleting_vhost(name))

    async def _creating_vhosts(self, items: Sequence[Any]) -> Change[list[VirtualHost | KilnError]]:
        engine = self._engine
        entries: dict[str, VhostEntry] = {}
        outcomes: list[VhostEntry | KilnError] = []
        for item in items:
            await trio.lowlevel.checkpoint()
            try:
                entry = vhost_entry(item)
                name = entry.settings.name
                if name in engine.directory.vhosts or name in entries:
                    raise NameTaken(f"The virtual host already exists: [{name}]")
                entries[name] = entry
                outcomes.append(entry)
            except KilnError as error:
                outcomes.append(error)
        results: list[VirtualHost | KilnError] = []

        def store(transaction: Transaction) -> None:
            for name, entry in entries.items():
                _forget_below(transaction, name)
                engine.configuration.add(transaction, VHOST, name, entry.raw)
                for application in entry.applications:
                    key = f"{name}/{application.settings.name}"
                    engine.configuration.add(transaction, APPLICATION, key, application.raw)

        async def apply() -> None:
            for each in outcomes:
                await trio.lowlevel.checkpoint()
                results.append(each if isinstance(each, KilnError) else self.bring_up(each))

        async def undo() -> None:
            for name in entries:
                if name in engine.directory.vhosts:
                    await self.take_down(name)

        return Change(results, store, apply, undo)

    async def _deleting_vhost(self, name: str) -> Change[None]:
        found = self.vhost(name, to_write=True)
        entry = entry_of(found)

        def store(transaction: Transaction) -> None:
            transaction.delete(VHOST, name)
            _forget_below(transaction, name)

        async def apply() -> None:
            await self.take_down(name)

        async def undo() -> None:
            if name not in self._engine.directory.vhosts:
                self.bring_up(entry)

        return Change(None, store, apply, undo)

    def bring_up(self, entry: VhostEntry) -> VirtualHost:
        """There is this virtual host from now on, and what it captures begins."""
        engine = self._engine
        made = engine.directory.add(entry)
        for key in [f"stored:{VHOST}:{made.name}", *_stored_alarms(engine, made.name)]:
            engine.alarms.pop(key, None)
        if engine.certificates is not None and certificate_names(made.settings.host):
            refused = engine.certificates.add(made.settings.host)
            if refused:
                engine.alarms[f"certificate:vhost:{made.name}"] = refused
        self.note_without_effect(made)
        if engine.ingest is not None:
            for application in made.applications.values():
                engine.ingest.begin(made.name, None, application.settings)
        log.info("virtual host made vhost=%s applications=%d", made.name, len(made.applications))
        return made

    async def take_down(self, name: str) -> None:
        """The virtual host ends, with all that is in it and waits for it."""
        engine = self._engine
        gone = engine.directory.vhosts[name]
        if engine.ingest is not None:
            for application in gone.applications.values():
                await engine.ingest.end(name, application.settings, None)
        engine.directory.remove(name, "its virtual host was deleted")
        for app in gone.applications:
            await self._forget_work(name, app)
        if engine.certificates is not None:
            engine.certificates.remove(gone.settings.host)
            self.show_certificates_of_others(gone.settings.host)
        engine.alarms.pop(f"certificate:vhost:{name}", None)
        self._forget_alarms(f"settings:VirtualHost {name}/")
        log.info("virtual host deleted vhost=%s", name)

    def show_certificates_of_others(self, gone: models.Host) -> None:
        """Two virtual hosts may have had the same host name: the one that is left shows its own again."""
        certificates = self._engine.certificates
        assert certificates is not None
        for vhost in self._engine.directory.vhosts.values():
            if set(certificate_names(vhost.settings.host)) & set(certificate_names(gone)):
                certificates.add(vhost.settings.host)

    # Applications

    async def create_applications(self, vhost: str, items: Sequence[Any]) -> list[Application | KilnError]:
        """One result an item: what was made of it, or why nothing was."""
        return await self._engine.commands.run(lambda: self._creating_applications(vhost, items))

    async def change_application(self, vhost: str, app: str, edit: Callable[[Raw], Raw]) -> Application:
        """``edit`` returns what is to be written instead of what it is given; it raises what keeps it from that."""
        return await self._engine.commands.run(lambda: self._changing(vhost, app, edit))

    async def delete_application(self, vhost: str, app: str) -> None:
        await self._engine.commands.run(lambda: self._deleting_application(vhost, app))

    async def _creating_applications(
        self, vhost: str, items: Sequence[Any]
    ) -> Change[list[Application | KilnError]]:
        found = self.vhost(vhost, to_write=True)
        entries: dict[str, ApplicationEntry] = {}
        outcomes: list[ApplicationEntry | KilnError] = []
        for item in items:
            await trio.lowlevel.checkpoint()
            try:
                entry = _application_entry(item)
                name = entry.settings.name
                if name == TEMPLATE:
                    raise ConfigError(f"Invalid application name: [{name}]")
                if name in found.applications or name in entries:
                    raise NameTaken(f"Could not create the application: [{vhost}/{name}] already exists")
                entries[name] = entry
                outcomes.append(entry)
            except KilnError as error:
                outcomes.append(error)
        results: list[Application | KilnError] = []

        def store(transaction: Transaction) -> None:
            for name, entry in entries.items():
                self._engine.configuration.add(transaction, APPLICATION, f"{vhost}/{name}", entry.raw)

        async def apply() -> None:
            for each in outcomes:
                await trio.lowlevel.checkpoint()
                results.append(each if isinstance(each, KilnError) else self.start_application(found, each))

        async def undo() -> None:
            for name in entries:
                if name in found.applications:
                    await self.end_application(found, name)

        return Change(results, store, apply, undo)

    async def _deleting_application(self, vhost: str, app: str) -> Change[None]:
        found = self.application(vhost, app, to_write=True)
        host = self.vhost(vhost)
        entry = ApplicationEntry(found.settings, found.raw)

        def store(transaction: Transaction) -> None:
            transaction.delete(APPLICATION, f"{vhost}/{app}")
            _forget_work(transaction, f"{vhost}/{app}/")

        async def apply() -> None:
            await self.end_application(host, app)

        async def undo() -> None:
            if app not in host.applications:
                self.start_application(host, entry)

        return Change(None, store, apply, undo)

    async def _changing(self, vhost: str, app: str, edit: Callable[[Raw], Raw]) -> Change[Application]:
        found = self.application(vhost, app, to_write=True)
        before = ApplicationEntry(found.settings, found.raw)
        loaded = load_json(models.Application, edit(found.raw))
        after = ApplicationEntry(loaded.model, loaded.raw)

        def store(transaction: Transaction) -> None:
            self._engine.configuration.put(transaction, APPLICATION, f"{vhost}/{app}", after.raw)

        def turning(to: ApplicationEntry) -> Callable[[], Awaitable[None]]:
            async def turn() -> None:
                await self.turn_application(found, to)

            return turn

        return Change(found, store, turning(after), turning(before))

    def start_application(self, vhost: VirtualHost, entry: ApplicationEntry) -> Application:
        """There is this application from now on, and what it captures begins."""
        vhost.add(entry)
        made = vhost.applications[entry.settings.name]
        self._engine.alarms.pop(f"stored:{APPLICATION}:{made.label}", None)
        self.note_application(vhost, made.settings)
        if self._engine.ingest is not None:
            self._engine.ingest.begin(vhost.name, None, made.settings)
        log.info("application made app=%s", made.label)
        return made

    async def end_application(self, vhost: VirtualHost, name: str) -> None:
        """The application ends, with all that is in it and waits for it."""
        if self._engine.ingest is not None:
            await self._engine.ingest.end(vhost.name, vhost.applications[name].settings, None)
        vhost.remove(name, "its application was deleted")
        await self._forget_work(vhost.name, name)
        self._forget_alarms(f"settings:VirtualHost {vhost.name}/Application {name}/")
        log.info("application deleted app=%s/%s", vhost.name, name)

    async def turn_application(self, application: Application, to: ApplicationEntry) -> None:
        """From now on ``application`` is as ``to`` says; what is as it was goes on."""
        ingest = self._engine.ingest
        before = application.settings
        if ingest is not None:
            await ingest.end(application.vhost, before, to.settings)
        application.change(to.settings, to.raw)
        self._forget_alarms(f"settings:VirtualHost {application.vhost}/Application {application.name}/")
        self.note_application(self.vhost(application.vhost), to.settings)
        if ingest is not None:
            ingest.begin(application.vhost, before, to.settings)
        log.info("application changed app=%s", application.label)

    async def _forget_work(self, vhost: str, app: str) -> None:
        """Nobody waits any longer for streams of an application that is gone."""
        await self._engine.pulls.forget_application(vhost, app)
        await self._engine.tasks.forget_application(vhost, app)

    # Certificates

    def reload_certificate(self, name: str) -> None:
        """Read the files of a virtual host again. Raises NotFound, and ConfigError when the old ones are kept."""
        host = self.vhost(name).settings.host
        check_certificate(host)
        certificates = self._engine.certificates
        if certificates is not None:
            refused = certificates.add(host)
            if refused:
                raise ConfigError(refused)
        self._engine.alarms.pop(f"certificate:vhost:{name}", None)

    # Alarms

    def note_without_effect(self, vhost: VirtualHost) -> None:
        """An alarm for each thing that is configured in ``vhost`` and not built."""
        applications = [each.settings for each in vhost.applications.values()]
        if vhost.template is not None:
            applications.append(vhost.template.settings)
        self._note(vhost.settings, *applications)

    def note_application(self, vhost: VirtualHost, settings: models.Application) -> None:
        self._note(vhost.settings, settings)

    def _note(self, vhost: models.VirtualHost, *applications: models.Application) -> None:
        alarms = self._engine.alarms
        fresh = 0
        for path, effect in without_effect_in(vhost, *applications):
            key = f"settings:{path}"
            if key not in alarms:
                alarms[key] = f"not built in this version: {effect}"
                fresh += 1
                log.debug("not built in this version setting=%s effect=%r", path, effect)
        if fresh:
            log.warning("not built in this version, see the alarms vhost=%s settings=%d", vhost.name, fresh)

    def _forget_alarms(self, prefix: str) -> None:
        for key in [key for key in self._engine.alarms if key.startswith(prefix)]:
            del self._engine.alarms[key]


def _stored_alarms(engine: Engine, vhost: str) -> list[str]:
    prefix = f"stored:{APPLICATION}:{vhost}/"
    return [key for key in engine.alarms if key.startswith(prefix)]


def _forget_below(transaction: Transaction, vhost: str) -> None:
    """Nothing of an earlier virtual host of that name is left, whether it could be read or not."""
    for key in transaction.list(APPLICATION):
        if key.startswith(f"{vhost}/"):
            transaction.delete(APPLICATION, key)
    _forget_work(transaction, f"{vhost}/")


def _forget_work(transaction: Transaction, prefix: str) -> None:
    """Tasks and pulls of what is deleted go in the same transaction: none waits for an application of the same name."""
    for kind in _WORK:
        for key in transaction.list(kind):
            if key.startswith(prefix):
                transaction.delete(kind, key)


def vhost_entry(item: Any) -> VhostEntry:
    """A virtual host as the API takes it. Raises ConfigError."""
    loaded = load_json(models.VirtualHost, item)
    below = loaded.raw.get("applications", [])
    applications = [
        ApplicationEntry(settings, raw) for settings, raw in zip(loaded.model.applications, below, strict=True)
    ]
    alone = load_json(models.VirtualHost, {key: value for key, value in loaded.raw.items() if key != "applications"})
    return VhostEntry(alone.model, alone.raw, applications)


def _application_entry(item: Any) -> ApplicationEntry:
    """Raises ConfigError."""
    loaded = load_json(models.Application, item)
    return ApplicationEntry(loaded.model, loaded.raw)


def entry_of(vhost: VirtualHost) -> VhostEntry:
    """What ``vhost`` is by configuration: without the applications that were made of its template."""
    made = [each for each in vhost.applications.values() if not each.dynamic]
    applications = [ApplicationEntry(each.settings, each.raw) for each in made]
    if vhost.template is not None:
        applications.append(vhost.template)
    return VhostEntry(vhost.settings, vhost.raw, applications, vhost.read_only)
