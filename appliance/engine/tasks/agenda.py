"""What has become of a task's calendar: which window is on, which one is next, which were missed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from appliance.engine.tasks.calendar import Calendar, Window

#: So many missed windows are remembered.
MOST_MISSED = 10
#: So many windows are looked at after a long time without power.
MOST_JUDGED = 1000


@dataclass(frozen=True, slots=True)
class Missed:
    """A window in which the task did not run at all."""

    window: Window
    reason: str


@dataclass(slots=True)
class Agenda:
    """``judged``: windows that ended until then are settled. ``ran``: start of the newest window in which the task ran.
    All times in nanoseconds since 1970."""

    calendar: Calendar
    judged: int
    ran: int = 0
    missed: list[Missed] = field(default_factory=list)

    def window(self, now: int) -> Window | None:
        return self.calendar.at(now)

    def next(self, now: int) -> Window | None:
        """The first one that has not begun."""
        return next((window for window in islice(self.calendar.windows(now), 2) if window.start > now), None)

    def over(self, now: int) -> bool:
        return next(self.calendar.windows(now), None) is None

    def change_after(self, now: int) -> int | None:
        """When the next window begins or the present one ends; None when nothing comes any more."""
        first = next(self.calendar.windows(now), None)
        if first is None:
            return None
        return first.stop if now in first else first.start

    def note_run(self, now: int) -> None:
        window = self.window(now)
        if window is not None:
            self.ran = window.start

    def settle(self, now: int, on_since: int) -> list[Missed]:
        """Windows that have ended since the last time and were missed. ``on_since``: since when the box runs."""
        found = []
        for window in islice(self.calendar.windows(self.judged), MOST_JUDGED):
            if window.stop > now:
                break
            if window.start != self.ran:
                reason = "the box was off" if window.stop <= on_since else "the stream was not there"
                found.append(Missed(window, reason))
        self.judged = max(self.judged, now)
        self.missed = [*self.missed, *found][-MOST_MISSED:]
        return found

    def store(self) -> dict[str, Any]:
        return {
            "calendar": self.calendar.written,
            "judged": self.judged,
            "ran": self.ran,
            "missed": [[each.window.start, each.window.stop, each.reason] for each in self.missed],
        }

    @classmethod
    def restore(cls, stored: dict[str, Any]) -> Agenda:
        """Raises BadRequest, KeyError and TypeError for what ``store`` did not make."""
        missed = [Missed(Window(start, stop), reason) for start, stop, reason in stored["missed"]]
        return cls(Calendar.parse(stored["calendar"]), stored["judged"], stored["ran"], missed)
