"""httpx through the guard. Imported when the first request is made, for httpx is heavy."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httpcore
import httpx
import trio

from appliance.errors import Unavailable

if TYPE_CHECKING:
    from appliance.net.egress.guard import Egress


class _GuardedBackend(httpcore.TrioBackend):
    """Names are looked up and checked by the guard; httpcore connects to the address that it is given."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        seconds = float("inf") if timeout is None else timeout
        fault: Exception = httpcore.ConnectTimeout(f"{host}:{port} does not answer in {seconds:g} s")
        with trio.move_on_after(seconds):
            try:
                addresses = await self._egress.resolve(host, port)
            except Unavailable as error:
                raise httpcore.ConnectError(str(error)) from error
            share = seconds / len(addresses)
            for address, number in addresses:
                try:
                    return await super().connect_tcp(address, number, share, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    fault = error
        raise fault

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no URL leads to a unix socket")


def guarded_transport(egress: Egress, verify: ssl.SSLContext | bool) -> httpx.AsyncBaseTransport:
    transport = httpx.AsyncHTTPTransport(trust_env=False, verify=False)
    context = httpx.create_ssl_context(verify=verify, trust_env=False)
    # httpx has no parameter for the network under its pool.
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=context, max_connections=20, max_keepalive_connections=5, keepalive_expiry=5.0,
        network_backend=_GuardedBackend(egress),
    )  # fmt: skip
    return transport
