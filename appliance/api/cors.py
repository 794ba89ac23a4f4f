"""Which web pages may read the API's answers (catalogue 2.5): the server's layer, then the API's own.

A layer without any matching URL takes away what the one before has granted. ``Vary: Origin`` is always there.
"""

from __future__ import annotations

from functools import lru_cache

from appliance.net.origins import allowed_origin
from appliance.settings.models import CrossDomains

Headers = tuple[tuple[bytes, bytes], ...]

METHODS = b"OPTIONS, HEAD, GET, POST, PUT, PATCH, DELETE"
_ORIGIN = b"access-control-allow-origin"
_CREDENTIALS = b"access-control-allow-credentials"
_METHODS = b"access-control-allow-methods"
_HEADERS = b"access-control-allow-headers"
_OVERRIDABLE = (_CREDENTIALS, _METHODS, _HEADERS)


class Layer:
    """One ``<CrossDomains>``; None is one without any URL."""

    def __init__(self, domains: CrossDomains | None) -> None:
        self._urls = domains.urls if domains else ()
        own = {header.key.lower().encode(): header.value.encode() for header in (domains.headers if domains else ())}
        self._overrides = {key: value for key, value in own.items() if key in _OVERRIDABLE and b":" not in value}
        self._always = {key: value for key, value in own.items() if key not in (*_OVERRIDABLE, _ORIGIN)}

    def apply(self, headers: dict[bytes, bytes], origin: bytes, asked: bytes) -> None:
        """Grant or take away. ``asked`` is Access-Control-Request-Headers, both are b"" when not sent."""
        headers.update(self._always)
        allowed = allowed_origin(self._urls, origin)
        if not allowed:
            for name in (_ORIGIN, *_OVERRIDABLE):
                headers.pop(name, None)
            return
        headers.update({_ORIGIN: allowed, _CREDENTIALS: b"true", _METHODS: METHODS})
        if asked:
            headers[_HEADERS] = asked
        headers.update(self._overrides)


class CrossOrigin:
    """The headers of both layers, for each request. ``api`` None leaves the server's layer as it is."""

    def __init__(self, server: CrossDomains | None, api: CrossDomains | None) -> None:
        self._server = Layer(server)
        self._api = Layer(api) if api is not None else None
        self._made = lru_cache(maxsize=256)(self._make)

    def headers(self, origin: bytes = b"", asked: bytes = b"") -> Headers:
        """For an answer to a request with these ``Origin`` and ``Access-Control-Request-Headers``."""
        return self._made(origin, asked)

    def _make(self, origin: bytes, asked: bytes) -> Headers:
        headers: dict[bytes, bytes] = {}
        self._server.apply(headers, origin, asked)
        if self._api is not None:
            self._api.apply(headers, origin, asked)
        else:
            headers[_METHODS] = METHODS
        return ((b"vary", b"Origin"), *headers.items())
