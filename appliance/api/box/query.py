"""What stands behind the question mark, read strictly."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime

from appliance.api.envelope import Headers
from appliance.api.request import Request
from appliance.errors import BadRequest

#: Of answers that are not JSON: what they are is what they say, and nobody keeps them.
PRIVATE: Headers = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]

_YES = frozenset({"yes", "true", "1", ""})
_NO = frozenset({"no", "false", "0"})
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def known(request: Request, names: Collection[str]) -> dict[str, str]:
    """The query. Raises BadRequest for a name that is none of ``names``: what is ignored is not what was meant."""
    query = request.query
    unknown = sorted(query.keys() - set(names))
    if unknown:
        raise BadRequest(f"Unknown query parameter: {unknown[0][:128]} (known here: {', '.join(sorted(names))})")
    return query


def flag(query: dict[str, str], name: str) -> bool:
    """``yes`` or ``no``; no when it is not there. Raises BadRequest."""
    value = query.get(name, "no").lower()
    if value not in _YES | _NO:
        raise BadRequest(f"{name} is yes or no, not {value[:64]}")
    return value in _YES


def number(query: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    """Raises BadRequest."""
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not least <= int(text) <= most:
        raise BadRequest(f"{name} is a number from {least} to {most}, not {text[:64]}")
    return int(text)


def one_of(query: dict[str, str], name: str, default: str, choices: Collection[str]) -> str:
    """Raises BadRequest."""
    value = query.get(name, default).lower()
    if value not in choices:
        raise BadRequest(f"{name} is one of {', '.join(choices)}, not {value[:64]}")
    return value


def size(query: dict[str, str], name: str, default: str, most: int) -> tuple[int, int]:
    """``<width>x<height>``, each from 2 to ``most``. Raises BadRequest."""
    text = query.get(name, default)
    match = _SIZE.fullmatch(text)
    if match is None or not all(2 <= int(side) <= most for side in match.groups()):
        raise BadRequest(f"{name} is <width>x<height>, each from 2 to {most}, not {text[:64]}")
    return int(match[1]), int(match[2])


def moment(query: dict[str, str], name: str) -> float:
    """Seconds since 1970, 0.0 when it is not there: given so, or as ISO 8601 (UTC without an offset). Raises
    BadRequest."""
    text = query.get(name, "0").replace(" ", "+")
    try:
        return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else _iso(text)
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} is seconds since 1970 or a time such as 2026-01-02T03:04:05Z") from None


def _iso(text: str) -> float:
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
