"""When what failed is tried again, and how often that is worth a word."""

from __future__ import annotations

import math

#: Seconds: the first pause, which doubles up to the longest, and how far apart reports are.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
REPORT_EVERY = 60.0


class Retry:
    """``now`` is always monotonic seconds."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE
        self._again_at = -math.inf
        self._told_at = -math.inf

    def due(self, now: float) -> bool:
        return now >= self._again_at

    def worked(self) -> None:
        """The next failure is a first one again, but for the reports."""
        self._pause = FIRST_PAUSE

    def failed(self, now: float, *, for_good: bool = False) -> bool:
        """Try again after a pause, or never; whether to report it."""
        self._again_at = math.inf if for_good else now + self._pause
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        tell = for_good or now - self._told_at >= REPORT_EVERY
        if tell:
            self._told_at = now
        return tell
