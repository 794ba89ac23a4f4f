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
