"""What all HTTP versions share: ASGI types, the request target, error answers.

Sources: ASGI 3 (HTTP and WebSocket message format 2.4), RFC 9112 section 3.2, RFC 3986 section 2.1.
"""

from __future__ import annotations

import http
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
BodyLimit = Callable[[Scope], int]
Headers = list[tuple[bytes, bytes]]
Buffer = bytes | bytearray | memoryview

ASGI_VERSION = {"version": "3.0", "spec_version": "2.4"}
NO_BODY_STATUS = frozenset((204, 304))

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_SCHEME = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


class ClientDisconnected(OSError):
    """Raised by ``send`` when there is nobody left to send to."""


class BadTarget(ValueError):
    """A request target that names nothing: broken escape, not UTF-8, a form that HTTP does not have."""


def parse_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Path (decoded), path as sent, query string. The target is in origin form, or ``*``. Raises BadTarget."""
    raw_path, _, query = target.partition(b"?")
    if b"#" in target or not (raw_path.startswith(b"/") or raw_path == b"*"):
        raise BadTarget("not an absolute path")
    try:
        if b"%" not in raw_path:
            return raw_path.decode("ascii"), raw_path, query
        if _BAD_ESCAPE.search(raw_path):
            raise BadTarget("broken percent escape")
        return unquote_to_bytes(raw_path).decode(), raw_path, query
    except UnicodeDecodeError as error:
        raise BadTarget("not UTF-8") from error


def split_absolute(target: bytes) -> tuple[bytes, bytes]:
    """Authority and origin form of an absolute-form target (``http://host/path``). Raises BadTarget."""
    match = _SCHEME.match(target)
    if match is None or not match[1]:
        raise BadTarget("neither a path nor an http URL")
    rest = target[match.end() :]
    return match[1], rest if rest.startswith(b"/") else b"/" + rest


def valid_host(host: bytes) -> bool:
    """Whether a Host header or authority is one (RFC 3986 section 3.2.2; no user information)."""
    return _HOST.fullmatch(host) is not None


def phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def error_body(status: int) -> bytes:
    return f"{status} {phrase(status)}\n".encode()


def as_buffer(data: object) -> bytes | memoryview:
    """``data`` as something whose ``len`` is its size in bytes."""
    if type(data) is bytes:
        return data
    view = memoryview(data)  # type: ignore[arg-type]
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def body_buffers(message: Message) -> tuple[list[bytes | memoryview], int]:
    """The buffers of an ``http.response.body`` message, without empty ones, and their size in bytes."""
    body = message.get("body", b"")
    first = body if type(body) is bytes else as_buffer(body)
    size = len(first)
    pieces = [first] if size else []
    buffers = message.get("buffers")
    if buffers is None:
        return pieces, size
    for item in buffers:
        piece = as_buffer(item)
        if len(piece):
            pieces.append(piece)
            size += len(piece)
    return pieces, size
