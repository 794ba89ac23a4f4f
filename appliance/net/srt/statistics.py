"""What libsrt knows about one connection."""

from __future__ import annotations

from typing import Any

import msgspec


class SrtStatistics(msgspec.Struct, frozen=True):
    """Counts since the connection was made; rates and times of now.

    ``lost`` packets were missing at first (sender's view of what it sends, receiver's of what it gets), ``dropped``
    never came in time, ``belated`` ones after they were given up. ``rate`` is what flows and ``bandwidth`` what the
    path is thought to carry, bit/s; ``rtt`` and ``latency`` in ms; ``buffered`` in ms of media; ``send_waiting``
    packets are not acknowledged yet.
    """

    rtt: float = 0.0
    latency: int = 0
    bandwidth: int = 0
    receive_rate: int = 0
    send_rate: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    receive_lost: int = 0
    send_lost: int = 0
    retransmitted: int = 0
    receive_dropped: int = 0
    send_dropped: int = 0
    undecrypted: int = 0
    receive_retransmitted: int = 0
    receive_belated: int = 0
    receive_buffered: int = 0
    send_buffered: int = 0
    send_waiting: int = 0


def from_trace(trace: Any) -> SrtStatistics:
    """Of an SRT_TRACEBSTATS."""
    return SrtStatistics(
        rtt=round(trace.msRTT, 3), latency=max(trace.msRcvTsbPdDelay, trace.msSndTsbPdDelay),
        bandwidth=int(trace.mbpsBandwidth * 1e6), receive_rate=int(trace.mbpsRecvRate * 1e6),
        send_rate=int(trace.mbpsSendRate * 1e6), packets_received=trace.pktRecvTotal,
        packets_sent=trace.pktSentTotal, bytes_received=trace.byteRecvTotal, bytes_sent=trace.byteSentTotal,
        receive_lost=trace.pktRcvLossTotal, send_lost=trace.pktSndLossTotal, retransmitted=trace.pktRetransTotal,
        receive_dropped=trace.pktRcvDropTotal, send_dropped=trace.pktSndDropTotal,
        undecrypted=trace.pktRcvUndecryptTotal,
        # Of the time since the figures were cleared, which nobody does.
        receive_retransmitted=trace.pktRcvRetrans, receive_belated=trace.pktRcvBelated,
        receive_buffered=trace.msRcvBuf, send_buffered=trace.msSndBuf, send_waiting=trace.pktSndBuf,
    )  # fmt: skip
