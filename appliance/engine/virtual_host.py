"""A virtual host: host names, and the applications behind them."""

from __future__ import annotations

from appliance.engine.application import Application
from appliance.engine.services import Services
from appliance.settings import models
from appliance.settings.schema import Raw


class VirtualHost:
    """``raw`` is the virtual host as it was written, its applications included."""

    def __init__(self, settings: models.VirtualHost, raw: Raw, services: Services) -> None:
        self.name = settings.name
        self.settings = settings
        self.raw = raw
        self.applications = {
            application.name: Application(settings, application, written, services)
            for application, written in zip(settings.applications, raw.get("applications", ()), strict=True)
            if application.name != "*"
        }

    @property
    def host_names(self) -> tuple[str, ...]:
        return self.settings.host.names

    def close(self, reason: str) -> None:
        for application in self.applications.values():
            application.close(reason)
