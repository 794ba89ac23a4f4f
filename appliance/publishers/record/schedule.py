"""``second minute hour`` in local time, as the API's ``schedule`` has it (catalogue 1.4)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from appliance.errors import BadRequest

_FIELD = re.compile(r"\*|(\*/)?(0|[1-9][0-9]?)")
_LIMITS = (59, 59, 23)
_DAYS = 2


@dataclass(frozen=True, slots=True)
class Schedule:
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]

    def after(self, wall: int) -> int:
        """The first moment after ``wall``; whole seconds since 1970."""
        at = wall + 1
        last = wall + _DAYS * 86400
        while at < last:
            local = time.localtime(at)
            if local.tm_hour not in self.hours:
                at += 3600 - local.tm_min * 60 - local.tm_sec
            elif local.tm_min not in self.minutes:
                at += 60 - local.tm_sec
            elif local.tm_sec not in self.seconds:
                at += 1
            else:
                return at
        return last


def parse_schedule(text: str) -> Schedule:
    """Raises BadRequest in the words of the API."""
    fields = text.split(" ")
    if len(fields) != 3:
        raise BadRequest("Invalid [schedule] parameter")
    return Schedule(*(_values(field, limit) for field, limit in zip(fields, _LIMITS, strict=True)))


def _values(field: str, limit: int) -> frozenset[int]:
    match = _FIELD.fullmatch(field)
    if match is None:
        raise BadRequest("Invalid [schedule] parameter")
    if field == "*":
        return frozenset(range(limit + 1))
    number = int(match.group(2))
    if number > limit:
        raise BadRequest("Invalid [schedule] parameter")
    if not match.group(1):
        return frozenset((number,))
    return frozenset(range(0, limit + 1, number)) if number else frozenset((0,))


class Due:
    """Whether a new file is to begin, asked at each key frame with the wall clock (ns since 1970).

    A clock that is set back or far ahead makes at most one split, and the schedule goes on from there.
    """

    def __init__(self, schedule: Schedule, wall: int) -> None:
        self._schedule = schedule
        self._last = wall // 1_000_000_000
        self._next = schedule.after(self._last)

    def __call__(self, wall: int) -> bool:
        now = wall // 1_000_000_000
        due = now >= self._next
        if due or now < self._last:
            self._next = self._schedule.after(now)
        self._last = now
        return due
