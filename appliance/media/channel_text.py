"""Times and sources as channel files and requests write them (catalogue 3.8, 3.9)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from appliance.errors import BadRequest

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?\s*(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STREAM = re.compile(r"stream://([^/]+)/([^/]+)/([^/]+)", re.IGNORECASE)


def wall_time(text: str) -> int:
    """``YYYY-MM-DDThh:mm:ss[.fraction]`` with ``Z``, ``+hh``, ``+hhmm``, ``+hh:mm`` or no zone (UTC) as ns since 1970.

    Raises BadRequest.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise BadRequest("Failed to parse scheduled attribute: Invalid ISO 8601 string")
    year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups()
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-away if sign == "-" else away)
        day_and_hour = int(year), int(month), int(day), int(hour), int(minute), int(second)
        moment = datetime(*day_and_hour, tzinfo=zone)
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        raise BadRequest("Failed to parse scheduled attribute: Invalid ISO 8601 string") from None
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def stream_place(url: str) -> tuple[str, str, str] | None:
    """Virtual host, application and stream of ``stream://vhost/app/stream``, None for another URL."""
    found = _STREAM.fullmatch(url)
    return (found[1], found[2], found[3]) if found else None
