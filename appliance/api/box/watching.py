"""All that watches the box, wired to one engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from appliance.api.box.alarms import Alarms
from appliance.api.box.events import Events
from appliance.api.box.logs import Logs
from appliance.api.box.preview import Preview
from appliance.api.box.support import SupportBundle
from appliance.api.box.system import System
from appliance.api.metrics import Metrics
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.watch import Feed, Machine, State
from appliance.engine.watch.measures import Measures
from appliance.engine.watch.state import TaskOnBoard
from appliance.logs import RING
from appliance.supervisor import ChildSpec
from appliance.transcoder.preview import Previews


class Watching:
    """Adds the child that looks at the box while somebody follows its events."""

    def __init__(self, engine: Engine, previews_shed: Callable[[], str] = lambda: "") -> None:
        tasks: Callable[[], Iterable[TaskOnBoard]] = engine.tasks.all
        self.machine = Machine()
        self.state = State(engine, self.machine, tasks)
        self.feed = Feed(self.state.items, self.state.refresh)
        self.measures = Measures(engine, self.machine, tasks, lambda: self.feed.followers)
        engine.alarms.on_change(lambda change, alarm: self.feed.wake())
        engine.supervisor.add(ChildSpec(name="events", start=self.feed.run))
        system = System(engine, self.machine, self.state)
        metrics = Metrics(self.measures)
        self._groups = (
            system, Events(self.feed), Alarms(engine.alarms), Logs(RING),
            Preview(engine, Previews(engine.clock), previews_shed), metrics,
            SupportBundle(engine, self.state, system, metrics, RING),
        )  # fmt: skip

    def routes(self) -> Iterator[Route]:
        for group in self._groups:
            yield from group.routes()
