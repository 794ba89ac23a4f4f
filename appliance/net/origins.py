"""Which web pages are let in: the URL patterns of a ``<CrossDomains>`` (catalogue 2.5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

EVERYBODY = "*"
NULL = "null"


def allowed_origin(urls: Sequence[str], origin: bytes) -> bytes:
    """What Access-Control-Allow-Origin says to a request with that ``Origin`` (b"" when not sent); b"" for nothing.

    ``*`` among ``urls`` admits everybody, ``null`` alone says ``null``. Else a pattern has to match the whole origin,
    with ``*`` and ``?`` as wildcards; without ``://`` both http and https, or no scheme at all, are meant.
    """
    if EVERYBODY in urls:
        return b"*"
    if depends_on_origin(urls):
        text = origin.decode("latin-1")
        return origin if origin and any(_pattern(url).fullmatch(text) for url in urls) else b""
    return b"null" if urls else b""


def depends_on_origin(urls: Sequence[str]) -> bool:
    """Whether the answer of ``allowed_origin`` differs from origin to origin."""
    return bool(urls) and EVERYBODY not in urls and tuple(urls) != (NULL,)


@lru_cache(maxsize=1024)
def _pattern(url: str) -> re.Pattern[str]:
    body = re.escape(url).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(body if "://" in url else f"(?:https?://)?{body}")
