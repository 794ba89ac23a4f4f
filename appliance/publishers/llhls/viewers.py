"""How many watch: the sessions, or else addresses and players, whose last playlist request is not long ago."""

from __future__ import annotations

#: So many are told apart; beyond that the count stands still rather than the memory growing.
MOST = 65536


class Viewers:
    """``memory`` in seconds: who asked for no playlist that long is gone."""

    def __init__(self, memory: float = 30.0) -> None:
        self.memory = memory
        self._seen: dict[object, float] = {}

    def saw(self, who: object, now: float) -> None:
        seen = self._seen
        if who in seen or len(seen) < MOST or self.count(now) < MOST:
            seen[who] = now

    def count(self, now: float) -> int:
        """How many there are now."""
        oldest = now - self.memory
        self._seen = {who: when for who, when in self._seen.items() if when > oldest}
        return len(self._seen)
