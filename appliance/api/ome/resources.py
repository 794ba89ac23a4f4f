"""The handlers of ``/v1``: what exists, to be read."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.api.envelope import Answer, success
from appliance.api.ome.lookup import find_application, find_input, find_vhost
from appliance.api.ome.stream_resource import stream_resource
from appliance.api.routes import Route
from appliance.api.view import EngineView
from appliance.version import VERSION


class Resources:
    """Handlers over one engine. Each raises NotFound in the catalogue's words."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/v1/version", self.version)
        yield Route("GET", "/v1/vhosts", self.vhosts)
        yield Route("GET", "/v1/vhosts/{v}", self.vhost)
        yield Route("GET", "/v1/vhosts/{v}/apps", self.applications)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}", self.application)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}:", self.application_settings)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}/streams", self.streams)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}/streams/{s}", self.stream)

    async def version(self) -> Answer:
        return success({"gitVersion": f"kiln-{VERSION}", "version": VERSION})

    async def vhosts(self) -> Answer:
        return success(list(self._engine.directory.vhosts))

    async def vhost(self, vhost: str) -> Answer:
        raw = find_vhost(self._engine, vhost).raw
        return success({key: value for key, value in raw.items() if key != "applications"})

    async def applications(self, vhost: str) -> Answer:
        return success(list(find_vhost(self._engine, vhost).applications))

    async def application(self, vhost: str, app: str) -> Answer:
        return success({**find_application(self._engine, vhost, app).raw, "dynamic": False})

    async def application_settings(self, vhost: str, app: str) -> Answer:
        """The settings alone."""
        return success(find_application(self._engine, vhost, app).raw)

    async def streams(self, vhost: str, app: str) -> Answer:
        inputs = find_application(self._engine, vhost, app).inputs
        return success([name for name, stream in inputs.items() if stream.prepared])

    async def stream(self, vhost: str, app: str, stream: str) -> Answer:
        return success(stream_resource(find_input(self._engine, vhost, app, stream)))
