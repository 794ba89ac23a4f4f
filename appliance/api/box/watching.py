"""All that watches the box, wired to one engine."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.api.box.alarms import Alarms
from appliance.api.box.events import Events
from appliance.api.box.logs import Logs
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.watch import Feed, Machine, State
from appliance.logs import RING
from appliance.supervisor import ChildSpec


class Watching:
    """Adds the child that looks at the box while somebody follows its events."""

    def __init__(self, engine: Engine) -> None:
        self.machine = Machine()
        self.state = State(engine, self.machine)
        self.feed = Feed(self.state.items, self.state.refresh)
        engine.alarms.on_change(lambda change, alarm: self.feed.wake())
        engine.supervisor.add(ChildSpec(name="events", start=self.feed.run))
        self._groups = (Events(self.feed), Alarms(engine.alarms), Logs(RING))

    def routes(self) -> Iterator[Route]:
        for group in self._groups:
            yield from group.routes()
