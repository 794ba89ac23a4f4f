"""The date of a stream's time."""

from __future__ import annotations

from appliance.media.clock import NANOSECONDS, Clock

#: A clock that is set by less doesn't move PROGRAM-DATE-TIME.
_TOLERANCE = NANOSECONDS


class WallTime:
    """The wall clock over the monotonic one: remapped only forward, and only when it is off by more than a second.

    One for all lives of a name, so that its dates never go back.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lead = self._now()

    def _now(self) -> int:
        return self._clock.wall() - self._clock.monotonic()

    def offset(self, epoch: int) -> int:
        """Nanoseconds since 1970 of timestamp zero, which was at ``epoch``, as it holds from this segment on."""
        now = self._now()
        if now - self._lead > _TOLERANCE:
            self._lead = now
        return self._lead + epoch
