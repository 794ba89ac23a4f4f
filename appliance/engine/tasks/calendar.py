"""When a task with a calendar is on: once, or every week on some days.

``{"start": "2026-11-22T10:00:00+01:00", "stop": "…", "repeat": "weekly", "days": ["sun"], "timezone": "Asia/Seoul"}``.
Times are of the given time zone (IANA), else of the offset that ``start`` has. A weekly one keeps its time of day
through changes of daylight saving only with a time zone, for an offset alone knows of none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from appliance.errors import BadRequest

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)?")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_KEYS = frozenset({"start", "stop", "repeat", "days", "timezone"})
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` until before ``stop``, nanoseconds since 1970."""

    start: int
    stop: int

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, int) and self.start <= moment < self.stop


@dataclass(frozen=True, slots=True)
class Calendar:
    """``start`` and ``stop`` carry their zone; ``days`` (0 is Monday) is empty for one that is on only once.

    ``written`` is what came in, to be echoed and stored."""

    start: datetime
    stop: datetime
    days: tuple[int, ...]
    written: dict[str, Any]

    @classmethod
    def parse(cls, written: Any) -> Calendar:
        """Raises BadRequest."""
        if not isinstance(written, dict):
            raise BadRequest("calendar must be an object")
        unknown = sorted(set(written) - _KEYS)
        if unknown:
            raise BadRequest(f"calendar has no [{unknown[0][:128]}]")
        zone = _zone(written)
        start, stop = _time(written, "start", zone), _time(written, "stop", zone)
        if stop.astimezone(UTC) <= start.astimezone(UTC):
            raise BadRequest("calendar: [stop] must be later than [start]")
        made = cls(start, stop.astimezone(start.tzinfo), _days(written, start), dict(written))
        made._check_length()
        return made

    def _check_length(self) -> None:
        """No window reaches into the next one."""
        if not self.days:
            return
        gaps = [
            ((later - earlier - 1) % 7) + 1
            for earlier, later in zip(self.days, (*self.days[1:], self.days[0]), strict=True)
        ]
        if self._length > timedelta(days=min(gaps)):
            raise BadRequest("calendar: a window may not reach into the next one")

    @property
    def _length(self) -> timedelta:
        return self.stop.replace(tzinfo=None) - self.start.replace(tzinfo=None)

    def windows(self, after: int) -> Iterator[Window]:
        """All that end later than ``after``, in order; those of a weekly calendar never end."""
        if not self.days:
            once = Window(_nanoseconds(self.start), _nanoseconds(self.stop))
            if once.stop > after:
                yield once
            return
        day = max(self.start.date(), _date(after, self.start.tzinfo) - _WEEK - timedelta(days=1))
        while day.year < 9999:
            if day.weekday() in self.days:
                window = self._window(day)
                if window.stop > after:
                    yield window
            day += timedelta(days=1)

    def _window(self, day: date) -> Window:
        zone = self.start.tzinfo
        begin = datetime.combine(day, self.start.time().replace(tzinfo=None))
        start = _nanoseconds(begin.replace(tzinfo=zone))
        stop = _nanoseconds((begin + self._length).replace(tzinfo=zone))
        if stop <= start:
            # The beginning lies in the hour that a change to summer time leaves out.
            start = stop - self._length // timedelta(microseconds=1) * 1000
        return Window(start, stop)

    def at(self, moment: int) -> Window | None:
        """The window that ``moment`` is in."""
        first = next(self.windows(moment), None)
        return first if first is not None and moment in first else None


def _zone(written: dict[str, Any]) -> tzinfo | None:
    name = written.get("timezone")
    if name is None:
        return None
    if not isinstance(name, str) or not _ZONE.fullmatch(name):
        raise BadRequest("calendar: [timezone] must be a name such as Europe/Berlin")
    try:
        from zoneinfo import ZoneInfo

        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise BadRequest(f"calendar: this box knows no time zone [{name[:64]}]") from None


def _time(written: dict[str, Any], key: str, zone: tzinfo | None) -> datetime:
    text = written.get(key)
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise BadRequest(f"calendar: [{key}] must be a time such as 2026-11-22T10:00:00+01:00")
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"calendar: [{key}]: {error}") from None
    if time.year < 1971 or time.year > 9000:
        raise BadRequest(f"calendar: [{key}] is out of range")
    if time.tzinfo is None:
        if zone is None:
            raise BadRequest(f"calendar: [{key}] needs an offset, or the calendar a [timezone]")
        return time.replace(tzinfo=zone)
    return time.astimezone(zone) if zone is not None else time


def _days(written: dict[str, Any], start: datetime) -> tuple[int, ...]:
    repeat, days = written.get("repeat"), written.get("days")
    if repeat is None:
        if days is not None:
            raise BadRequest('calendar: [days] needs "repeat":"weekly"')
        return ()
    if repeat != "weekly":
        raise BadRequest('calendar: [repeat] can only be "weekly"')
    if days is None:
        return (start.weekday(),)
    if not isinstance(days, list) or not days or not all(day in DAYS for day in days if isinstance(day, str)):
        raise BadRequest(f"calendar: [days] must be an array of {', '.join(DAYS)}")
    if not all(isinstance(day, str) for day in days) or len(set(days)) < len(days):
        raise BadRequest(f"calendar: [days] must be an array of {', '.join(DAYS)}, each once")
    return tuple(sorted(DAYS.index(day) for day in days))


def _nanoseconds(time: datetime) -> int:
    return (time.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _date(moment: int, zone: tzinfo | None) -> date:
    return datetime.fromtimestamp(max(0, moment // 1_000_000_000), zone).date()
