"""One SRT publisher: a socket, and the stream that it feeds."""

from __future__ import annotations

import logging
from typing import Final

import trio

from appliance.errors import KilnError, RemoteProtocolError
from appliance.media.contracts import Input
from appliance.net.quiet_log import QuietLog
from appliance.net.srt import SrtSocket, SrtStatistics
from appliance.protocols.mpegts.feed import AudioName, TransportFeed
from appliance.providers.srt.admission import Wish

log = logging.getLogger("kiln.srt")

#: A caller must be on the air in this time (s).
ON_AIR_WITHIN: Final = 15.0
#: A caller that sends nothing at all goes sooner (s).
SEND_WITHIN: Final = 10.0


class Connection:
    """``run`` serves the caller until either side ends it. The provider looks at ``overdue`` once a second."""

    def __init__(self, socket: SrtSocket, wish: Wish, target: Input) -> None:
        self.socket = socket
        self.wish = wish
        self.label = target.label
        self.target = target
        names = [AudioName(item.name, item.language, item.characteristics) for item in wish.settings.audio_map]
        self.feed = TransportFeed(target, audio_names=names, report=self._report)
        self._scope = trio.CancelScope()
        self._reason = ""
        self._quiet = QuietLog(log)
        self._began = self._heard = trio.current_time()
        self._heard_bytes = 0
        self._damaged = 0
        target.on_cancel(self.cancel)

    @property
    def statistics(self) -> SrtStatistics:
        return self.socket.statistics()

    @property
    def sending(self) -> bool:
        """Whether anything has come."""
        return self.socket.bytes_received > 0

    def cancel(self, reason: str) -> None:
        """End the connection from our side."""
        self._reason = self._reason or reason
        self._scope.cancel()

    def overdue(self, now: float) -> str:
        """Why this connection has to go now, "" when it may stay. Called once a second."""
        # So that the last ones are known when the connection is over.
        self.socket.statistics()
        self._tell_damage()
        count = self.socket.bytes_received
        if count != self._heard_bytes:
            self._heard, self._heard_bytes = now, count
        age = now - self._began
        if not count and age > SEND_WITHIN:
            return "nothing was sent within 10 s"
        if not self.feed.on_air and age > ON_AIR_WITHIN:
            return f"not on the air within 15 s: {self.feed.lacking}"
        silence = self.wish.settings.packet_silence_timeout_ms
        if silence and (now - self._heard) * 1000 > silence:
            return f"no data for {silence} ms"
        return ""

    async def run(self) -> str:
        """Why it ended."""
        reason = "internal fault"
        log.info("publisher on stream=%s peer=%s latency_ms=%d", self.label, self.socket.peer, self.socket.latency_ms)
        try:
            with self._scope:
                reason = await self._serve()
            if self._scope.cancelled_caught:
                reason = self._reason
        except trio.Cancelled:
            reason = "the box stops"
            raise
        finally:
            self.socket.close()
            self.target.close(reason)
            log.info("publisher off stream=%s peer=%s reason=%r bytes=%d", self.label, self.socket.peer, reason,
                     self.socket.bytes_received)  # fmt: skip
        return reason

    async def _serve(self) -> str:
        socket, feed = self.socket, self.feed
        try:
            while data := await socket.receive():
                feed.receive(data)
            feed.finish()
        except RemoteProtocolError as error:
            return f"protocol error: {error}"
        except KilnError as error:
            # The engine can't take the stream after all.
            return f"refused: {error}"
        return "closed by the publisher"

    def _tell_damage(self) -> None:
        damage = self.feed.damage
        count = damage.continuity + damage.broken + damage.errors + damage.scrambled
        if count > self._damaged:
            self._damaged = count
            self._quiet.log(
                logging.WARNING, "damage", "transport stream damaged stream=%s continuity=%d broken=%d errors=%d "
                "scrambled=%d lost=%d", self.label, damage.continuity, damage.broken, damage.errors, damage.scrambled,
                self.statistics.receive_dropped,
            )  # fmt: skip

    def _report(self, reason: str) -> None:
        log.warning("not carried stream=%s peer=%s reason=%r", self.label, self.socket.peer, reason)
