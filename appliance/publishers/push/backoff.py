"""When a lost target is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

#: Seconds. With the cap, the time-out of a connection and TCP's own repeats a target is back 5 s after its link.
FIRST: Final = 0.25
CAP: Final = 2.0
#: A server that says no so often in a row (a wrong key) is asked less often.
PATIENT_REFUSALS: Final = 10
REFUSED_CAP: Final = 30.0
#: A connection that stood so long was a good one.
GOOD_AFTER: Final = 10.0
JITTER: Final = 0.25


class Backoff:
    """Delays that double, each up to a quarter shorter or longer so that many boxes don't come back at once."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._delay = FIRST
        self._refusals = 0

    def stood(self, seconds: float) -> None:
        """A connection was made, and lasted ``seconds``."""
        self._refusals = 0
        if seconds >= GOOD_AFTER:
            self._delay = FIRST

    def next(self, *, refused: bool = False) -> float:
        """Seconds to wait after a failure; ``refused``: the server answered, and said no."""
        self._refusals = self._refusals + 1 if refused else 0
        cap = REFUSED_CAP if self._refusals > PATIENT_REFUSALS else CAP
        delay = min(self._delay, cap)
        self._delay = min(self._delay * 2, REFUSED_CAP) if cap == REFUSED_CAP else min(self._delay * 2, CAP)
        return delay * self._uniform(1 - JITTER, 1 + JITTER)
