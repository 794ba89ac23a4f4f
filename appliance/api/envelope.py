"""What every answer of the APIs looks like (catalogue 2.6).

``{"message":…,"response":…,"statusCode":…}``: one compact line of ASCII, object keys in ascending order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

Headers = list[tuple[bytes, bytes]]

JSON_TYPE = b"application/json;charset=UTF-8"

MESSAGES = {
    200: "OK",
    201: "Created",
    204: "No Content",
    207: "Multi Status",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    423: "Locked",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}

_encoder = msgspec.json.Encoder(order="sorted")


@dataclass(slots=True)
class Answer:
    """``body`` is JSON; ``headers`` are those of this answer alone."""

    status: int
    body: bytes
    headers: Headers | tuple[()] = ()


def encode(value: Any) -> bytes:
    """``value`` as JSON: keys sorted, no spaces, non-ASCII characters as ``\\uXXXX``."""
    body = _encoder.encode(value)
    if body.isascii():
        return body
    return json.dumps(msgspec.json.decode(body), ensure_ascii=True, separators=(",", ":")).encode("ascii")


def success(response: Any) -> Answer:
    """200 with a resource."""
    return Answer(200, b'{"message":"OK","response":%b,"statusCode":200}' % encode(response))


def failure(status: int, text: str) -> Answer:
    """An error as the HTTP layer tells it: ``[HTTP] text (status)``."""
    message = encode(f"[HTTP] {text} ({status})")
    return Answer(status, b'{"message":%b,"statusCode":%d}' % (message, status))


def plain(status: int) -> Answer:
    """Only the status and its text."""
    return Answer(status, b'{"message":"%b","statusCode":%d}' % (MESSAGES[status].encode(), status))
