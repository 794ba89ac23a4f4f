"""One source on one port: who sends, and the stream that it feeds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.errors import KilnError, RemoteProtocolError
from appliance.media.contracts import Directory, Source
from appliance.net.quiet_log import QuietLog
from appliance.protocols.mpegts.feed import AudioName, TransportFeed
from appliance.settings.models.providers import MpegtsProvider as MpegtsSettings

log = logging.getLogger("kiln.mpegts")

#: A sender gives way to another after so much silence, when no time-out is set (ms).
_GIVE_WAY_MS: Final = 3000
#: How often a stream that could not be taken is tried again, while packets come (s).
_TRY_EVERY: Final = 1.0
_RTP_MPEGTS: Final = 33
_SYNC: Final = 0x47


@dataclass(frozen=True, slots=True)
class Target:
    """Which stream a port feeds."""

    vhost: str
    app: str
    name: str
    settings: MpegtsSettings


class Counters(msgspec.Struct):
    """Since the provider was made. ``streams``: taken; ``refused``: could not be; ``strangers``: batches of senders
    that had to wait for another's end; ``unmapped``: batches for a port without a stream; ``bytes``: received."""

    streams: int = 0
    refused: int = 0
    protocol_errors: int = 0
    strangers: int = 0
    unmapped: int = 0
    bytes: int = 0


class Session:
    """A port, with its sender while there is one. ``look_up`` tells which stream the port feeds now.

    ``now`` is monotonic seconds wherever it is given.
    """

    def __init__(
        self, directory: Directory, counters: Counters, shown: str, transport: str,
        look_up: Callable[[], Target | None],
    ) -> None:  # fmt: skip
        self.label = ""
        self.sender: tuple[str, int] | None = None
        self.counters = counters
        self._directory = directory
        self._shown = shown
        self._transport = transport
        self._look_up = look_up
        self._feed: TransportFeed | None = None
        self._target: Target | None = None
        self._heard = 0.0
        self._try_at = 0.0
        self._damaged = 0
        self._quiet = QuietLog(log)

    @property
    def feed(self) -> TransportFeed | None:
        """What is being fed; None without a sender."""
        return self._feed

    def hears(self, sender: tuple[str, int]) -> bool:
        """Whether ``sender`` is the one that is listened to."""
        return self.sender == sender

    def receive(self, data: bytes, sender: tuple[str, int], now: float) -> None:
        """Bytes of ``sender``: RTP headers are taken off before. Never raises."""
        self.counters.bytes += len(data)
        if sender != self.sender:
            if self.sender is not None:
                self._stranger(sender)
                return
            if now < self._try_at or not self._begin(sender, now):
                return
        self._heard = now
        feed = self._feed
        if feed is None:
            return
        try:
            feed.receive(data)
        except RemoteProtocolError as error:
            self.counters.protocol_errors += 1
            self._try_at = now + _TRY_EVERY
            self.end(f"protocol error: {error}")
        except KilnError as error:
            self._try_at = now + _TRY_EVERY
            self.end(f"refused: {error}")

    def sweep(self, now: float) -> None:
        """End what is silent. Called some times a second."""
        if self._target is None or self.sender is None:
            return
        self._tell_damage()
        silence = self._target.settings.packet_silence_timeout_ms
        if (now - self._heard) * 1000 > (silence or _GIVE_WAY_MS):
            if silence:
                self.end(f"no data for {silence} ms")
            else:
                # The stream waits for ever, but for anybody.
                self.sender = None

    def end(self, reason: str) -> None:
        """The sender is gone, or has to."""
        feed, self._feed, self.sender = self._feed, None, None
        if feed is not None:
            try:
                feed.finish()
            except KilnError as error:
                reason = f"{reason}, refused: {error}"
            feed.target.close(reason)
            log.info("publisher off stream=%s on=%s reason=%r", self.label, self._shown, reason)
            self.label = ""

    def _begin(self, sender: tuple[str, int], now: float) -> bool:
        if self._feed is not None:
            # It waited without a time-out: another goes on with a stream of its own.
            self.end("another sender")
        target = self._target = self._look_up()
        self._try_at = now + _TRY_EVERY
        if target is None:
            self.counters.unmapped += 1
            self._quiet.log(logging.WARNING, "unmapped", "no stream for packets on=%s peer=%s:%d reason=%r",
                            self._shown, *sender, "no application maps this port")  # fmt: skip
            return False
        host, port = sender
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        source = Source("MPEGTS", f"{self._transport}://{peer}", host)
        try:
            taken = self._directory.open_input(target.vhost, target.app, target.name, source)
        except KilnError as error:
            self.counters.refused += 1
            self._quiet.log(logging.WARNING, "refused", "refused stream=%s/%s/%s on=%s peer=%s reason=%r", target.vhost,
                            target.app, target.name, self._shown, peer, str(error))  # fmt: skip
            return False
        names = [AudioName(item.name, item.language, item.characteristics) for item in target.settings.audio_map]
        label = self.label = taken.label

        def report(reason: str) -> None:
            log.warning("not carried stream=%s on=%s reason=%r", label, self._shown, reason)

        feed = self._feed = TransportFeed(taken, audio_names=names, report=report)
        taken.on_cancel(lambda reason: self._cancelled(feed, reason))
        self.sender, self._try_at = sender, 0.0
        self._damaged = 0
        self.counters.streams += 1
        log.info("publisher on stream=%s on=%s peer=%s", label, self._shown, peer)
        return True

    def _cancelled(self, feed: TransportFeed, reason: str) -> None:
        if self._feed is feed:
            self._feed, self.sender = None, None
            log.info("publisher off stream=%s on=%s reason=%r", self.label, self._shown, reason)
            self.label = ""

    def _stranger(self, sender: tuple[str, int]) -> None:
        self.counters.strangers += 1
        assert self.sender is not None
        self._quiet.log(logging.WARNING, "stranger", "sender ignored stream=%s on=%s peer=%s:%d sender=%s:%d",
                        self.label, self._shown, *sender, *self.sender)  # fmt: skip

    def _tell_damage(self) -> None:
        if self._feed is None:
            return
        damage = self._feed.damage
        count = damage.continuity + damage.broken + damage.errors + damage.scrambled
        if count > self._damaged:
            self._damaged = count
            self._quiet.log(
                logging.WARNING, "damage", "transport stream damaged stream=%s continuity=%d broken=%d errors=%d "
                "scrambled=%d", self.label, damage.continuity, damage.broken, damage.errors, damage.scrambled,
            )  # fmt: skip


def without_rtp(datagram: bytes) -> bytes:
    """The transport packets of a datagram that may be RTP (RFC 2250, RFC 3550 5.1)."""
    if len(datagram) <= 12 or datagram[0] == _SYNC or datagram[0] & 0xC0 != 0x80 or datagram[1] & 0x7F != _RTP_MPEGTS:
        return datagram
    at = 12 + 4 * (datagram[0] & 15)
    if datagram[0] & 0x10:
        at += 4 + 4 * int.from_bytes(datagram[at + 2 : at + 4], "big")
    end = len(datagram) - datagram[-1] if datagram[0] & 0x20 else len(datagram)
    return datagram[at:end]
