"""A URL from outside, taken apart by the egress guard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Url:
    """``scheme`` in lower case; ``host`` in ASCII without brackets; ``port`` that of the URL, else of the scheme, 0
    when neither has one. ``path`` with its leading slash ("" when there is none) and ``query`` without ``?`` are as
    written; ``user`` and ``password`` percent-decoded."""

    scheme: str
    host: str
    port: int
    path: str = ""
    query: str = ""
    user: str = ""
    password: str = ""

    @property
    def authority(self) -> str:
        """``host:port``, without user and password; no port where there is none."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    @property
    def shown(self) -> str:
        """For logs and errors: without user, password, path and query, all of which may hold secrets."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        """Without user and password."""
        return f"{self.shown}{self.path}{'?' if self.query else ''}{self.query}"
