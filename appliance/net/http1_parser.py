"""HTTP/1 requests out of bytes (RFC 9112): llhttp's strict parser, with what it leaves to its caller. Sans-IO.

The same bytes give the same requests and the same failure however they are cut.
"""

from __future__ import annotations

from collections import deque

import httptools

from appliance.net.asgi import BadTarget, Headers, split_absolute, valid_host

_HOST, _LENGTH, _CODING, _EXPECT, _UPGRADE = range(5)
_SPECIAL = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"expect": _EXPECT,
    b"upgrade": _UPGRADE,
}
_LINE_OVERHEAD = 4
_PADDING = 4096


class Request:
    """A request whose head is complete.

    ``target`` is in origin form. ``chunks`` are body bytes not yet taken, ``received`` counts all of them.
    ``complete``: the whole body came; ``broken``: it never will. ``refusal``: the status to answer with
    instead of handling it, or 0. ``content_length`` is -1 when none was given.
    """

    __slots__ = (
        "broken",
        "chunked",
        "chunks",
        "complete",
        "content_length",
        "expects_continue",
        "headers",
        "http10",
        "keep_alive",
        "method",
        "received",
        "refusal",
        "target",
        "websocket",
    )

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.method = ""
        self.target = b""
        self.http10 = False
        self.keep_alive = False
        self.content_length = -1
        self.chunked = False
        self.expects_continue = False
        self.websocket = False
        self.chunks: list[bytes] = []
        self.received = 0
        self.complete = False
        self.broken = False
        self.refusal = 0


class _Stop(Exception):
    """Leaves the parser from within its callbacks."""


class Http1Parser:
    """``feed`` bytes, take ``requests``. After ``failure`` (a status) or ``ended`` nothing more is parsed.

    ``ended`` is set by a request after which the connection carries no further requests (an upgrade); the bytes behind
    a WebSocket request are ``leftover``.
    """

    def __init__(self, header_size: int) -> None:
        self.requests: deque[Request] = deque()
        self.failure = 0
        self.ended = False
        self.leftover = b""
        self._header_size = header_size
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._in_head = False
        self._quiet = 0
        self._progress = False
        self._clear()

    @property
    def in_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self._in_head

    def feed(self, data: bytes) -> None:
        """Parse ``data``. Never raises."""
        while data and not self.failure and not self.ended:
            rest = b""
            self._progress = False
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
                self._upgraded(rest)
            except httptools.HttpParserError:
                self._fail(400)
            self._bound(len(data))
            data = rest

    def _bound(self, size: int) -> None:
        """Bound what llhttp collects without telling: a head or trailer whose lines never end."""
        self._quiet = 0 if self._progress else self._quiet + size
        if self._quiet > self._header_size + _PADDING and not (self._request and self._request.complete):
            self._fail(431 if self._in_head else 400)

    def _upgraded(self, rest: bytes) -> None:
        request = self.requests[-1]
        if request.websocket and not request.refusal:
            self.leftover = rest
            self.ended = True
        elif request.refusal or request.content_length > 0 or request.chunked:
            # Its body was not parsed: what follows can't be told from a next request.
            request.keep_alive = False
            self.ended = True

    def _fail(self, status: int) -> None:
        if self._request is not None and not self._request.complete:
            self._request.broken = True
        if not self.failure:
            self.failure = status

    def _clear(self) -> None:
        self._url = b""
        self._headers: Headers = []
        self._size = 0
        self._hosts: list[bytes] = []
        self._length = -1
        self._codings: list[bytes] = []
        self._expect = b""
        self._upgrade = b""

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._progress = True
        self._in_head = True
        self._request = None
        self._clear()

    def on_url(self, part: bytes) -> None:
        self._url += part
        self._count(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _LINE_OVERHEAD)
        if not self._in_head:
            return
        name = name.lower()
        value = value.rstrip(b" \t")
        self._headers.append((name, value))
        special = _SPECIAL.get(name)
        if special is None:
            return
        if special == _HOST:
            self._hosts.append(value)
        elif special == _LENGTH:
            self._length = int(value)
        elif special == _CODING:
            self._codings.append(value.lower())
        elif special == _EXPECT:
            self._expect = value.lower()
        else:
            self._upgrade = value.lower()

    def on_headers_complete(self) -> None:
        self._progress = True
        parser = self._parser
        request = self._request = Request(self._headers)
        request.method = parser.get_method().decode("ascii")
        request.target = self._url
        version = parser.get_http_version()
        request.http10 = version == "1.0"
        request.keep_alive = parser.should_keep_alive()
        request.content_length = self._length
        if self._codings:
            request.chunked = True
            if self._codings != [b"chunked"]:
                request.refusal = 501
        if version not in ("1.1", "1.0"):
            request.refusal = 505
        elif request.http10 and request.chunked:
            request.refusal = 400
        elif not request.refusal:
            request.refusal = self._check(request)
        if request.refusal:
            request.keep_alive = False
        self._in_head = False
        self._size = 0
        self.requests.append(request)

    def on_body(self, data: bytes) -> None:
        self._progress = True
        request = self._request
        if request is not None:
            request.chunks.append(data)
            request.received += len(data)

    def on_message_complete(self) -> None:
        self._progress = True
        if self._request is not None:
            self._request.complete = True

    def _check(self, request: Request) -> int:
        """The status to refuse this request with, or 0."""
        if request.method == "CONNECT":
            return 501
        if len(self._hosts) > 1 or (not self._hosts and not request.http10):
            return 400
        if self._hosts and not valid_host(self._hosts[0]):
            return 400
        if not request.target.startswith(b"/") and not self._normalise(request):
            return 400
        if self._expect and not request.http10:
            if self._expect != b"100-continue":
                return 417
            request.expects_continue = True
        request.websocket = self._upgrade == b"websocket" and request.method == "GET" and self._parser.should_upgrade()
        return 0

    def _normalise(self, request: Request) -> bool:
        """Bring ``*`` and absolute form into what handlers know (RFC 9112 section 3.2.2: the target's host rules)."""
        if request.target == b"*":
            return request.method == "OPTIONS"
        try:
            host, request.target = split_absolute(request.target)
        except BadTarget:
            return False
        request.headers = [(b"host", host), *(pair for pair in request.headers if pair[0] != b"host")]
        return valid_host(host)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._header_size:
            self._fail(431 if self._in_head else 400)
            raise _Stop
