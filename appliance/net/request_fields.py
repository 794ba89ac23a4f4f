"""What the fields of an HTTP/2 request may hold (RFC 9113 section 8), looked at once for each different field."""

from __future__ import annotations

import re
from collections.abc import Iterable

Field = tuple[bytes, bytes]

#: Fields of so many bytes are kept in mind, so many of them.
LONGEST_KNOWN = 256
MOST_KNOWN = 2048
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_NEEDED = frozenset((b":method", b":scheme", b":path"))
_CONNECTION_FIELDS = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))


class RequestFields:
    """Tells requests that are malformed from those that are not."""

    def __init__(self) -> None:
        self._known: set[Field] = set()

    def valid(self, fields: Iterable[Field]) -> bool:
        """Whether these fields make a request: pseudo fields first, once, and all there; names and values legal."""
        pseudo: dict[bytes, bytes] = {}
        host: bytes | None = None
        regular = False
        known = self._known
        for field in fields:
            name, value = field
            if name.startswith(b":"):
                if regular or name in pseudo or name not in _PSEUDO or not value or _VALUE.fullmatch(value) is None:
                    return False
                pseudo[name] = value
                continue
            regular = True
            if field not in known and not self._learn(name, value):
                return False
            if name == b"host":
                if host is not None:
                    return False
                host = value
        authority = pseudo.get(b":authority", host)
        return pseudo.keys() >= _NEEDED and authority is not None and (host is None or host == authority)

    def _learn(self, name: bytes, value: bytes) -> bool:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None or name in _CONNECTION_FIELDS:
            return False
        if name == b"te" and value.lower() != b"trailers":
            return False
        if len(value) <= LONGEST_KNOWN:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known.add((name, value))
        return True
