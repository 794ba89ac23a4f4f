"""Who is connected: counts, and the limit of connections that do not publish."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import msgspec

from appliance.media.contracts import Directory
from appliance.net.quiet_log import QuietLog
from appliance.providers.rtmp.ingest import Peer

log = logging.getLogger("kiln.rtmp")

#: Connections of one address that do not publish yet.
PENDING_PER_ADDRESS: Final = 32


class Counters(msgspec.Struct):
    """Since the provider was made; ``connections``, ``pending`` and ``publishers`` are of now."""

    connections: int = 0
    pending: int = 0
    publishers: int = 0
    accepted: int = 0
    published: int = 0
    refused: int = 0
    protocol_errors: int = 0


class Room:
    """What the connections of one provider share."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.counters = Counters()
        self._pending: Counter[str] = Counter()
        self._publishing: Counter[tuple[str, str]] = Counter()
        self._quiet = QuietLog(log)

    def enter(self, peer: Peer) -> bool:
        """Count a new connection, unless its address has too many already."""
        counters = self.counters
        if self._pending[peer.address] >= PENDING_PER_ADDRESS:
            counters.refused += 1
            self._quiet.log(logging.WARNING, "pending", "connection refused peer=%s reason=%r", peer.name,
                            f"{PENDING_PER_ADDRESS} connections of this address that do not publish")  # fmt: skip
            return False
        self._pending[peer.address] += 1
        counters.accepted += 1
        counters.connections += 1
        counters.pending += 1
        return True

    def no_longer_pending(self, peer: Peer) -> None:
        self.counters.pending -= 1
        self._pending[peer.address] -= 1
        if not self._pending[peer.address]:
            del self._pending[peer.address]

    def leave(self) -> None:
        self.counters.connections -= 1

    def started(self, vhost: str, app: str) -> None:
        """One more publisher."""
        self.counters.publishers += 1
        self.counters.published += 1
        self._publishing[vhost, app] += 1

    def stopped(self, vhost: str, app: str) -> None:
        self.counters.publishers -= 1
        self._publishing[vhost, app] -= 1
        if not self._publishing[vhost, app]:
            del self._publishing[vhost, app]

    def publishing(self, vhost: str, app: str) -> int:
        """How many publishers an application has."""
        return self._publishing[vhost, app]

    def log_end(self, peer: Peer, reason: str, count: int) -> None:
        """A peer can cause these lines at will: at most one a second of each kind."""
        text = "connection over peer=%s reason=%r bytes=%d"
        kind = reason.partition(":")[0]
        if "refused" in kind or kind == "protocol error":
            self._quiet.log(logging.WARNING, kind[:7], text, peer.name, reason, count)
        else:
            log.debug(text, peer.name, reason, count)
