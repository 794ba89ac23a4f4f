"""How late is too late: a hiccup of the machine is caught up with, in lasting overload frames are left out."""

from __future__ import annotations

#: After a hiccup of up to this everything is still encoded.
HICCUP_NS = 1_000_000_000
#: While it is too much for the machine nothing may be later than this.
OVERLOAD_NS = 250_000_000
#: So long after the last frame lost it still counts as overload.
MEMORY_NS = 5_000_000_000


class Patience:
    """One place where frames may become late."""

    def __init__(self) -> None:
        self._lost_at = -MEMORY_NS

    def limit(self, now: int) -> int:
        """How late (ns) a frame may be at the monotonic ``now``."""
        return OVERLOAD_NS if now - self._lost_at < MEMORY_NS else HICCUP_NS

    def lost(self, now: int) -> None:
        """A frame had to be left out."""
        self._lost_at = now


class Load:
    """How busy one encoder's thread is."""

    #: Over this part of the time it is about to lose frames.
    HEAVY = 0.85
    #: Judged over at least this long.
    WINDOW_NS = 900_000_000

    def __init__(self) -> None:
        self._since: int | None = None
        self._busy = 0

    def worked(self, duration: int) -> None:
        """One more frame took ``duration`` ns."""
        self._busy += duration

    def heavy(self, now: int) -> bool:
        """Whether it was busy for most of the last window; then the next one begins."""
        if self._since is None:
            self._since, self._busy = now, 0
            return False
        span = now - self._since
        if span < self.WINDOW_NS:
            return False
        busy, self._since, self._busy = self._busy, now, 0
        return busy > self.HEAVY * span
