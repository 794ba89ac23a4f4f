"""``/box/v1/system``: how the box itself is doing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import trio

from appliance.access.roles import Role
from appliance.api.envelope import Answer, success
from appliance.api.ome.lookup import find_input
from appliance.api.ome.stream_resource import api_time
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.engine.watch import Machine, State
from appliance.engine.watch.machine import Figures, resident_memory
from appliance.engine.watch.transports import Transports
from appliance.media.clock import NANOSECONDS
from appliance.supervisor import Supervisor
from appliance.version import VERSION


class System:
    """Read-only figures of the box. Times are seconds unless their name says ms; sizes are bytes, rates bit/s, CPU is
    counted in cores."""

    def __init__(self, engine: Engine, machine: Machine, state: State) -> None:
        self._engine = engine
        self._machine = machine
        self._state = state

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/system", self.system, Role.VIEWER)
        yield Route("GET", "/box/v1/vhosts/{v}/apps/{a}/streams/{s}", self.stream, Role.VIEWER)

    async def system(self, request: Request) -> Answer:
        """The machine, the engine's process and its parts, its workers and open alarms."""
        engine = self._engine
        lag = engine.lag.figures()
        figures = self._machine.figures()
        disks = {
            "media": await self._machine.disk(engine.media_root), "state": await self._machine.disk(engine.state)
        }  # fmt: skip
        return success(
            {
                "version": VERSION,
                "versions": await trio.to_thread.run_sync(_versions),
                "name": engine.settings.name,
                "host": platform.node(),
                "uptime": (engine.clock.wall() - engine.started_wall) / NANOSECONDS,
                "startedTime": api_time(engine.started_wall),
                "process": {
                    "pid": os.getpid(),
                    "cpu": round(figures.process_cpu, 3),
                    "cpuSeconds": figures.process_cpu_seconds,
                    "memory": resident_memory(),
                    "openFiles": figures.open_files,
                },
                "machine": _machine(figures),
                "disks": {name: msgspec.to_builtins(disk) for name, disk in disks.items()},
                "loopLag": {"p50Ms": lag.p50 * 1000, "p99Ms": lag.p99 * 1000, "maxMs": lag.max * 1000},
                "alarms": [{"path": path, "text": text} for path, text in engine.alarms.items()],
                "workers": [{"stream": name, **item} for name, item in self._state.workers()],
                "children": list(_children(engine.supervisor)),
            }
        )

    async def stream(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        """What was dropped, mended and replaced on the way of one input stream; how SRT and MPEG-TS do."""
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
        if found.loss is not None:
            answer["loss"] = {"losses": found.loss.losses, "late": found.loss.late, **found.loss.described}
        transports = Transports(self._engine)
        answer |= transports.describe(found.label)
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
                        "srtPlayers": transports.players(output.output.label) if output.output else [],
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


def _machine(figures: Figures) -> dict[str, Any]:
    return {
        "cores": figures.cores,
        "cpu": round(figures.cpu * figures.cores, 3),
        "load": [round(each, 2) for each in figures.load],
        "memory": {"total": figures.memory_total, "available": figures.memory_available},
        "temperatures": dict(figures.temperatures),
        "network": {
            name: {
                "receivedBytes": link.received, "sentBytes": link.sent, "errors": link.errors,
                "receiveBitrate": link.receive_rate, "sendBitrate": link.send_rate,
            }
            for name, link in figures.links.items()
        },
    }  # fmt: skip


@cache
def _versions() -> dict[str, str]:
    return {
        "kiln": VERSION,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        **{name: _version_of(name) for name in ("av", "trio", "msgspec", "h2", "httptools")},
    }


def _version_of(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
