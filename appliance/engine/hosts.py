"""Which virtual host a host name belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


@lru_cache(maxsize=1024)
def _pattern(name: str) -> re.Pattern[str]:
    escaped = re.escape(name.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(escaped)


def host_matches(names: Iterable[str], host: str) -> bool:
    """Whether ``host`` (no port, any case) matches one of ``names``: ``*`` and ``?`` wildcards, the whole string."""
    lowered = host.lower()
    return any(_pattern(name).fullmatch(lowered) for name in names)


def first_match(vhosts: Sequence[tuple[str, Sequence[str]]], host: str) -> str | None:
    """The first virtual host of ``(name, Host/Names)`` in configuration order that matches (wire catalogue 0.2)."""
    for name, names in vhosts:
        if host_matches(names, host):
            return name
    return None
