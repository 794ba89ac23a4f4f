"""What is said before each body: status, content type, caching, CORS. Made once, used for every request."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.net.asgi import Headers
from appliance.net.origins import allowed_origin, depends_on_origin
from appliance.settings.models import CacheControl, CrossDomains

PLAYLIST_TYPE = b"application/vnd.apple.mpegurl"
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_METHODS = b"GET, HEAD, OPTIONS"
#: What is wrong now may be right in a second (draft appendix B).
_SHORT = (b"cache-control", b"max-age=1")
_OURS = {b"access-control-allow-credentials": b"true", b"access-control-allow-methods": _METHODS}


class Cors:
    """Who may read the answers from a browser (catalogue 2.5). ``fixed`` headers are those that no request changes."""

    def __init__(self, domains: CrossDomains | None) -> None:
        self._urls = domains.urls if domains is not None else ()
        #: The headers differ from origin to origin.
        self.by_origin = depends_on_origin(self._urls)
        own = {header.key.lower().encode(): header.value.encode() for header in (domains.headers if domains else ())}
        self._always: Headers = [
            item for item in own.items() if item[0] not in _OURS and not item[0].startswith(b"access-control-allow-")
        ]
        self._granted: Headers = [
            (key, own.get(key, value)) for key, value in _OURS.items() if key != b"access-control-allow-methods"
        ]
        self._methods = (b"access-control-allow-methods", own.get(b"access-control-allow-methods", _METHODS))
        self._allow_headers = own.get(b"access-control-allow-headers")
        self.fixed: Headers = [] if self.by_origin else self._always + self._grant(b"")

    def headers(self, origin: bytes | None) -> Headers:
        """For an answer to a request with that ``Origin``."""
        if not self.by_origin:
            return self.fixed
        return [*self._always, *self._grant(origin or b""), (b"vary", b"Origin")]

    def _grant(self, origin: bytes) -> Headers:
        allowed = allowed_origin(self._urls, origin)
        return [(b"access-control-allow-origin", allowed), *self._granted] if allowed else []

    def preflight(self, origin: bytes | None, asked: bytes | None) -> Headers:
        """For an OPTIONS request that asks for ``asked`` headers."""
        headers = [*self.headers(origin), self._methods]
        allowed = self._allow_headers or asked
        if allowed:
            headers.append((b"access-control-allow-headers", allowed))
        return headers


class Heads:
    """The heads of one application's answers. ``life`` in seconds is how long media under a name never changes."""

    def __init__(self, cors: Cors, cache: CacheControl, life: int) -> None:
        self.cors = cors
        self._master = _cache(cache.master_playlist_max_age, None)
        self._chunklist = _cache(cache.chunklist_max_age, None)
        self._blocked = _cache(cache.chunklist_with_directives_max_age, None)
        self._segment = _cache(cache.segment_max_age, life)
        self._part = _cache(cache.partial_segment_max_age, life)

    def media(self, content_type: bytes, length: int, *, part: bool) -> Headers:
        cached = self._part if part else self._segment
        return [(b"content-type", content_type), (b"content-length", b"%d" % length), *cached, *self.cors.fixed]

    def playlist(self, length: int, *, gzip: bool, master: bool, directives: bool) -> Headers:
        cached = self._master if master else self._blocked if directives else self._chunklist
        encoding = [(b"content-encoding", b"gzip")] if gzip else []
        return [
            (b"content-type", PLAYLIST_TYPE),
            (b"content-length", b"%d" % length),
            *encoding,
            (b"vary", b"Accept-Encoding"),
            *cached,
            *self.cors.fixed,
        ]


def error(status: int, length: int, extra: Iterable[tuple[bytes, bytes]]) -> Headers:
    retry = [(b"retry-after", b"1")] if status == 503 else []
    return [_TEXT, (b"content-length", b"%d" % length), _SHORT, *retry, *extra]


def _cache(age: int, computed: int | None) -> Headers:
    """``age`` as the settings have it: 0 never, -1 what follows from the stream, or nothing."""
    if age == 0:
        return [(b"cache-control", b"no-cache, no-store")]
    if age < 0:
        return [] if computed is None else [(b"cache-control", b"max-age=%d" % computed)]
    return [(b"cache-control", b"max-age=%d" % age)]
