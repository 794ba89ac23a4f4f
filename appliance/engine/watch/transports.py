"""What SRT and MPEG-TS know of the way that a stream comes in and goes out, by stream, read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from appliance.net.srt import SrtStatistics
from appliance.protocols.mpegts.demuxer import Damage

if TYPE_CHECKING:
    from appliance.engine.engine import Engine

Item = dict[str, Any]
#: (name of the sample's family without ``kiln_``, its value)
Samples = Iterator[tuple[str, float]]


class Transports:
    """One look at every connection, made once for all streams that are told of together."""

    def __init__(self, engine: Engine) -> None:
        ingest, delivery = engine.ingest, engine.delivery
        srt = ingest.srt if ingest else None
        mpegts = ingest.mpegts if ingest else None
        server = delivery.srt_server if delivery else None
        self._received: dict[str, SrtStatistics] = srt.statistics if srt else {}
        self._damage: dict[str, Damage] = {**(srt.damage if srt else {}), **(mpegts.damage if mpegts else {})}
        self._played: dict[str, list[SrtStatistics]] = server.statistics if server else {}
        self._refused: dict[str, dict[int, int]] = {
            "publish": srt.counters.reasons if srt else {}, "play": server.counters.reasons if server else {},
        }  # fmt: skip
        self._mpegts = mpegts.counters if mpegts else None

    def describe(self, label: str) -> Item:
        """``srt`` and ``transport`` of the input stream ``label`` (``vhost/app/stream``), each where it has it."""
        item: Item = {}
        statistics, damage = self._received.get(label), self._damage.get(label)
        if statistics is not None:
            item["srt"] = {
                **_common(statistics), "bitrate": statistics.receive_rate, "packets": statistics.packets_received,
                "bytes": statistics.bytes_received, "lost": statistics.receive_lost,
                "retransmitted": statistics.receive_retransmitted, "belated": statistics.receive_belated,
                "dropped": statistics.receive_dropped, "undecrypted": statistics.undecrypted,
                "bufferedMs": statistics.receive_buffered,
            }  # fmt: skip
        if damage is not None:
            item["transport"] = asdict(damage)
        return item

    def players(self, label: str) -> list[Item]:
        """Each SRT player of the output stream ``label``."""
        return [
            {
                **_common(each), "bitrate": each.send_rate, "packets": each.packets_sent, "bytes": each.bytes_sent,
                "lost": each.send_lost, "retransmitted": each.retransmitted, "dropped": each.send_dropped,
                "bufferedMs": each.send_buffered,
            }
            for each in self._played.get(label, ())
        ]  # fmt: skip

    def figures(self, label: str) -> Item:
        """The few that are worth following."""
        item: Item = {}
        statistics, damage = self._received.get(label), self._damage.get(label)
        if statistics is not None:
            item["srt"] = {
                "rttMs": round(statistics.rtt), "lost": statistics.receive_lost,
                "dropped": statistics.receive_dropped,
            }  # fmt: skip
        if damage is not None:
            item["damaged"] = damage.continuity + damage.broken + damage.errors + damage.scrambled + damage.tables
        return item

    def measured(self, label: str) -> Samples:
        """Samples of the input stream ``label``."""
        statistics = self._received.get(label)
        if statistics is not None:
            yield "srt_rtt_seconds", statistics.rtt / 1000
            yield "srt_latency_seconds", statistics.latency / 1000
            yield "srt_bandwidth_bps", statistics.bandwidth
            yield "srt_received_packets", statistics.packets_received
            yield "srt_lost_packets", statistics.receive_lost
            yield "srt_retransmitted_packets", statistics.receive_retransmitted
            yield "srt_belated_packets", statistics.receive_belated
            yield "srt_dropped_packets", statistics.receive_dropped
            yield "srt_undecrypted_packets", statistics.undecrypted

    def damage(self, label: str) -> Iterator[tuple[str, int]]:
        """(fault, how often) of the input stream ``label``."""
        found = self._damage.get(label)
        if found is not None:
            yield from asdict(found).items()

    def played(self, label: str) -> Samples:
        """Samples of all SRT players of the output stream ``label`` together."""
        players: Sequence[SrtStatistics] = self._played.get(label, ())
        if players:
            yield "srt_play_rtt_seconds", max(each.rtt for each in players) / 1000
            yield "srt_play_retransmitted_packets", sum(each.retransmitted for each in players)
            yield "srt_play_dropped_packets", sum(each.send_dropped for each in players)

    def refused(self) -> Iterator[tuple[str, str, int]]:
        """(``publish`` or ``play``, reject code, how often)."""
        for side, reasons in self._refused.items():
            for code, count in list(reasons.items()):
                yield side, str(code), count

    def turned_away(self) -> Iterator[tuple[str, int]]:
        """(why, how often) packets of MPEG-TS ports came to nothing."""
        counters = self._mpegts
        if counters is not None:
            yield "refused", counters.refused
            yield "protocol-error", counters.protocol_errors
            yield "second-sender", counters.strangers
            yield "no-stream", counters.unmapped


def _common(statistics: SrtStatistics) -> Item:
    return {"rttMs": statistics.rtt, "latencyMs": statistics.latency, "bandwidth": statistics.bandwidth}
