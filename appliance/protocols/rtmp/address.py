"""Where a publisher wants to go: tcUrl and stream key taken apart (wire catalogue 0.3 and 5.5)."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec


class Address(msgspec.Struct, frozen=True):
    """``host`` without port and brackets, ``port`` 0 when the URL has none, ``query`` the raw text after ``?`` of
    tcUrl and stream key, joined by ``&``."""

    host: str
    port: int
    app: str
    stream: str
    query: str

    def parameter(self, name: str) -> str:
        """The first value of ``name`` in the query, percent-decoded; "" when it is not there. ``+`` stays ``+``."""
        for item in self.query.split("&"):
            key, _, value = item.partition("=")
            if key == name:
                return unquote(value)
        return ""


def parse_address(tc_url: str, app: str, key: str) -> Address:
    """Never raises: what can't be understood gives empty parts, which no virtual host and no application match.

    tcUrl is authoritative; ``app`` of the connect command counts only where tcUrl has no path. An empty ``key``
    means the second component of the path.
    """
    tc_url, _, tc_query = tc_url.partition("?")
    scheme, separator, rest = tc_url.partition("://")
    if not separator or scheme.lower() not in ("rtmp", "rtmps", "rtmpt", "rtmpe"):
        rest = ""
    authority, _, path = rest.partition("/")
    host, port = _split_authority(authority)
    parts = [part for part in path.split("/") if part]
    if not parts:
        app, _, app_query = app.partition("?")
        tc_query = tc_query or app_query
        parts = [part for part in app.split("/") if part]
    stream, _, key_query = key.partition("?")
    if not stream and len(parts) > 1:
        stream = parts[1]
    query = "&".join(text for text in (tc_query, key_query) if text)
    return Address(host, port, parts[0] if parts else "", stream, query)


def _split_authority(authority: str) -> tuple[str, int]:
    authority = authority.rpartition("@")[2]
    if authority.startswith("["):
        host, _, after = authority[1:].partition("]")
        port = after.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return host.lower(), number if number <= 0xFFFF else 0
