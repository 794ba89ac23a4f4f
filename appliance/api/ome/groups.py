"""The groups of ``/v1`` that work with live streams: what goes in and out, is recorded, pushed, dumped and counted."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.api.ome.dumps import Dumps
from appliance.api.ome.events import Events
from appliance.api.ome.multiplex_channels import MultiplexChannels
from appliance.api.ome.pushes import Pushes
from appliance.api.ome.records import Records
from appliance.api.ome.scheduled_channels import ScheduledChannels
from appliance.api.ome.stats import Stats
from appliance.api.ome.streams import Streams
from appliance.api.ome.subtitles import Subtitles
from appliance.api.routes import Route
from appliance.engine.engine import Engine


class LiveStreams:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._groups = (
            Streams(engine), Records(engine), Pushes(engine), Dumps(engine), Events(engine), Subtitles(engine),
            Stats(engine), ScheduledChannels(engine), MultiplexChannels(engine),
        )  # fmt: skip

    def routes(self) -> Iterator[Route]:
        for group in self._groups:
            yield from group.routes()
