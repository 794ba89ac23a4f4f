"""A playlist as bytes, and the answers made of them once."""

from __future__ import annotations

import zlib

from appliance.net.direct import Reply
from appliance.publishers.heads import Heads

_GZIP_WINDOW = 31
#: Playlists of hours are compressed less: the loop must not stand still for them.
_LONG = 64 * 1024
#: Forms of an answer.
_GZIP = 1
DIRECTIVES = 2
MASTER = 4


class Rendered:
    """One form of a playlist; ``version`` is that of what it tells."""

    __slots__ = ("_gzip", "_replies", "body", "version")

    def __init__(self, version: int, body: bytes) -> None:
        self.version = version
        self.body = body
        self._replies: dict[int, Reply] = {}
        self._gzip: bytes | None = None

    @property
    def gzip(self) -> bytes:
        """The same, compressed: at the first request that takes it."""
        if self._gzip is None:
            compressor = zlib.compressobj(5 if len(self.body) < _LONG else 1, zlib.DEFLATED, _GZIP_WINDOW)
            self._gzip = compressor.compress(self.body) + compressor.flush()
        return self._gzip

    def reply(self, heads: Heads, kind: int, accept_encoding: bytes, origin: bytes) -> Reply:
        """The answer to a request; ``kind`` is DIRECTIVES for a blocking reload, MASTER for a master playlist."""
        if accept_encoding and takes_gzip(accept_encoding):
            kind |= _GZIP
        reply = self._replies.get(kind)
        if reply is None or heads.cors.by_origin:
            body = self.gzip if kind & _GZIP else self.body
            headers = heads.playlist(
                len(body), gzip=bool(kind & _GZIP), master=bool(kind & MASTER), directives=bool(kind & DIRECTIVES)
            )
            if heads.cors.by_origin:
                return Reply(200, headers + heads.cors.headers(origin or None), [body])
            reply = self._replies[kind] = Reply(200, headers, [body])
        return reply


def takes_gzip(accept: bytes) -> bool:
    """Whether an Accept-Encoding allows gzip: by name or by ``*``, and not with weight zero."""
    if accept == b"gzip" or accept.startswith((b"gzip,", b"gzip, ")):
        return True
    anything = False
    for item in accept.lower().split(b","):
        coding, _, weight = item.partition(b";")
        coding = coding.strip()
        if coding not in (b"gzip", b"*", b"x-gzip"):
            continue
        refused = weight.replace(b" ", b"").rstrip(b"0.") in (b"q=",)
        if coding != b"*":
            return not refused
        anything = not refused
    return anything
