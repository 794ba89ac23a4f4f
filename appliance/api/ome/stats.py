"""Statistics (catalogue 1.12, 3.10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, success
from appliance.api.ome.events import live_input
from appliance.api.ome.lookup import find_application, find_vhost
from appliance.api.ome.stream_resource import api_time
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.statistics import Meter

_CURRENT = "/v1/stats/current"


class Stats:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._statistics = engine.statistics

    def routes(self) -> Iterator[Route]:
        yield Route("GET", _CURRENT, self.server, Role.VIEWER)
        yield Route("GET", f"{_CURRENT}/vhosts/{{v}}", self.vhost, Role.VIEWER)
        yield Route("GET", f"{_CURRENT}/vhosts/{{v}}/apps/{{a}}", self.application, Role.VIEWER)
        yield Route("GET", f"{_CURRENT}/vhosts/{{v}}/apps/{{a}}/streams/{{s}}", self.stream, Role.VIEWER)
        yield Route("GET", f"{_CURRENT}/internals", self.internals, Role.VIEWER)
        yield Route("GET", f"{_CURRENT}/internals/queues", self.queues, Role.VIEWER)

    async def server(self, request: Request) -> Answer:
        self._statistics.update()
        return success(_metrics(self._statistics.server))

    async def vhost(self, request: Request, vhost: str) -> Answer:
        find_vhost(self._engine, vhost)
        self._statistics.update()
        return success(_metrics(self._statistics.vhost(vhost)))

    async def application(self, request: Request, vhost: str, app: str) -> Answer:
        find_application(self._engine, vhost, app)
        self._statistics.update()
        return success(_metrics(self._statistics.app(vhost, app)))

    async def stream(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        found = live_input(self._engine, vhost, app, stream)
        self._statistics.update()
        return success(_metrics(self._statistics.stream(found)))

    async def internals(self, request: Request) -> Answer:
        return success([f"{_CURRENT}/internals/queues"])

    async def queues(self, request: Request) -> Answer:
        """The rings between the hubs and those who read them."""
        self._statistics.update()
        return success(
            [
                {
                    "id": queue.id,
                    "urn": urn,
                    "type": "Packet",
                    "size": reader.pending,
                    "peak": max(queue.peak, reader.peak, reader.pending),
                    "threshold": reader.max_packets,
                    "avgWaitingTime": queue.waiting,
                    "inputPerSecond": queue.came_rate,
                    "outputPerSecond": queue.taken_rate,
                    "drop": reader.dropped,
                }
                for urn, reader, queue in self._statistics.queues()
            ]
        )


def _metrics(meter: Meter) -> dict[str, Any]:
    return {
        "createdTime": api_time(meter.created),
        "lastUpdatedTime": api_time(meter.updated),
        "totalBytesIn": meter.bytes_in,
        "totalBytesOut": meter.bytes_out,
        "avgThroughputIn": meter.last_in * 8,
        "avgThroughputOut": meter.last_out * 8,
        "maxThroughputIn": meter.max_in,
        "maxThroughputOut": meter.max_out,
        "lastThroughputIn": meter.last_in,
        "lastThroughputOut": meter.last_out,
        "lastRecvTime": api_time(meter.received),
        "lastSentTime": api_time(meter.sent),
        "totalConnections": meter.total_connections,
        "maxTotalConnections": meter.most,
        "maxTotalConnectionTime": api_time(meter.most_at),
        "connections": meter.connections,
    }
