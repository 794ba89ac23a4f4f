"""How much a peer may ask of a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server. Sizes are bytes, times are seconds.

    Times are enforced by one sweep over all connections every ``sweep_interval``, so they hold to that precision.
    A body must arrive at 1 KiB/s on average once ``body_timeout`` has passed.
    """

    header_size: int = 16 * 1024
    body_size: int = 1024 * 1024
    header_timeout: float = 10.0
    body_timeout: float = 10.0
    idle_timeout: float = 60.0
    write_timeout: float = 10.0
    handshake_timeout: float = 10.0
    handshakes: int = 8
    connections: int = 4096
    connections_per_peer: int = 512
    streams: int = 100
    websocket_message: int = 1024 * 1024
    websocket_ping: float = 20.0
    sweep_interval: float = 1.0
