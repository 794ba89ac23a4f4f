"""Which HTTP servers a Server.xml asks for, and where each listens."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from appliance.settings import models


class HttpPlace(msgspec.Struct, frozen=True):
    """An HTTP server: ``name`` as its ports are known by (``api-tls`` …)."""

    name: str
    hosts: tuple[str, ...]
    port: int
    tls: bool


def http_places(server: models.Server) -> Iterator[HttpPlace]:
    """Those of ``server``, without the unix socket. Publishers that name the same port share the first one's."""
    opened: set[int] = set()
    parts: list[tuple[str, models.BindApi | models.BindHttp | None]] = [
        (name, getattr(server.bind.publishers, name)) for name in ("llhls", "hls", "thumbnail")
        if name != "llhls" or server.modules.llhls.enable
    ]  # fmt: skip
    parts.append(("api", server.bind.managers.api))
    for name, part in parts:
        if part is None:
            continue
        for port, tls in ((None if part.tls_only else part.port, False), (part.tls_port, True)):
            if port is not None and (port not in opened or not port):
                opened.add(port)
                yield HttpPlace(f"{name}-tls" if tls else name, server.ip, port, tls)
