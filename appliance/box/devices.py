"""What is plugged in: each device with its state, and an alarm for one that is not in use."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping

log = logging.getLogger("kiln.box")


class DeviceState:
    """``fault`` is why it is not in use, "" when it is. Each change is logged, and opens or closes an alarm."""

    def __init__(self, kind: str, name: str, alarms: MutableMapping[str, str]) -> None:
        self.kind = kind
        self.name = name
        self.fault = "not opened yet"
        self._alarms = alarms

    @property
    def ready(self) -> bool:
        return not self.fault

    def told(self, fault: str) -> None:
        if fault == self.fault:
            return
        self.fault = fault
        alarm = f"device:{self.kind}:{self.name}"
        if fault:
            log.warning("device not in use kind=%s name=%s reason=%s", self.kind, self.name, fault)
            self._alarms[alarm] = fault
        else:
            log.info("device in use kind=%s name=%s", self.kind, self.name)
            self._alarms.pop(alarm, None)
