"""The certificates that TLS ports show."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.errors import KilnError
from appliance.net.certificate import CertificateInfo
from appliance.net.self_signed import own_names, self_signed
from appliance.net.tls import DEFAULT_HOST, TlsContexts
from appliance.settings import models

log = logging.getLogger("kiln.engine")

#: Alarms begin so long before a certificate ends (days).
WARN_DAYS = 21
AnyHost = models.Host | models.ManagersHost


class Certificates:
    """Those of the viewers' ports are the virtual hosts', those of the API's ports the managers'.

    Where none is given, or it can't be used, a self-signed one stands in, kept in ``directory``. ``refused`` says what
    could not be used; nothing here keeps a port closed. ``hosts`` are the virtual hosts' (None: those of ``settings``).
    """

    def __init__(self, settings: models.Server, directory: Path, hosts: Iterable[models.Host] | None = None) -> None:
        self.refused: list[str] = []
        self._self_signed: tuple[Path, Path] | None = None
        self._directory = directory
        self._alpn = ("h2", "http/1.1") if settings.modules.http2.enable else ("http/1.1",)
        if hosts is None:
            hosts = [vhost.host for vhost in settings.virtual_hosts]
        self.delivery = self._contexts(hosts)
        self.api = self._contexts([settings.managers.host])

    def reload(self) -> list[KilnError]:
        """Read all files again. Those that are bad now keep what they had, and are returned."""
        return [*self.delivery.reload(), *self.api.reload()]

    def add(self, host: models.Host) -> str:
        """Show the certificate of a virtual host from now on. Why it can't be used, "" when it can."""
        refused = ""
        for name in certificate_names(host):
            try:
                self._load(self.delivery, name, host)
            except KilnError as error:
                refused = str(error)
        return refused

    def show_managers(self, host: models.ManagersHost) -> str:
        """Show the certificate of the managers from now on. Why it can't be used (then the old one stays), or ""."""
        refused = ""
        names = certificate_names(host)
        for name in names:
            try:
                self._load(self.api, name, host)
            except KilnError as error:
                refused = str(error)
        if not refused:
            for name in set(self.api.hosts) - {each.lower() for each in names} - {DEFAULT_HOST}:
                self.api.remove(name)
            if DEFAULT_HOST not in names:
                self._stand_in(self.api)
        return refused

    def refresh(self, path: Path) -> None:
        """Show what is in the file now, wherever it is shown. Raises ConfigError, and then the old one stays there."""
        for contexts in (self.api, self.delivery):
            for host, files in list(contexts.files.items()):
                if files.cert_path == path:
                    contexts.replace(host, files.cert_path, files.key_path, files.chain_path)

    def renew(self) -> bool:
        """Make a new self-signed certificate where the one that is shown ends soon or lacks a name of this box.
        Blocks while it is made. Whether there is a new one."""
        if self._self_signed is None or self._self_signed[0].parent != self._directory:
            return False
        before = self._self_signed[0].read_bytes()
        self_signed(own_names(), self._directory, cover=True)
        if self._self_signed[0].read_bytes() == before:
            return False
        self.reload()
        return True

    def shown(self) -> Iterator[tuple[str, str, Path, Path]]:
        """(``api`` or ``delivery``, host, certificate file, key file) of each that is shown."""
        for place, contexts in (("api", self.api), ("delivery", self.delivery)):
            for host, files in contexts.files.items():
                yield place, host, files.cert_path, files.key_path

    def remove(self, host: models.Host) -> None:
        """The virtual host is gone, and its certificate with it."""
        names = certificate_names(host)
        for name in names:
            self.delivery.remove(name)
        if DEFAULT_HOST in names:
            self._stand_in(self.delivery)

    def _contexts(self, hosts: Iterable[AnyHost]) -> TlsContexts:
        contexts = TlsContexts(self._alpn)
        for host in hosts:
            for name in certificate_names(host):
                try:
                    self._load(contexts, name, host)
                except KilnError as error:
                    log.error("certificate refused host=%s reason=%s", name, error)
                    self.refused.append(str(error))
        if DEFAULT_HOST not in contexts.hosts:
            self._stand_in(contexts)
        return contexts

    def _stand_in(self, contexts: TlsContexts) -> None:
        try:
            contexts.replace(DEFAULT_HOST, *self._own())
        except KilnError as error:
            log.error("no self-signed certificate reason=%s", error)
            self.refused.append(str(error))

    def _own(self) -> tuple[Path, Path]:
        """Files of the self-signed certificate, made where there is none. Raises KilnError."""
        if self._self_signed is None:
            try:
                self._self_signed = self_signed(own_names(), self._directory, cover=True)
            except OSError as error:
                log.warning("self-signed certificate is not kept folder=%s reason=%s", self._directory, error.strerror)
                folder = tempfile.mkdtemp(prefix="kiln-tls-")
                atexit.register(shutil.rmtree, folder, True)
                self._self_signed = self_signed(own_names(), folder, cover=True)
        return self._self_signed

    def _load(self, contexts: TlsContexts, name: str, host: AnyHost) -> None:
        """Raises KilnError."""
        assert host.tls is not None
        if host.tls.cert_path:
            _load(contexts, name, host)
        else:
            contexts.replace(name, *self._own())


def certificate_names(host: AnyHost) -> tuple[str, ...]:
    """The names that ``host`` has a certificate for, none where it names no certificate."""
    named = host.tls is not None and (host.tls.cert_path or host.tls.self_signed)
    return (host.names or (DEFAULT_HOST,)) if named else ()


def check_certificate(host: AnyHost) -> None:
    """Raises ConfigError when the certificate of ``host`` can't be used."""
    if host.tls is not None and host.tls.cert_path:
        for name in certificate_names(host):
            _load(TlsContexts(), name, host)


def expiry(info: CertificateInfo, now: float) -> str:
    """What is to be said about the end of a certificate, "" while that is over 21 days away."""
    left = info.not_after - now
    until = time.strftime("%Y-%m-%d", time.gmtime(info.not_after))
    if left <= 0:
        return f"the certificate of {info.subject} has expired on {until}: clients refuse it"
    if left < WARN_DAYS * 86400:
        return f"the certificate of {info.subject} ends on {until}, in {left / 86400:.0f} days"
    return ""


def _load(contexts: TlsContexts, name: str, host: AnyHost) -> None:
    assert host.tls is not None
    contexts.replace(name, host.tls.cert_path, host.tls.key_path, host.tls.chain_cert_path or None)
