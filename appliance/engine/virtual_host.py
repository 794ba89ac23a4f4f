"""A virtual host: host names, and the applications behind them."""

from __future__ import annotations

from appliance.engine.application import Application
from appliance.engine.services import Services
from appliance.settings import models


class VirtualHost:
    def __init__(self, settings: models.VirtualHost, services: Services) -> None:
        self.name = settings.name
        self.settings = settings
        self.applications = {
            application.name: Application(settings.name, application, services)
            for application in settings.applications
            if application.name != "*"
        }

    @property
    def host_names(self) -> tuple[str, ...]:
        return self.settings.host.names

    def close(self, reason: str) -> None:
        for application in self.applications.values():
            application.close(reason)
