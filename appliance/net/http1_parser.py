"""HTTP/1 requests out of bytes (RFC 9112): llhttp's strict parser, with what it leaves to its caller. Sans-IO.

The same bytes give the same requests and the same failure however they are cut.
"""

from __future__ import annotations

import re
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
_SLICE = 4096
_LONGEST_LEARNT = 4096
_GET = re.compile(rb"GET (/[!-~]*) HTTP/1\.1\r\n")


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

    @property
    def plain(self) -> bool:
        """HTTP/1.1, keep-alive, and nothing in it but a method, a target and headers."""
        return (
            self.keep_alive
            and self.complete
            and not (self.http10 or self.received or self.refusal or self.websocket or self.expects_continue)
        )


class _Stop(Exception):
    """Leaves the parser from within its callbacks."""


class Http1Parser:
    """``feed`` bytes, take ``requests``. After ``failure`` (a status) or ``ended`` nothing more is parsed.

    ``in_head``: a request has begun whose head is not complete. ``ended``: the last request is an upgrade, and
    the connection carries no further ones; the bytes behind a WebSocket request are ``leftover``.
    """

    def __init__(self, header_size: int) -> None:
        self.requests: deque[Request] = deque()
        self.failure = 0
        self.ended = False
        self.leftover = b""
        self._header_size = header_size
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self.in_head = False
        self._quiet = 0
        self._progress = False
        self._lines = b""
        self._lines_headers: Headers = []
        self._lines_size = 0
        self._clear()

    def feed(self, data: bytes) -> None:
        """Parse ``data``. Never raises."""
        if self._repeats(data):
            return
        at_boundary = self._at_boundary()
        before = len(self.requests)
        for at in range(0, len(data), _SLICE):
            self._parse(data[at : at + _SLICE])
        if at_boundary and len(self.requests) == before + 1:
            self._learn(data, self.requests[-1])

    def _at_boundary(self) -> bool:
        return not self.in_head and (self._request is None or self._request.complete)

    def _repeats(self, data: bytes) -> bool:
        """Take a plain GET whose header lines are, byte for byte, those of the one before: most are."""
        lines = self._lines
        if not lines or not data.endswith(lines) or not self._at_boundary():
            return False
        match = _GET.fullmatch(data, 0, len(data) - len(lines))
        if match is None or len(match[1]) + self._lines_size > self._header_size or self.failure or self.ended:
            return False
        request = self._request = Request(self._lines_headers.copy())
        request.method = "GET"
        request.target = match[1]
        request.keep_alive = request.complete = True
        self.requests.append(request)
        return True

    def _learn(self, data: bytes, request: Request) -> None:
        """Remember the header lines of a plain GET that ``data`` is as a whole."""
        line = _GET.match(data)
        plain = request.complete and request.keep_alive and not (request.http10 or request.refusal or request.received)
        if line is None or not plain or request.websocket or request.expects_continue or self.failure or self.ended:
            return
        lines = data[line.end() :]
        if lines.endswith(b"\r\n\r\n") and lines.count(b"\r\n\r\n") == 1 and len(lines) <= _LONGEST_LEARNT:
            if request.content_length >= 0 or request.chunked or request.target != line[1]:
                return
            self._lines = lines
            self._lines_headers = request.headers.copy()
            self._lines_size = sum(len(name) + len(value) + _LINE_OVERHEAD for name, value in request.headers)

    def _parse(self, data: bytes) -> None:
        # In slices, so that a head which is too long is found in one piece as it is in many.
        if self.ended:
            self.leftover += data
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
            self._fail(431 if self.in_head else 400)

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
        self.in_head = True
        self._request = None
        self._clear()

    def on_url(self, part: bytes) -> None:
        self._url += part
        self._count(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _LINE_OVERHEAD)
        if not self.in_head:
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
        self.in_head = False
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
        request.websocket = (
            self._upgrade == b"websocket"
            and request.method == "GET"
            and not request.http10
            and self._parser.should_upgrade()
        )
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
            self._fail(431 if self.in_head else 400)
            raise _Stop
