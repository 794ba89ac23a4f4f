"""Response heads, HTTP/1 (RFC 9112) and HTTP/2 field lists. What never changes is rendered once; Date once a second."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate

from appliance.net.asgi import phrase
from appliance.net.direct import Reply

_OURS = frozenset((b"content-length", b"transfer-encoding", b"connection", b"date", b"server"))
_LONGEST_KNOWN = 256
_MOST_KNOWN = 1024
_HOP_BY_HOP = frozenset((b"transfer-encoding", b"connection", b"keep-alive", b"upgrade", b"proxy-connection"))


class FieldError(RuntimeError):
    """A handler gave a header that can't be sent."""


class Heads:
    """Renders heads for one server."""

    def __init__(self, server_header: str | None) -> None:
        self._server = server_header.encode("ascii") if server_header is not None else None
        if self._server is not None and any(byte < 32 or byte > 126 for byte in self._server):
            raise ValueError("the server header holds characters that can't be sent")
        self._second = -1
        self._starts: dict[int, bytes] = {}
        self._http2_starts: dict[int, bytes] = {}
        self._fields: list[tuple[bytes, bytes]] = []
        self.hpack_lines: dict[tuple[bytes, bytes], bytes] = {}
        self._lines: dict[tuple[bytes, bytes], bytes] = {}

    def _tick(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._starts = {}
            self._http2_starts = {}
            self._fields = [(b"date", formatdate(second, usegmt=True).encode("ascii"))]
            if self._server is not None:
                self._fields.append((b"server", self._server))

    def start(self, status: int) -> bytes:
        """Status line, date and server."""
        if int(time.time()) != self._second:
            self._tick()
        start = self._starts.get(status)
        if start is None:
            line = f"HTTP/1.1 {status} {phrase(status)}\r\n".encode("ascii")
            start = line + b"".join(b"%b: %b\r\n" % field for field in self._fields)
            self._starts[status] = start
        return start

    def http1(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int, bool]:
        """Start of a head, the content length that ``headers`` give (-1: none), whether they ask to close.

        Raises FieldError.
        """
        known = self._lines
        pieces = [self.start(status)]
        length = -1
        close = False
        for name, value in headers:
            line = known.get((name, value))
            if line is None:
                lower = name if name == b"content-length" else name.lower()
                if lower == b"content-length":
                    length = content_length(value)
                    continue
                if lower == b"connection":
                    close = close or b"close" in value.lower()
                    continue
                line = self._line(lower, value)
            pieces.append(line)
        return b"".join(pieces), length, close

    def fields(self, reply: Reply) -> bytes:
        """All of a head behind its start, for a connection that stays. Kept in ``reply.fields``. Raises FieldError."""
        head, length, _ = self.http1(reply.status, reply.headers)
        if length != reply.size:
            raise FieldError(f"content-length is {length} where the body has {reply.size}")
        reply.fields = head[len(self.start(reply.status)) :] + b"content-length: %d\r\n\r\n" % length
        return reply.fields

    def _line(self, name: bytes, value: bytes) -> bytes:
        """One header line, "" for what the server itself says."""
        line = b"" if name in _OURS else b"%b: %b\r\n" % (name, value)
        if line and (line.count(b"\n") != 1 or line.count(b"\r") != 1 or b"\0" in line):
            raise FieldError(f"the response header {name!r} holds a line break or a NUL")
        if len(line) <= _LONGEST_KNOWN:
            if len(self._lines) >= _MOST_KNOWN:
                self._lines.clear()
            self._lines[name, value] = line
        return line

    def http2_block(self, reply: Reply) -> tuple[bytes, bytes]:
        """The field block (HPACK) of a reply in two pieces, the second kept in ``reply.block``. Raises FieldError."""
        from appliance.net.http2_fields import ResponseEncoder

        self._tick()
        start = self._http2_starts.get(reply.status)
        if start is None:
            encoder = ResponseEncoder(self.hpack_lines)
            start = self._http2_starts[reply.status] = encoder.encode(self.http2(reply.status, ())[0])
        if not reply.block:
            fields, length = self.http2(reply.status, reply.headers)
            if length != reply.size:
                raise FieldError(f"content-length is {length} where the body has {reply.size}")
            common = len(self._fields) + 1
            reply.block = ResponseEncoder(self.hpack_lines).encode(fields[common:])
        return start, reply.block

    def http2(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], int]:
        """The field list of a response, and the content length that ``headers`` give (-1: none). Raises FieldError."""
        self._tick()
        fields = [(b":status", b"%d" % status), *self._fields]
        length = -1
        for name, value in headers:
            name = name.lower()
            if name in _HOP_BY_HOP or name in (b"date", b"server"):
                continue
            if name == b"content-length":
                length = content_length(value)
            if b"\r" in value or b"\n" in value or b"\0" in value or b"\n" in name:
                raise FieldError("a response header holds a line break or a NUL")
            fields.append((name, value))
        return fields, length


def content_length(value: bytes) -> int:
    """Raises FieldError."""
    if not value.isdigit():
        raise FieldError(f"content-length is {value!r}")
    return int(value)
