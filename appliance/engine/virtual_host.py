"""A virtual host: host names, and the applications behind them."""

from __future__ import annotations

from appliance.engine.application import Application
from appliance.engine.configuration import ApplicationEntry, VhostEntry
from appliance.engine.services import Services

#: The application that is no application but the pattern of those made when a stream comes.
TEMPLATE = "*"


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

    def remove(self, name: str, reason: str) -> None:
        """The application's streams end, and it is gone."""
        if name == TEMPLATE:
            self.template = None
        else:
            self.applications.pop(name).close(reason)

    def close(self, reason: str) -> None:
        for application in self.applications.values():
            application.close(reason)
