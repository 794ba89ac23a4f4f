"""How a supervised child is described: when it restarts, how its health is judged, how it is stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, StrEnum


class Restart(Enum):
    """When a child that ended starts again: always, after a fault, never."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Excess(Enum):
    """What follows more faults than the intensity allows.

    PARK: an alarm, and a new try every 30 s. ESCALATE: the supervisor itself fails and its parent decides."""

    PARK = "park"
    ESCALATE = "escalate"


class Strategy(Enum):
    """ONE_FOR_ONE: a fault restarts its child alone. REST_FOR_ONE: also those that were added after it (a chain)."""

    ONE_FOR_ONE = "one for one"
    REST_FOR_ONE = "rest for one"


class State(StrEnum):
    """What a child does now."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    PARKED = "parked"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most ``faults`` in any ``seconds``."""

    faults: int = 5
    seconds: float = 60.0


class Progress:
    """What a child calls with each step of useful work."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How a child is run. Times are seconds.

    ``start`` runs until the child is done; each call is a new life and must build all its objects anew.
    ``health``: a life that makes no progress for so long is cancelled and replaced (None: not watched); noticed within
    a second after it. ``first_health``: the same until the first progress (None: as ``health``). ``idle`` says that
    there is nothing to do just now, so that the deadline doesn't run.
    ``stop_after``: how long a stop may take. With ``ask_to_stop`` the child is asked first and cancelled when the time
    is over; without, it is cancelled at once and has that time to clean up.
    ``order``: children with a higher one are stopped first, those with the same one together.
    """

    name: str
    start: Callable[[Progress], Awaitable[None]]
    restart: Restart = Restart.PERMANENT
    health: float | None = None
    first_health: float | None = None
    idle: Callable[[], bool] | None = None
    stop_after: float = 5.0
    ask_to_stop: Callable[[], None] | None = None
    intensity: Intensity = Intensity()
    on_excess: Excess = Excess.PARK
    order: int = 0


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something an operator should know: ``path`` of the child, ``text``; ``active`` is False when it is over."""

    path: str
    text: str
    active: bool = True
