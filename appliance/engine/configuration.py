"""What exists by configuration: the virtual hosts of Server.xml, which stay as they are, and those of the store.

One entry of the store a virtual host (kind ``vhost``), and one each application (kind ``application``, key
``vhost/app``): what was written, to be read anew at each start, and its place in the order of creation.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import KilnError
from appliance.settings import models
from appliance.settings.json_form import load_json
from appliance.settings.schema import Raw
from appliance.settings.store import Store, Transaction

log = logging.getLogger("kiln.engine")

VHOST = "vhost"
APPLICATION = "application"
_SEEDED = ("configuration", "seeded")
#: Settings that name files beside the Server.xml they stand in.
_BESIDE = frozenset({"certPath", "keyPath", "chainCertPath"})


class Stored(msgspec.Struct, frozen=True):
    """One entry of the store: ``raw`` as it was written, ``order`` its place in the order of creation."""

    order: int
    raw: Raw


@dataclass(slots=True)
class ApplicationEntry:
    settings: models.Application
    raw: Raw


@dataclass(slots=True)
class VhostEntry:
    """``settings`` and ``raw`` are without applications. ``read_only``: it stands in Server.xml."""

    settings: models.VirtualHost
    raw: Raw
    applications: list[ApplicationEntry] = field(default_factory=list)
    read_only: bool = False


class Configuration:
    """``entries`` is what the box starts with, ``alarms`` what is wrong with it by the path of the alarm."""

    def __init__(self, entries: list[VhostEntry] | None = None) -> None:
        self.entries = entries or []
        self.alarms: dict[str, str] = {}
        self._orders: dict[tuple[str, str], int] = {}
        self._last = 0

    @classmethod
    def of_file(cls, settings: models.Server, raw: Raw) -> Configuration:
        """What a Server.xml declares, and nothing else."""
        written = zip(settings.virtual_hosts, raw.get("virtualHosts", ()), strict=True)
        return cls([_of_file(vhost, text) for vhost, text in written])

    @classmethod
    async def load(
        cls, store: Store, settings: models.Server, raw: Raw, *, seed_from: Path | None = None
    ) -> Configuration:
        """What Server.xml declares and what the store keeps; where both have a name, the file has it.

        With ``seed_from``, the folder of the file, its virtual hosts are not declared but given to the store, once.
        An entry that can't be read any more is an alarm, and stays in the store.
        """
        made = cls() if seed_from else cls.of_file(settings, raw)
        seeds = _seeds(raw, seed_from) if seed_from else {}
        vhosts, applications = await store.transaction(lambda transaction: _read(transaction, seeds))
        made._add_stored(vhosts, applications)
        return made

    def add(self, transaction: Transaction, kind: str, key: str, raw: Raw) -> None:
        """Keep what was written; it comes last in the order."""
        self._last += 1
        self._orders[kind, key] = self._last
        self.put(transaction, kind, key, raw)

    def put(self, transaction: Transaction, kind: str, key: str, raw: Raw) -> None:
        """Keep what was written instead of what was there."""
        transaction.put(kind, key, msgspec.json.encode(Stored(self._orders[kind, key], raw)))

    def _add_stored(self, vhosts: Mapping[str, bytes], applications: Mapping[str, bytes]) -> None:
        declared = {entry.settings.name for entry in self.entries}
        below: dict[str, list[tuple[str, Stored]]] = {}
        for key, stored in self._decoded(APPLICATION, applications):
            below.setdefault(key.partition("/")[0], []).append((key, stored))
        for name, stored in self._decoded(VHOST, vhosts):
            if name in declared:
                self.alarms[f"conflict:{name}"] = (
                    f"virtual host {name} is in Server.xml and in the store: that of Server.xml holds"
                )
                continue
            entry = self._vhost(name, stored)
            if entry is not None:
                entry.applications.extend(self._applications(below.get(name, ())))
                self.entries.append(entry)
        for path, text in self.alarms.items():
            log.error("configuration path=%s reason=%r", path, text)

    def _decoded(self, kind: str, rows: Mapping[str, bytes]) -> list[tuple[str, Stored]]:
        """The readable ones in the order of their creation."""
        found: list[tuple[str, Stored]] = []
        for key, value in rows.items():
            try:
                stored = msgspec.json.decode(value, type=Stored)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._left_out(kind, key, str(error))
                continue
            self._orders[kind, key] = stored.order
            self._last = max(self._last, stored.order)
            found.append((key, stored))
        return sorted(found, key=lambda each: (each[1].order, each[0]))

    def _vhost(self, name: str, stored: Stored) -> VhostEntry | None:
        try:
            loaded = load_json(models.VirtualHost, stored.raw)
        except KilnError as error:
            self._left_out(VHOST, name, str(error))
            return None
        if loaded.model.name != name:
            self._left_out(VHOST, name, f"it says that its name is {loaded.model.name}")
            return None
        return VhostEntry(loaded.model, loaded.raw)

    def _applications(self, stored: Any) -> list[ApplicationEntry]:
        entries = []
        for key, each in stored:
            try:
                loaded = load_json(models.Application, each.raw)
            except KilnError as error:
                self._left_out(APPLICATION, key, str(error))
                continue
            if loaded.model.name != key.partition("/")[2]:
                self._left_out(APPLICATION, key, f"it says that its name is {loaded.model.name}")
                continue
            entries.append(ApplicationEntry(loaded.model, loaded.raw))
        return entries

    def _left_out(self, kind: str, key: str, reason: str) -> None:
        self.alarms[f"stored:{kind}:{key}"] = f"{kind} {key} of the store is left out: {reason}"


def _of_file(settings: models.VirtualHost, raw: Raw) -> VhostEntry:
    written = zip(settings.applications, raw.get("applications", ()), strict=True)
    return VhostEntry(
        msgspec.structs.replace(settings, applications=()),
        {key: value for key, value in raw.items() if key != "applications"},
        [ApplicationEntry(application, text) for application, text in written],
        read_only=True,
    )


Rows = dict[str, bytes]


def _read(transaction: Transaction, seeds: Mapping[tuple[str, str], bytes]) -> tuple[Rows, Rows]:
    if seeds and transaction.get(*_SEEDED) is None:
        known = transaction.list(VHOST)
        for (kind, key), value in seeds.items():
            if key.partition("/")[0] not in known:
                transaction.put(kind, key, value)
        transaction.put(*_SEEDED, b"1")
    return transaction.list(VHOST), transaction.list(APPLICATION)


def _seeds(raw: Raw, folder: Path) -> dict[tuple[str, str], bytes]:
    """The virtual hosts of a Server.xml in ``folder`` as entries of the store."""
    seeds: dict[tuple[str, str], bytes] = {}
    for vhost in standing_alone(raw.get("virtualHosts", []), folder):
        below = vhost.pop("applications", [])
        seeds[VHOST, vhost["name"]] = msgspec.json.encode(Stored(len(seeds) + 1, vhost))
        for application in below:
            key = f"{vhost['name']}/{application['name']}"
            seeds[APPLICATION, key] = msgspec.json.encode(Stored(len(seeds) + 1, application))
    return seeds


def standing_alone(raw: Any, folder: Path, key: str = "") -> Any:
    """A copy of settings from a Server.xml in ``folder`` that says the same elsewhere: with whole paths."""
    if isinstance(raw, dict):
        return {name: standing_alone(value, folder, name) for name, value in raw.items()}
    if isinstance(raw, list):
        return [standing_alone(value, folder, key) for value in raw]
    if not isinstance(raw, str):
        return raw
    for macro in ("${ome:Home}", "${ome:CurrentPath}"):
        raw = raw.replace(macro, str(folder))
    if key in _BESIDE and raw and not raw.startswith("${"):
        return os.path.join(folder, raw)
    return raw
