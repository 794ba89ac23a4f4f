"""What every application of the engine shares."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from appliance.media.clock import Clock
from appliance.media.contracts import Publisher
from appliance.supervisor import Supervisor
from appliance.transcoder.fault_slate import Slates
from appliance.transcoder.pool import WorkerPool

_serial = count(1)


@dataclass(frozen=True, slots=True)
class Services:
    """``supervisor`` owns the children that live as long as a stream; ``publishers`` are those that are built."""

    clock: Clock
    supervisor: Supervisor
    pool: WorkerPool
    publishers: Sequence[Publisher]
    alarms: MutableMapping[str, str] = field(default_factory=dict)
    slates: Slates = field(default_factory=Slates)

    @staticmethod
    def child_name(kind: str, label: str) -> str:
        """A name never used before: a stream may come back while its last life is still ending."""
        return f"{kind}:{label}#{next(_serial)}"
