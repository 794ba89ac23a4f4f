"""All that makes this box what it is, in one zip file, and the way back: configuration, certificates with their keys,
named tokens (their hashes), tasks, pulls and channels. No recordings, and not the access token."""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from appliance.access.named_tokens import KIND as TOKEN
from appliance.engine import channels
from appliance.engine.certificate_store import Checked, Known
from appliance.engine.import_config import Outcome
from appliance.errors import BadRequest, ConfigError, KilnError
from appliance.settings.names import check_name
from appliance.settings.schema import Raw
from appliance.settings.store import Transaction
from appliance.version import VERSION

if TYPE_CHECKING:
    from appliance.engine.engine import Engine

log = logging.getLogger("kiln.engine")

FORMAT = 1
"""Of the zip; a newer one is refused, an older one is read."""
LARGEST = 32 * 1024 * 1024
"""Bytes of the zip, and of all that is in it."""
MOST_FILES = 5000
#: Kinds of entries of the store that are kept.
KINDS = (TOKEN, "task:record", "task:push", "task:dump", "pull")
_NAME = r"(?!\.)[A-Za-z0-9_.-]{1,128}"
_FILES = re.compile(
    rf"manifest\.json|config\.json|Server\.xml|store\.json|tls/({_NAME})\.pem"
    rf"|channels/({'|'.join(kind.name for kind in channels.KINDS)})/({_NAME})/({_NAME})/({_NAME})"
)
#: Where a certificate of the backup lies, in its configuration.
_HERE = "tls/"


class NotABackup(BadRequest):
    """The file is no backup, or one that can't be read."""


class Stored(msgspec.Struct, frozen=True):
    """``store.json``: entries of the store by kind and key."""

    entries: dict[str, dict[str, bytes]]


@dataclass(slots=True)
class Contents:
    """What a backup holds; ``channels`` by (kind, vhost, application, name)."""

    config: Raw
    entries: dict[str, dict[str, bytes]] = field(default_factory=dict)
    certificates: dict[str, bytes] = field(default_factory=dict)
    channels: dict[tuple[str, str, str, str], bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restored:
    """``outcome`` is of the configuration; the rest are names of what came (``added``) and why something did not."""

    outcome: Outcome
    added: dict[str, list[str]]
    warnings: list[str]


class Backup:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def make(self) -> bytes:
        """The zip. Raises Unavailable (the store, the disk)."""
        engine = self._engine
        config = engine.config_import.document()
        certificates = await trio.to_thread.run_sync(engine.certificate_store.files)
        entries = await engine.store.transaction(
            lambda transaction: {kind: found for kind in KINDS if (found := transaction.list(kind))}
        )
        contents = Contents(
            _moved(config, {str(engine.state / "tls" / f"{name}.pem"): f"{_HERE}{name}.pem" for name in certificates}),
            entries, certificates, await engine.channels.files(),
        )  # fmt: skip
        xml = await trio.to_thread.run_sync(engine.config_import.xml, config)
        return await trio.to_thread.run_sync(pack, contents, xml, engine.clock.wall() // 1_000_000_000)

    async def check(self, data: bytes) -> Restored:
        """What ``restore`` would do. Raises what it raises."""
        contents, document, certificates, warnings = await self._read(data)
        outcome = await self._engine.config_import.check(document)
        return Restored(outcome, await self._coming(contents, certificates), warnings)

    async def restore(self, data: bytes, *, confirm_within: int = 0) -> Restored:
        """The configuration is that of the backup from now on, undone when nobody confirms it (as
        ``ConfigImport.take``). Tokens, tasks, pulls, channels and certificates that are not here yet are added, and
        stay; nothing that runs here is ended for one of the backup.

        Raises NotABackup, ConfigFaults, and what ``ConfigImport.take`` raises; then nothing has changed.
        """
        engine = self._engine
        contents, document, certificates, warnings = await self._read(data)
        added = await self._coming(contents, certificates)
        present = {known.id for known in await engine.certificate_store.all()}
        await engine.config_import.check(document)
        for name, checked in certificates.items():
            await engine.certificate_store.put(name, checked)
        try:
            outcome = await engine.config_import.take(
                document, confirm_within=confirm_within, also=partial(_add_entries, contents.entries)
            )
        except BaseException:
            with trio.CancelScope(shield=True):
                for name in certificates.keys() - present:
                    await engine.certificate_store.delete(name)
            raise
        await engine.named_tokens.load()
        await engine.tasks.restore()
        await engine.pulls.restore()
        warnings += await self._restore_channels(contents)
        log.info("backup restored changes=%d", len(outcome.changes))
        return Restored(outcome, added, warnings)

    async def _read(self, data: bytes) -> tuple[Contents, Raw, dict[str, Checked], list[str]]:
        engine = self._engine
        contents = await trio.to_thread.run_sync(unpack, data)
        warnings: list[str] = []
        certificates: dict[str, Checked] = {}
        kept = {known.id: known for known in await engine.certificate_store.all()}
        for name, pem in contents.certificates.items():
            try:
                checked = await engine.certificate_store.check(pem, pem, b"")
            except ConfigError as error:
                warnings.append(f"certificate {name} is left out: {error}")
                continue
            if not _same(kept.get(name), checked):
                certificates[name] = checked
        folder = engine.state / "tls"
        places = {f"{_HERE}{name}.pem": str(folder / f"{name}.pem") for name in contents.certificates}
        document = await engine.config_import.of_json(_moved(contents.config, places))
        return contents, document, certificates, warnings

    async def _coming(self, contents: Contents, certificates: dict[str, Checked]) -> dict[str, list[str]]:
        added = {"certificates": sorted(certificates)}
        for kind, entries in contents.entries.items():
            known = await self._engine.store.list(kind)
            added[kind] = sorted(entries.keys() - known.keys())
        here = await self._engine.channels.files()
        added["channels"] = ["/".join(key) for key in sorted(contents.channels.keys() - here.keys())]
        return {name: each for name, each in added.items() if each}

    async def _restore_channels(self, contents: Contents) -> list[str]:
        warnings = []
        kinds = {kind.name: kind for kind in channels.KINDS}
        here = await self._engine.channels.files()
        for key, data in contents.channels.items():
            if key in here:
                continue
            kind, vhost, app, name = key
            try:
                await self._engine.channels.create(kinds[kind], vhost, app, name, data)
            except KilnError as error:
                warnings.append(f"channel {'/'.join(key)} is left out: {error}")
        return warnings


def pack(contents: Contents, xml: bytes, created: int) -> bytes:
    """The zip of ``contents``; ``xml`` is for people to read; ``created`` in seconds since 1970."""
    manifest = {"product": "Kiln", "format": FORMAT, "version": VERSION, "created": created}
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "config.json": msgspec.json.encode(contents.config),
        "Server.xml": xml,
        "store.json": msgspec.json.encode(Stored(contents.entries)),
        **{f"tls/{name}.pem": pem for name, pem in contents.certificates.items()},
        **{f"channels/{'/'.join(key)}": data for key, data in contents.channels.items()},
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def unpack(data: bytes) -> Contents:
    """What is in a backup. Raises NotABackup with the reason, whatever the bytes are; nothing is written anywhere."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = _files(archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise NotABackup(f"This is no zip file that can be read: {error}") from error
    _check_manifest(files)
    config = _json(files, "config.json")
    if not isinstance(config, dict):
        raise NotABackup("config.json must be an object")
    contents = Contents(config, _entries(files.get("store.json", b"")))
    for name, content in files.items():
        match = _FILES.fullmatch(name)
        assert match is not None
        if match[1]:
            contents.certificates[match[1]] = content
        elif match[2]:
            contents.channels[match[2], match[3], match[4], match[5]] = content
    return contents


def _files(archive: zipfile.ZipFile) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    room = LARGEST
    infos = archive.infolist()
    if len(infos) > MOST_FILES:
        raise NotABackup(f"There are more than {MOST_FILES} files in it")
    for info in infos:
        name = info.filename
        if not _FILES.fullmatch(name):
            raise NotABackup(f"A backup has no file {name[:128]!r}")
        if name in found:
            raise NotABackup(f"{name} is in it twice")
        if info.flag_bits & 0x1:
            raise NotABackup(f"{name} is encrypted")
        with archive.open(info) as file:
            # What the directory says of its size is not to be trusted.
            content = file.read(room + 1)
        room -= len(content)
        if room < 0:
            raise NotABackup(f"It is more than {LARGEST // 1048576} MiB unpacked")
        found[name] = content
    return found


def _check_manifest(files: dict[str, bytes]) -> None:
    manifest = _json(files, "manifest.json")
    made_as = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or manifest.get("product") != "Kiln" or type(made_as) is not int or made_as < 1:
        raise NotABackup("manifest.json is not that of a backup")
    if made_as > FORMAT:
        by = str(manifest.get("version", "?"))[:32]
        raise NotABackup(
            f"It was made by Kiln {by} in format {made_as}; this one, {VERSION}, reads up to format {FORMAT}",
            hint="Update this box first.",
        )


def _json(files: dict[str, bytes], name: str) -> Any:
    if name not in files:
        raise NotABackup(f"{name} is not in it")
    try:
        return msgspec.json.decode(files[name])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise NotABackup(f"{name} can't be read: {error}") from error


def _entries(data: bytes) -> dict[str, dict[str, bytes]]:
    """Those of kinds that this version knows."""
    if not data:
        return {}
    try:
        stored = msgspec.json.decode(data, type=Stored)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise NotABackup(f"store.json can't be read: {error}") from error
    for kind, entries in stored.entries.items():
        for key in entries:
            if not 0 < len(key) <= 1024:
                raise NotABackup(f"store.json has a key of {len(key)} characters")
            if kind == TOKEN:
                check_name("token", key)
    return {kind: entries for kind, entries in stored.entries.items() if kind in KINDS}


def _add_entries(entries: dict[str, dict[str, bytes]], transaction: Transaction) -> None:
    for kind, values in entries.items():
        known = transaction.list(kind)
        for key, value in values.items():
            if key not in known:
                transaction.put(kind, key, value)


def _moved(value: Any, places: dict[str, str]) -> Any:
    """A copy in which paths of certificates are elsewhere."""
    if isinstance(value, dict):
        return {
            key: places.get(below, below) if key in ("certPath", "keyPath") and isinstance(below, str)
            else _moved(below, places)
            for key, below in value.items()
        }  # fmt: skip
    if isinstance(value, list):
        return [_moved(item, places) for item in value]
    return value


def _same(known: Known | None, checked: Checked) -> bool:
    return known is not None and known.chain == checked.chain
