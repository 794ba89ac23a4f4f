"""The configuration as a whole: told as one document, and replaced by another one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from appliance.engine import pending
from appliance.engine.commands import Change, Journal
from appliance.engine.configuration import APPLICATION, VHOST, Configuration, VhostEntry
from appliance.engine.editor import entry_of, vhost_entry
from appliance.engine.http_places import http_places
from appliance.engine.reconfigure import Target, needs_restart, target_of
from appliance.engine.server_file import ServerFile
from appliance.errors import ConfigError, KilnError
from appliance.media.contracts import Progress
from appliance.net.listener import Listener
from appliance.settings import models
from appliance.settings.advice import advise
from appliance.settings.export import ConfigFaults, Difference, differences, portable, read_json, read_xml
from appliance.settings.json_form import merge_patch
from appliance.settings.schema import Raw
from appliance.settings.store import Transaction
from appliance.settings.xml import Fault, load_xml
from appliance.settings.xml_edit import edited, same
from appliance.supervisor import ChildSpec, Restart

if TYPE_CHECKING:
    from appliance.engine.engine import Engine

log = logging.getLogger("kiln.engine")

ALARM = "configuration:unconfirmed"
CHILD = "configuration-confirm"
#: A change may wait so long to be confirmed (s).
LONGEST_WAIT = 3600


class NotNow(KilnError):
    """Something else about the configuration has to be done first."""

    status = 409


class Outcome(msgspec.Struct, frozen=True):
    """What a document changes: setting by setting; ``restarts`` are services whose ports close and open anew,
    ``needs_restart`` what waits for a restart of Kiln, ``warnings`` what will not come out as written."""

    changes: list[Difference]
    restarts: list[str]
    needs_restart: list[str]
    warnings: list[str]


#: More that belongs to the same change, in the same transaction.
Also = Callable[[Transaction], None]


@dataclass(slots=True)
class _Plan:
    outcome: Outcome
    target: Target
    raw: Raw
    data: bytes
    stored: list[VhostEntry]


class ConfigImport:
    """Of one engine, whose Server.xml is ``file``."""

    def __init__(self, engine: Engine, file: ServerFile) -> None:
        self._engine = engine
        self.file = file
        self._confirmed: trio.Event | None = None

    # Told

    def document(self) -> Raw:
        """Server.xml's own items and what lies in the store, as JSON reads it. Secrets are in it."""
        own = {key: value for key, value in self.file.raw.items() if key != "virtualHosts"}
        made = portable(models.Server, own)
        vhosts = [_told(entry_of(vhost)) for vhost in self._engine.directory.vhosts.values()]
        if vhosts:
            made["virtualHosts"] = vhosts
        return made

    def xml(self, document: Raw) -> bytes:
        """``document`` as a Server.xml of its own, with the comments of the file."""
        return edited(self.file.data, self.file.raw, document, inline=True)

    @property
    def unconfirmed(self) -> bool:
        return self._confirmed is not None

    # Read. Each raises ConfigFaults with all that is wrong.

    async def of_json(self, value: Any) -> Raw:
        return await trio.to_thread.run_sync(partial(read_json, value, self.file.folder, known=self.document()))

    async def of_xml(self, data: bytes) -> Raw:
        return await trio.to_thread.run_sync(partial(read_xml, data, self.file.path, known=self.document()))

    async def of_patch(self, patch: Any) -> Raw:
        if not isinstance(patch, dict):
            raise ConfigFaults([Fault("server", "", 0, "The configuration must be an object")])
        return await self.of_json(merge_patch(self.document(), patch))

    # Changed

    async def check(self, document: Raw) -> Outcome:
        """What ``document`` would change. Raises what ``take`` raises, and nothing is done."""
        return (await self._plan(document)).outcome

    async def take(self, document: Raw, *, confirm_within: int = 0, also: Also | None = None) -> Outcome:
        """Be as ``document`` says, from now on.

        With ``confirm_within`` (s) it is undone then, or at the next start, unless ``confirm`` is called before. Raises
        ConfigFaults, Forbidden (the file can't be written), NotNow (another change waits to be confirmed), StorageFull,
        Unavailable; nothing is changed then.
        """
        return await self._engine.commands.run(lambda: self._taking(document, confirm_within, also))

    async def confirm(self) -> bool:
        """The last change holds. False when none waits to be confirmed."""
        waiting, self._confirmed = self._confirmed, None
        if waiting is None:
            return False
        try:
            with trio.CancelScope(shield=True):
                await self._engine.store.delete(pending.KIND, pending.UNCONFIRMED)
        except BaseException:
            self._confirmed = waiting
            raise
        waiting.set()
        self._engine.alarms.pop(ALARM, None)
        log.info("configuration confirmed")
        return True

    async def _plan(self, document: Raw) -> _Plan:
        present = self.document()
        file = self.file
        declared = {vhost.get("name") for vhost in file.raw.get("virtualHosts", [])} if file.declared else set()
        vhosts = document.get("virtualHosts", [])
        own = {**document, "virtualHosts": file.raw.get("virtualHosts", [])}
        if file.declared:
            own["virtualHosts"] = [vhost for vhost in vhosts if vhost.get("name") in declared]
        if not own["virtualHosts"]:
            del own["virtualHosts"]
        data = file.data
        if not same(models.Server, file.raw, own):
            data = await trio.to_thread.run_sync(edited, file.data, file.raw, own)
        loaded = await trio.to_thread.run_sync(partial(load_xml, file.path, data=data))
        if loaded.faults or loaded.built is None:
            raise ConfigFaults(list(loaded.faults))
        entries = Configuration.of_file(loaded.built, loaded.raw).entries if file.declared else []
        stored = _stored_entries([vhost for vhost in vhosts if vhost.get("name") not in declared])
        target = Target(loaded.built, [*entries, *stored])
        engine = self._engine
        outcome = Outcome(
            changes=list(differences(present, document)),
            restarts=[name.removeprefix("http:") for name in engine.reconfiguration.services(target.settings)],
            needs_restart=needs_restart(engine.reconfiguration.started, target.settings),
            warnings=[str(warning) for warning in loaded.warnings]
            + [f"{each.path}: {each.message}" for each in advise(loaded.built)],
        )
        self._check_ports(target.settings)
        return _Plan(outcome, target, loaded.raw, data, stored)

    def _check_ports(self, wanted: models.Server) -> None:
        """Raises ConfigFaults for a port that somebody else has."""
        engine = self._engine
        ours = {port for _, _, _, port in engine.bound.services}
        before = set(http_places(engine.settings))
        faults = []
        for place in http_places(wanted):
            if place in before or place.port in ours or not place.port:
                continue
            for host in place.hosts:
                listener = Listener.tcp(host, place.port)
                try:
                    listener.bind()
                except KilnError as error:
                    faults.append(Fault(f"Server.Bind ({place.name})", "", 0, str(error), error.hint))
                finally:
                    listener.close()
        if faults:
            raise ConfigFaults(faults)

    async def _taking(self, document: Raw, confirm_within: int, also: Also | None) -> Change[Outcome]:
        if self._confirmed is not None:
            raise NotNow("Another change waits to be confirmed: POST /box/v1/config:confirm, or wait for its end")
        plan = await self._plan(document)
        before_target, before_file = target_of(self._engine), (self.file.data, self.file.raw)
        change: pending.FileChange | None = None
        if plan.data != self.file.data:
            await trio.to_thread.run_sync(self._check_file)
            there = self.file.path.exists()
            change = pending.FileChange(str(self.file.path), self.file.data if there else None, plan.data)
        back = pending.FileChange(change.path, change.after, change.before) if change is not None else None

        def store(transaction: Transaction) -> None:
            before = pending.entries_of(transaction)
            self._store(transaction, plan)
            if also is not None:
                also(transaction)
            if change is not None:
                pending.note_file(transaction, change)
            if confirm_within:
                noted = msgspec.json.encode(pending.Unconfirmed(before, back))
                transaction.put(pending.KIND, pending.UNCONFIRMED, noted)

        written = False

        async def apply() -> None:
            nonlocal written
            if change is not None:
                await pending.write_file(self._engine.store, change)
                written = True
            self.file.data, self.file.raw = plan.data, plan.raw
            await self._engine.reconfiguration.turn(plan.target)
            if confirm_within:
                self._wait_for_confirmation(confirm_within, before_target, before_file, back)

        async def undo() -> None:
            self.file.data, self.file.raw = before_file
            if back is not None and written:
                await self._write_back(back)
            await self._engine.reconfiguration.turn(before_target)

        if not plan.outcome.changes and also is None:
            return Change(plan.outcome, lambda transaction: None, _nothing, _nothing)
        return Change(plan.outcome, store, apply, undo)

    async def _write_back(self, back: pending.FileChange) -> None:
        try:
            await pending.write_file(self._engine.store, back)
        except KilnError as error:
            # All else is undone none the less; what runs is told by the store and this alarm.
            log.error("configuration file not put back reason=%s", error)
            self._engine.alarms["configuration:file"] = f"The file could not be put back: {error}"

    def _check_file(self) -> None:
        self.file.check_unchanged()
        self.file.check_writable()

    def _store(self, transaction: Transaction, plan: _Plan) -> None:
        """The stored virtual hosts are these, in this order; entries that can't be read stay."""
        known = [vhost for vhost in self._engine.directory.vhosts.values() if not vhost.read_only]
        if [_told(entry_of(vhost)) for vhost in known] == [_told(entry) for entry in plan.stored]:
            return
        names = {vhost.name for vhost in known} | {entry.settings.name for entry in plan.stored}
        for key in transaction.list(VHOST):
            if key in names:
                transaction.delete(VHOST, key)
        for key in transaction.list(APPLICATION):
            if key.partition("/")[0] in names:
                transaction.delete(APPLICATION, key)
        configuration = self._engine.configuration
        for entry in plan.stored:
            configuration.add(transaction, VHOST, entry.settings.name, entry.raw)
            for each in entry.applications:
                configuration.add(transaction, APPLICATION, f"{entry.settings.name}/{each.settings.name}", each.raw)

    # Confirmed, or not

    def _wait_for_confirmation(
        self, seconds: int, target: Target, file: tuple[bytes, Raw], back: pending.FileChange | None
    ) -> None:
        confirmed = self._confirmed = trio.Event()
        self._engine.alarms[ALARM] = f"The configuration was changed: it is undone in {seconds} s if nobody confirms it"

        async def start(progress: Progress) -> None:
            with trio.move_on_after(seconds):
                await confirmed.wait()
                return
            await self._engine.commands.run(lambda: self._going_back(confirmed, target, file, back))

        self._engine.supervisor.add(ChildSpec(name=CHILD, start=start, restart=Restart.TRANSIENT, order=0))

    async def _going_back(
        self, waiting: trio.Event, target: Target, file: tuple[bytes, Raw], back: pending.FileChange | None
    ) -> Change[None]:
        if self._confirmed is not waiting:
            return Change(None, lambda transaction: None, _nothing, _nothing)

        def store(transaction: Transaction) -> None:
            # Not in the journal of the command: once undone, a change stays so.
            assert isinstance(transaction, Journal)
            pending.go_back(Transaction(transaction._connection))

        async def apply() -> None:
            self._confirmed = None
            self._engine.alarms.pop(ALARM, None)
            self.file.data, self.file.raw = file
            if back is not None:
                await self._write_back(back)
            await self._engine.reconfiguration.turn(target)
            log.warning("configuration not confirmed in time, undone")

        return Change(None, store, apply, _nothing)


def _told(entry: VhostEntry) -> Raw:
    raw = {**entry.raw}
    if entry.applications:
        raw["applications"] = [each.raw for each in entry.applications]
    return portable(models.VirtualHost, raw) if entry.read_only else raw


def _stored_entries(vhosts: list[Raw]) -> list[VhostEntry]:
    entries, faults = [], []
    for raw in vhosts:
        try:
            entries.append(vhost_entry(raw))
        except ConfigError as error:
            faults.append(Fault(f"virtualHosts[{raw.get('name', '')}]", "", 0, str(error), error.hint))
    if faults:
        raise ConfigFaults(faults)
    return entries


async def _nothing() -> None:
    pass
