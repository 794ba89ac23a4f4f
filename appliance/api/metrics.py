"""``/metrics``: everything that is measured, in Prometheus' text format, made when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import trio

from appliance.access.roles import Role
from appliance.api.box.query import PRIVATE
from appliance.api.envelope import Answer
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.watch.measures import Family, Measures, all_families
from appliance.errors import NotBuilt

#: Samples rendered at a time: about a millisecond.
AT_ONCE = 30
#: Seconds of gathering after which others run.
SLICE = 0.001
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The library for the text is loaded with the first scrape, in a thread: it is not on the way to the air."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._library: Any = None
        self._one_at_a_time = trio.Lock()

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/metrics", self.scrape, Role.VIEWER)

    async def scrape(self, request: Request) -> Answer:
        """All metrics in Prometheus' text format 0.0.4."""
        async with self._one_at_a_time:
            if self._library is None:
                self._library = await trio.to_thread.run_sync(_load)
            disks = await self._measures.disks()
            families = all_families()
            breath = trio.current_time() + SLICE
            for _ in self._measures.fill(families, disks):
                if trio.current_time() > breath:
                    await trio.lowlevel.checkpoint()
                    breath = trio.current_time() + SLICE
            pieces: list[bytes] = []
            for family in families:
                for piece in self._rendered(family):
                    pieces.append(piece)
                    if trio.current_time() > breath:
                        await trio.lowlevel.checkpoint()
                        breath = trio.current_time() + SLICE
        return Answer(200, b"".join(pieces), PRIVATE, CONTENT_TYPE)

    def _rendered(self, family: Family) -> Iterator[bytes]:
        """The text of one family in pieces; only the first one has its head (two lines)."""
        kinds = {"counter": self._library.core.CounterMetricFamily, "gauge": self._library.core.GaugeMetricFamily}
        for at in range(0, len(family.samples), AT_ONCE):
            metric = kinds[family.kind](family.name, family.help, labels=family.labels)
            for labels, value in family.samples[at : at + AT_ONCE]:
                metric.add_metric(labels, value)
            text: bytes = self._library.exposition.generate_latest(_One(metric))
            yield text if not at else text.split(b"\n", 2)[2]


class _One:
    """A registry of one metric."""

    def __init__(self, metric: object) -> None:
        self._metric = metric

    def collect(self) -> list[object]:
        return [self._metric]


class _Library:
    def __init__(self) -> None:
        self.core = importlib.import_module("prometheus_client.core")
        self.exposition = importlib.import_module("prometheus_client.exposition")


def _load() -> _Library:
    """Raises NotBuilt."""
    try:
        return _Library()
    except ImportError:
        raise NotBuilt("prometheus_client is not installed", hint="make install brings it") from None
