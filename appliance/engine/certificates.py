"""The certificates that TLS ports show."""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.errors import KilnError
from appliance.net.tls import DEFAULT_HOST, TlsContexts, self_signed
from appliance.settings import models

log = logging.getLogger("kiln.engine")


def tls_contexts(settings: models.Server, directory: Path) -> TlsContexts:
    """One certificate for each host name that a virtual host declares with TLS, Managers/Host/TLS for its own names,
    and a self-signed one, kept in ``directory``, for everybody else. A bad certificate is logged and left out."""
    contexts = TlsContexts(("h2", "http/1.1") if settings.modules.http2.enable else ("http/1.1",))
    hosts: list[models.Host | models.ManagersHost] = [vhost.host for vhost in settings.virtual_hosts]
    hosts.append(settings.managers.host)
    for host in hosts:
        if host.tls is None or not host.tls.cert_path:
            continue
        for name in host.names or (DEFAULT_HOST,):
            try:
                contexts.replace(name, host.tls.cert_path, host.tls.key_path, host.tls.chain_cert_path or None)
            except KilnError as error:
                log.error("certificate refused host=%s reason=%s", name, error)
    if DEFAULT_HOST not in contexts.hosts:
        contexts.replace(DEFAULT_HOST, *self_signed(["localhost"], directory))
    return contexts
