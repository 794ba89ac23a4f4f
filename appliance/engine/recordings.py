"""The disk of the recordings, as the engine runs it: its alarms, and what the applications let stay."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from appliance.engine.directory import Directory
from appliance.media.contracts import Context
from appliance.storage.client import DiskClient
from appliance.storage.messages import Rule

DEFAULT_RESERVE = 5
#: After all tasks, and after those that keep them.
DISK_ORDER = 40


class Recordings:
    """``disk`` is the client of the volume that the media root lies on."""

    def __init__(self, context: Context, directory: Directory, alarms: MutableMapping[str, str]) -> None:
        self._directory = directory
        self._alarms = alarms
        self.disk = DiskClient(context.media_root, clock=context.clock, told=self._note, policy=self.policy)

    def policy(self) -> tuple[list[Rule], float]:
        """What each application keeps, and the share of the volume that stays free."""
        rules = list(self._rules())
        share = max((reserve for _, reserve in rules), default=DEFAULT_RESERVE)
        return [rule for rule, _ in rules], share / 100

    def _rules(self) -> Iterator[tuple[Rule, int]]:
        for vhost in self._directory.vhosts.values():
            for application in vhost.applications.values():
                settings = application.settings
                if settings.publishers.file is not None:
                    kept = settings.publishers.file.retention
                    yield Rule(vhost.name, settings.name, kept.max_age, kept.max_size), kept.reserve

    def _note(self, topic: str, text: str) -> None:
        """No text closes the alarm."""
        name = f"recordings:{topic}"
        if text:
            self._alarms[name] = text
        else:
            self._alarms.pop(name, None)
