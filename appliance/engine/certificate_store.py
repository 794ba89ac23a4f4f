"""Certificates that were given to the box over its API: checked, kept in its state, shown, watched."""

from __future__ import annotations

import logging
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.engine.alarms import Severity
from appliance.engine.certificates import WARN_DAYS, expiry
from appliance.engine.import_config import NotNow, Outcome
from appliance.errors import BadRequest, ConfigError, KilnError, NotFound
from appliance.media.contracts import Progress
from appliance.net.certificate import CertificateInfo, blocks_of, key_of, read_file, read_pem
from appliance.net.self_signed import make, own_names, store
from appliance.net.tls import TlsContexts
from appliance.settings.names import check_name
from appliance.settings.schema import Raw

if TYPE_CHECKING:
    from appliance.engine.engine import Engine

log = logging.getLogger("kiln.engine")

#: The one that the box makes by itself.
OWN = "self_signed"
MOST = 64
#: Between two looks at the dates (s), and before the first one.
LOOK_EVERY = 6 * 3600.0
FIRST_LOOK_AFTER = 10.0


@dataclass(frozen=True, slots=True)
class Checked:
    """A certificate that can be used: ``chain`` begins with it; ``pem`` is the key and the chain in one file."""

    chain: tuple[CertificateInfo, ...]
    pem: bytes
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """``id`` "" is one of a file of the user's. ``chain`` is () where the file can't be read, which ``error`` tells.
    ``used_by`` are ``managers`` and ``vhost:<name>``, ``shown`` pairs of (``api`` or ``delivery``, host)."""

    id: str
    path: Path
    chain: tuple[CertificateInfo, ...]
    error: str
    used_by: tuple[str, ...]
    shown: tuple[tuple[str, str], ...]


class CertificateStore:
    """Over the certificates of one engine; stored ones lie in ``tls`` in its state, one file each, mode 0600."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._folder = engine.state / "tls"
        self._turn = trio.Lock()

    async def all(self) -> list[Known]:
        """The box's own, the stored ones, and those of files that the configuration names."""
        used, shown = self._used(), self._shown()
        return await trio.to_thread.run_sync(self._look, used, shown)

    async def one(self, name: str) -> Known:
        """Raises NotFound."""
        for known in await self.all():
            if known.id == name:
                return known
        raise NotFound(f"There is no certificate {name[:128]}")

    async def put(self, name: str, checked: Checked) -> Known:
        """Keep it under ``name``; where one of that name is shown, this one is from now on, without a connection lost.
        Raises ConfigError (name, too many), and OSError's as KilnError; then the old one stays."""
        self._check_name(name)
        path = self._path(name)
        async with self._turn:
            if not path.exists() and len(list(self._stored())) >= MOST:
                raise BadRequest(f"There are {MOST} certificates: delete one first")
            before = path.read_bytes() if path.exists() else None
            await trio.to_thread.run_sync(self._write, path, checked.pem)
            certificates = self._engine.certificates
            try:
                if certificates is not None:
                    certificates.refresh(path)
            except ConfigError:
                if before is not None:
                    # What is shown is the one before still; so is what is kept.
                    await trio.to_thread.run_sync(self._write, path, before)
                raise
        self._engine.alarms.pop(_alarm(path), None)
        log.info("certificate stored name=%s subject=%s", name, checked.chain[0].subject)
        return await self.one(name)

    async def make(self, name: str, names: Sequence[str]) -> Known:
        """A self-signed one for these host names and addresses (none: all of this box)."""
        self._check_name(name)
        certificate, key = await trio.to_thread.run_sync(make, list(names) or own_names())
        return await self.put(name, await self.check(certificate, key, b""))

    async def check(self, certificate: bytes, key: bytes, chain: bytes) -> Checked:
        """Raises ConfigError with what keeps it from being used."""
        return await trio.to_thread.run_sync(partial(check, certificate, key, chain, self._engine.clock.wall() / 1e9))

    async def assign(self, name: str, *, vhost: str = "", confirm_within: int = 0) -> Outcome:
        """The virtual host (the managers where it is "") shows this one from now on, as the configuration then says.
        Raises NotFound and what ``ConfigImport.take`` raises."""
        known = await self.one(name)
        if known.error:
            raise ConfigError(known.error)
        config = self._engine.config_import
        document = config.document()
        if not vhost:
            managers = document.get("managers", {})
            document["managers"] = {**managers, "host": _showing(managers.get("host", {}), known)}
        else:
            vhosts = document.get("virtualHosts", [])
            if not any(each["name"] == vhost for each in vhosts):
                raise NotFound(f"Could not find the virtual host: [{vhost[:128]}]")
            document["virtualHosts"] = [
                {**each, "host": _showing(each.get("host", {}), known)} if each["name"] == vhost else each
                for each in vhosts
            ]
        return await config.take(document, confirm_within=confirm_within)

    async def delete(self, name: str) -> None:
        """Raises NotFound, and NotNow while the configuration names it."""
        if name == OWN:
            raise NotNow("The box makes this one by itself")
        async with self._turn:
            known = await self.one(name)
            if known.used_by or known.shown:
                where = ", ".join(known.used_by) or "a port"
                raise NotNow(f"The certificate {name} is in use by {where}: assign another one first")
            try:
                known.path.unlink()
            except OSError as error:
                raise KilnNotKept(f"{known.path} can't be deleted: {error.strerror}") from error
        self._engine.alarms.pop(_alarm(known.path), None)
        log.info("certificate deleted name=%s", name)

    def files(self) -> dict[str, bytes]:
        """The stored ones by name, with their keys."""
        return {path.stem: path.read_bytes() for path in self._stored()}

    # Watched

    async def run(self, progress: Progress) -> None:
        """Alarms begin 21 days before a certificate that is shown ends; the box renews its own."""
        await trio.sleep(FIRST_LOOK_AFTER)
        while True:
            await self.watch()
            await trio.sleep(LOOK_EVERY)

    async def watch(self) -> None:
        """Look once."""
        engine = self._engine
        certificates = engine.certificates
        if certificates is None:
            return
        try:
            if await trio.to_thread.run_sync(certificates.renew):
                log.info("self-signed certificate renewed")
        except (KilnError, OSError) as error:
            log.warning("self-signed certificate can't be renewed reason=%s", error)
        paths = list(dict.fromkeys(path for _, _, path, _ in certificates.shown()))
        now = engine.clock.wall() / 1e9
        told = await trio.to_thread.run_sync(_ends, paths, now)
        for alarm in [alarm for alarm in engine.alarms if alarm.startswith(_ALARM) and alarm not in told]:
            engine.alarms.pop(alarm, None)
        for alarm, (text, severity) in told.items():
            if engine.alarms.get(alarm) != text:
                engine.alarms.raise_alarm(alarm, text, severity)

    # What there is

    def _used(self) -> dict[Path, list[str]]:
        engine = self._engine
        used: dict[Path, list[str]] = {}
        hosts = [("managers", engine.settings.managers.host.tls)]
        hosts += [(f"vhost:{vhost.name}", vhost.settings.host.tls) for vhost in engine.directory.vhosts.values()]
        for who, tls in hosts:
            if tls is not None and (tls.cert_path or tls.self_signed):
                path = Path(tls.cert_path) if tls.cert_path else self._folder / f"{OWN}.crt"
                used.setdefault(path, []).append(who)
        return used

    def _shown(self) -> dict[Path, list[tuple[str, str]]]:
        shown: dict[Path, list[tuple[str, str]]] = {}
        certificates = self._engine.certificates
        for place, host, path, _ in certificates.shown() if certificates is not None else ():
            shown.setdefault(path, []).append((place, host))
        return shown

    def _look(self, used: dict[Path, list[str]], shown: dict[Path, list[tuple[str, str]]]) -> list[Known]:
        own = self._folder / f"{OWN}.crt"
        ids = {own: OWN} if own.exists() else {}
        ids |= {path: path.stem for path in self._stored()}
        found = []
        for path in dict.fromkeys([*ids, *used, *shown]):
            chain: tuple[CertificateInfo, ...] = ()
            error = ""
            try:
                chain = tuple(read_file(path))
            except KilnError as fault:
                error = str(fault)
            found.append(
                Known(ids.get(path, ""), path, chain, error, tuple(used.get(path, ())), tuple(shown.get(path, ())))
            )
        return found

    def _stored(self) -> Iterator[Path]:
        return iter(sorted(self._folder.glob("*.pem")))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.pem"

    def _check_name(self, name: str) -> None:
        check_name("certificate", name)
        if name == OWN:
            raise BadRequest(f"{OWN} is the name of the one that the box makes by itself")

    def _write(self, path: Path, pem: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            store(path, pem, 0o600)
        except OSError as error:
            raise KilnNotKept(f"{path} can't be written: {error.strerror}") from error


def _showing(host: Raw, known: Known) -> Raw:
    """``host`` with this certificate. That the box makes its own stays as it was: the file goes before it."""
    if known.id == OWN:
        return {**host, "tls": {"selfSigned": True}}
    kept = {key: value for key, value in (host.get("tls") or {}).items() if key == "selfSigned"}
    return {**host, "tls": {**kept, "certPath": str(known.path), "keyPath": str(known.path)}}


class KilnNotKept(KilnError):
    """The state folder can't be written."""

    status = 507


def check(certificate: bytes, key: bytes, chain: bytes, now: float) -> Checked:
    """Whether key and certificate belong together, and the chain leads on from it in order; ``now`` is seconds since
    1970. Raises ConfigError."""
    found = [*read_pem(certificate), *(read_pem(chain) if chain.strip() else [])]
    private = key_of(key)
    blocks = [*blocks_of(certificate), *blocks_of(chain)]
    leaf = found[0]
    for index, (lower, upper) in enumerate(pairwise(found)):
        if lower.issuer != upper.subject:
            raise ConfigError(
                f"Certificate {index + 2} of the chain is of {upper.subject}, "
                f"but certificate {index + 1} was issued by {lower.issuer}",
                hint="The certificate comes first, then the one that signed it, and so on.",
            )
    for info in found:
        if info.not_after <= now:
            raise ConfigError(expiry(info, now).capitalize())
    pem = private + b"".join(blocks)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem)
        file.flush()
        try:
            TlsContexts().replace("*", file.name, file.name)
        except ConfigError as error:
            raise ConfigError(_reason(error)) from error
    return Checked(tuple(found), pem, tuple(_doubts(leaf, now)))


def _reason(error: ConfigError) -> str:
    cause = error.__cause__
    reason = cause.reason if isinstance(cause, ssl.SSLError) else ""
    match reason:
        case "KEY_VALUES_MISMATCH":
            return "The key is not that of the certificate"
        case "EE_KEY_TOO_SMALL" | "CA_MD_TOO_WEAK":
            return f"The certificate is too weak: {reason.lower().replace('_', ' ')}"
        case _:
            return f"Certificate and key can't be used: {reason or 'no key can be read'}"


def _doubts(leaf: CertificateInfo, now: float) -> Iterator[str]:
    if leaf.self_signed:
        yield "it is self-signed: clients ask whether they may trust it"
    if leaf.not_before > now:
        yield f"it begins only on {time.strftime('%Y-%m-%d', time.gmtime(leaf.not_before))}, by the clock of this box"
    if not leaf.names:
        yield "it has no subjectAltName: browsers refuse it"
    if leaf.not_after - now < WARN_DAYS * 86400:
        yield expiry(leaf, now)


_ALARM = "certificate:expiry:"


def _alarm(path: Path) -> str:
    return f"{_ALARM}{path.name}"


def _ends(paths: list[Path], now: float) -> dict[str, tuple[str, Severity]]:
    found: dict[str, tuple[str, Severity]] = {}
    for path in paths:
        try:
            info = read_file(path)[0]
        except KilnError as error:
            found[_alarm(path)] = (str(error), Severity.WARNING)
            continue
        text = expiry(info, now)
        if text:
            found[_alarm(path)] = (text, Severity.ERROR if info.not_after <= now else Severity.WARNING)
    return found

