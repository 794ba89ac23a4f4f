"""Who exists: the one place that providers, publishers and the API look things up in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from appliance.engine.application import Application
from appliance.engine.configuration import VhostEntry
from appliance.engine.hosts import first_match
from appliance.engine.input_stream import InputStream
from appliance.engine.services import Services
from appliance.engine.virtual_host import VirtualHost
from appliance.errors import NotFound
from appliance.media.contracts import OutputStream, Source
from appliance.media.stream import Stream
from appliance.settings import models

OnDemand = Callable[[str, str, str, str], bool]


def _nothing_is_fetched(vhost: str, app: str, name: str, query: str) -> bool:
    return False


class Directory:
    """Implements ``appliance.media.contracts.Directory`` over the virtual hosts in configuration order."""

    def __init__(self, entries: Iterable[VhostEntry], services: Services) -> None:
        self._services = services
        self.vhosts = {entry.settings.name: VirtualHost(entry, services) for entry in entries}
        self._find_host = lru_cache(maxsize=1024)(self._match_host)
        #: See ``wanted``; the engine sets it (``appliance.engine.origins``).
        self.on_demand: OnDemand = _nothing_is_fetched

    def add(self, entry: VhostEntry) -> VirtualHost:
        """From now on there is this virtual host, the last one to be asked whether a host name is its own."""
        made = self.vhosts[entry.settings.name] = VirtualHost(entry, self._services)
        self._find_host.cache_clear()
        return made

    def arrange(self, names: list[str]) -> None:
        """They are asked in this order from now on, by their present host names."""
        self.vhosts.update({name: self.vhosts.pop(name) for name in names})
        self._find_host.cache_clear()

    def remove(self, name: str, reason: str) -> None:
        """All streams of the virtual host end, and it is gone."""
        gone = self.vhosts.pop(name)
        self._find_host.cache_clear()
        gone.close(reason)

    def vhost_for_host(self, host: str) -> str | None:
        return self._find_host(host)

    def _match_host(self, host: str) -> str | None:
        return first_match([(vhost.name, vhost.host_names) for vhost in self.vhosts.values()], host)

    def find_application(self, vhost: str, app: str) -> Application | None:
        found = self.vhosts.get(vhost)
        return found.applications.get(app) if found else None

    def application(self, vhost: str, app: str) -> models.Application | None:
        found = self.find_application(vhost, app)
        return found.settings if found else None

    def arriving(self, vhost: str, app: str) -> models.Application | None:
        found = self.vhosts.get(vhost)
        return found.arriving(app) if found else None

    def check_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> None:
        application = self.find_application(vhost, app)
        if application is not None:
            application.check_input(name, source, replace=replace)
        elif self.arriving(vhost, app) is None:
            raise NotFound(f"there is no application {vhost}/{app}")

    def open_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> InputStream:
        found = self.vhosts.get(vhost)
        application = found.make(app) if found else None
        if application is None:
            raise NotFound(f"there is no application {vhost}/{app}")
        return application.open_input(name, source, replace=replace)

    def output(self, vhost: str, app: str, name: str) -> Stream | None:
        application = self.find_application(vhost, app)
        found = application.output(name) if application else None
        return found.output.stream if found and found.output else None

    def wanted(self, vhost: str, app: str, name: str, query: str = "") -> bool:
        return self.on_demand(vhost, app, name, query)

    def source_of(self, output: OutputStream) -> str:
        """The name of the input stream that ``output`` is made of, "" when it is over."""
        application = self.find_application(output.vhost, output.app)
        for each in application.inputs.values() if application else ():
            made = each.outputs.by_name.get(output.name) if each.outputs is not None else None
            if made is not None and made.output is output:
                return each.name
        return ""

    def input(self, vhost: str, app: str, name: str) -> Stream | None:
        application = self.find_application(vhost, app)
        found = application.inputs.get(name) if application else None
        return found.stream if found and found.prepared else None

    def close(self, reason: str) -> None:
        for vhost in self.vhosts.values():
            vhost.close(reason)
