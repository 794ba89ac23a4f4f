"""A virtual host: host names, and the applications behind them."""

from __future__ import annotations

import logging

import msgspec

from appliance.engine.application import Application
from appliance.engine.configuration import ApplicationEntry, VhostEntry
from appliance.engine.services import Services
from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.names import check_name

log = logging.getLogger("kiln.engine")

#: The application that is no application but the pattern of those made when a stream comes.
TEMPLATE = "*"
#: Whoever invents names must not fill the box.
MOST_DYNAMIC = 256


class VirtualHost:
    """``settings``, and ``raw``, the same as it was written, are without applications.

    ``read_only``: it stands in Server.xml.
    """

    def __init__(self, entry: VhostEntry, services: Services) -> None:
        self.name = entry.settings.name
        self.settings = entry.settings
        self.raw = entry.raw
        self.read_only = entry.read_only
        self.applications: dict[str, Application] = {}
        self.template: ApplicationEntry | None = None
        self._services = services
        for application in entry.applications:
            self.add(application)

    @property
    def host_names(self) -> tuple[str, ...]:
        return self.settings.host.names

    def add(self, entry: ApplicationEntry) -> None:
        """From now on there is this application."""
        if entry.settings.name == TEMPLATE:
            self.template = entry
        else:
            made = Application(self.settings, entry.settings, entry.raw, self._services)
            self.applications[made.name] = made

    def arriving(self, name: str) -> models.Application | None:
        """What a stream for application ``name`` meets: the application's settings, or those that the template gives
        it. None when there is neither."""
        present = self.applications.get(name)
        if present is not None:
            return present.settings
        if self.template is None or len(self.dynamic) >= MOST_DYNAMIC:
            return None
        try:
            check_name("application", name)
        except ConfigError:
            return None
        return msgspec.structs.replace(self.template.settings, name=name)

    def make(self, name: str) -> Application | None:
        """The application for a stream that comes, made of the template where there is none yet."""
        settings = self.arriving(name)
        if settings is not None and name not in self.applications:
            assert self.template is not None
            raw = {**self.template.raw, "name": name}
            self.applications[name] = Application(self.settings, settings, raw, self._services, dynamic=True)
            log.info("application made of the template app=%s/%s", self.name, name)
        return self.applications.get(name)

    @property
    def dynamic(self) -> list[Application]:
        return [application for application in self.applications.values() if application.dynamic]

    def remove(self, name: str, reason: str) -> None:
        """The application's streams end, and it is gone."""
        if name == TEMPLATE:
            self.template = None
        else:
            self.applications.pop(name).close(reason)

    def close(self, reason: str) -> None:
        for application in self.applications.values():
            application.close(reason)
