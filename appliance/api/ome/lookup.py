"""Finding what a path names, with the catalogue's words for what isn't there."""

from __future__ import annotations

from appliance.api.view import ApplicationView, EngineView, InputView, VirtualHostView
from appliance.errors import NotFound


def find_vhost(engine: EngineView, vhost: str) -> VirtualHostView:
    """Raises NotFound."""
    found = engine.directory.vhosts.get(vhost)
    if found is None:
        raise NotFound(f"Could not find the virtual host: [{vhost}]")
    return found


def find_application(engine: EngineView, vhost: str, app: str) -> ApplicationView:
    """Raises NotFound."""
    found = find_vhost(engine, vhost).applications.get(app)
    if found is None:
        raise NotFound(f"Could not find the application: [{vhost}/{app}]")
    return found


def find_input(engine: EngineView, vhost: str, app: str, stream: str) -> InputView:
    """Raises NotFound; an input whose tracks are not known yet is not there."""
    found = find_application(engine, vhost, app).inputs.get(stream)
    if found is None or not found.prepared:
        raise NotFound(f"Could not find the stream: [{vhost}/#{vhost}#{app}/{stream}]")
    return found
