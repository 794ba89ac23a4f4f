"""What the box leaves out when it is too hot or has too much to do: a declared order, and never a recording.

The first step goes at the limit, each further one when it is no better HOLD seconds later; they come back one by one,
the last one first, when it has been well (HYSTERESIS °C below the limit) for that long.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

HYSTERESIS = 5.0
#: Per cent of all processors below the limit.
LOAD_HYSTERESIS = 15.0
#: Seconds.
HOLD = 10.0
ALARM = "shedding"

THUMBNAILS, PREVIEWS = "thumbnails", "previews"
ORDER: tuple[str, ...] = (THUMBNAILS, PREVIEWS)


class Shedder:
    """``limit`` °C, ``load_limit`` per cent of all processors; ``apply`` gets the steps that are left out now, after
    each look: what came meanwhile is to be left out too."""

    def __init__(
        self, limit: float, load_limit: float, apply: Callable[[Sequence[str]], None], alarms: MutableMapping[str, str],
        order: Sequence[str] = ORDER,
    ) -> None:  # fmt: skip
        self.limit = limit
        self.load_limit = load_limit
        self.order = tuple(order)
        self._apply = apply
        self._alarms = alarms
        self._count = 0
        self._bad_since: float | None = None
        self._good_since: float | None = None

    @property
    def shed(self) -> tuple[str, ...]:
        """The steps that are left out, in their order."""
        return self.order[: self._count]

    def look(self, celsius: float | None, load: float, now: float) -> None:
        """``celsius`` of the hottest sensor (None: there is none), ``load`` in per cent, ``now`` in seconds."""
        hot = celsius is not None and celsius >= self.limit
        busy = load >= self.load_limit
        well = (celsius is None or celsius <= self.limit - HYSTERESIS) and load <= self.load_limit - LOAD_HYSTERESIS
        self._bad_since = (now if self._bad_since is None else self._bad_since) if hot or busy else None
        self._good_since = (now if self._good_since is None else self._good_since) if well else None
        before = self._count
        # Heat takes long to come and to go: the first step is taken at once. Load may be one short peak.
        due = self._bad_since is not None and (now - self._bad_since >= HOLD or (hot and not self._count))
        if due and self._count < len(self.order):
            self._count += 1
            self._bad_since = now
        elif self._good_since is not None and now - self._good_since >= HOLD and self._count:
            self._count -= 1
            self._good_since = now
        if self._count != before:
            self._tell(celsius, load, hot)
        self._apply(self.shed)

    def _tell(self, celsius: float | None, load: float, hot: bool) -> None:
        if not self._count:
            self._alarms.pop(ALARM, None)
            return
        why = f"{celsius:.0f} °C (limit {self.limit:g})" if hot and celsius is not None else f"load {load:.0f} per cent"
        self._alarms[ALARM] = f"left out to keep the recordings and the air: {', '.join(self.shed)}; {why}"
