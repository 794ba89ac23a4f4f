"""The handlers of ``/v1``: what exists, to be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from appliance.access.roles import Role
from appliance.api.envelope import Answer, success
from appliance.api.ome.lookup import find_application, find_input
from appliance.api.ome.stream_resource import stream_resource
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.api.view import EngineView, InputView
from appliance.version import VERSION


class Resources:
    """Handlers over one engine. Each raises NotFound in the catalogue's words."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._streams: WeakKeyDictionary[InputView, tuple[tuple[int, ...], Answer]] = WeakKeyDictionary()

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/v1/version", self.version, Role.VIEWER)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}/streams", self.streams, Role.VIEWER)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}/streams/{s}", self.stream, Role.VIEWER)

    async def version(self, request: Request) -> Answer:
        return success({"gitVersion": f"kiln-{VERSION}", "version": VERSION})

    async def streams(self, request: Request, vhost: str, app: str) -> Answer:
        inputs = find_application(self._engine, vhost, app).inputs
        return success([name for name, stream in inputs.items() if stream.prepared])

    async def stream(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        """An answer holds until the next packet, and at most a second: those who ask in between share it."""
        found = find_input(self._engine, vhost, app, stream)
        state = _state(found)
        known = self._streams.get(found)
        if known is not None and known[0] == state:
            return known[1]
        answer = success(stream_resource(found))
        self._streams[found] = state, answer
        return answer


def _state(stream: InputView) -> tuple[int, ...]:
    """Differs when anything may differ that the Stream resource shows."""
    outputs = stream.outputs.by_name.values() if stream.outputs else ()
    packets = (each.output.stream.packets if each.output else -1 for each in outputs)
    return int(time.monotonic()), stream.stream.packets, *packets
