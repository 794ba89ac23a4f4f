"""The certificates that TLS ports show."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from appliance.errors import KilnError
from appliance.net.tls import DEFAULT_HOST, TlsContexts, self_signed
from appliance.settings import models

log = logging.getLogger("kiln.engine")

AnyHost = models.Host | models.ManagersHost


class Certificates:
    """Those of the viewers' ports are the virtual hosts', those of the API's ports the managers'.

    Where none is given, or it can't be used, a self-signed one stands in, kept in ``directory``. ``refused`` says what
    could not be used; nothing here keeps a port closed. ``hosts`` are the virtual hosts' (None: those of ``settings``).
    """

    def __init__(self, settings: models.Server, directory: Path, hosts: Iterable[models.Host] | None = None) -> None:
        self.refused: list[str] = []
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
                _load(self.delivery, name, host)
            except KilnError as error:
                refused = str(error)
        return refused

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
                    _load(contexts, name, host)
                except KilnError as error:
                    log.error("certificate refused host=%s reason=%s", name, error)
                    self.refused.append(str(error))
        if DEFAULT_HOST not in contexts.hosts:
            self._stand_in(contexts)
        return contexts

    def _stand_in(self, contexts: TlsContexts) -> None:
        try:
            contexts.replace(DEFAULT_HOST, *self_signed(["localhost"], self._directory))
        except OSError as error:
            log.warning("self-signed certificate is not kept folder=%s reason=%s", self._directory, error.strerror)
            with tempfile.TemporaryDirectory() as folder:
                contexts.replace(DEFAULT_HOST, *self_signed(["localhost"], folder))


def certificate_names(host: AnyHost) -> tuple[str, ...]:
    """The names that ``host`` has a certificate for, none where it names no certificate."""
    return (host.names or (DEFAULT_HOST,)) if host.tls is not None and host.tls.cert_path else ()


def check_certificate(host: AnyHost) -> None:
    """Raises ConfigError when the certificate of ``host`` can't be used."""
    for name in certificate_names(host):
        _load(TlsContexts(), name, host)


def _load(contexts: TlsContexts, name: str, host: AnyHost) -> None:
    assert host.tls is not None
    contexts.replace(name, host.tls.cert_path, host.tls.key_path, host.tls.chain_cert_path or None)
