"""``/box/v1/system``: how the box itself is doing."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, success
from appliance.api.ome.lookup import find_input
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.media.clock import NANOSECONDS
from appliance.supervisor import Supervisor
from appliance.version import VERSION


class System:
    """Read-only figures of the engine process. Times are seconds unless their name says ms; sizes are bytes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/system", self.system, Role.VIEWER)
        yield Route("GET", "/box/v1/vhosts/{v}/apps/{a}/streams/{s}", self.stream, Role.VIEWER)

    async def system(self, request: Request) -> Answer:
        engine = self._engine
        lag = engine.lag.figures()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return success(
            {
                "version": VERSION,
                "uptime": (engine.clock.wall() - engine.started_wall) / NANOSECONDS,
                "process": {
                    "pid": os.getpid(),
                    "cpuSeconds": usage.ru_utime + usage.ru_stime,
                    "memory": resident_memory(),
                },
                "loopLag": {"p50Ms": lag.p50 * 1000, "p99Ms": lag.p99 * 1000, "maxMs": lag.max * 1000},
                "alarms": [{"path": path, "text": text} for path, text in engine.alarms.items()],
                "children": list(_children(engine.supervisor)),
            }
        )

    async def stream(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        """What was dropped, mended and replaced on the way of one input stream."""
        find_input(self._engine, vhost, app, stream)
        application = self._engine.directory.find_application(vhost, app)
        assert application is not None
        found = application.inputs[stream]
        timeline = found.timeline
        answer: dict[str, Any] = {
            "name": found.name,
            "packets": found.stream.packets,
            "bytes": found.stream.bytes,
            "mended": timeline.mended.as_dict() if timeline else {},
            "outputs": [],
        }
        outputs = found.outputs
        if outputs is not None:
            if outputs.transcoder is not None:
                answer["transcoder"] = outputs.transcoder.stats
            for output in outputs.by_name.values():
                hub = output.output.stream if output.output else None
                readers = hub.readers if hub else ()
                answer["outputs"].append(
                    {
                        "name": output.name,
                        "packets": hub.packets if hub else 0,
                        "readers": [
                            {"name": each.name, "dropped": each.dropped, "lapses": each.lapses} for each in readers
                        ],
                    }
                )
        return success(answer)


def _children(supervisor: Supervisor) -> Iterator[dict[str, Any]]:
    for child in supervisor.children.values():
        yield {
            "name": child.name,
            "state": str(child.state),
            "restarts": child.restarts,
            "lastFault": child.last_fault,
        }


def resident_memory() -> int:
    """Bytes of this process in memory; 0 where the kernel doesn't tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
