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
    could not be used; nothing here keeps a port closed.
    """

    def __init__(self, settings: models.Server, directory: Path) -> None:
        self.refused: list[str] = []
        self._directory = directory
        self._alpn = ("h2", "http/1.1") if settings.modules.http2.enable else ("http/1.1",)
        self.delivery = self._contexts(vhost.host for vhost in settings.virtual_hosts)
        self.api = self._contexts([settings.managers.host])

    def reload(self) -> list[KilnError]:
        """Read all files again. Those that are bad now keep what they had, and are returned."""
        return [*self.delivery.reload(), *self.api.reload()]

    def _contexts(self, hosts: Iterable[AnyHost]) -> TlsContexts:
        contexts = TlsContexts(self._alpn)
        for host in hosts:
            if host.tls is None or not host.tls.cert_path:
                continue
            for name in host.names or (DEFAULT_HOST,):
                try:
                    contexts.replace(name, host.tls.cert_path, host.tls.key_path, host.tls.chain_cert_path or None)
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
