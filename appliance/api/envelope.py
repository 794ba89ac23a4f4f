"""What every answer of the APIs looks like (catalogue 2.6).

``{"message":…,"response":…,"statusCode":…}``: one compact line of ASCII, object keys in ascending order.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.errors import BadRequest, ConfigError, KilnError

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
    413: "Content Too Large",
    423: "Locked",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}

_encoder = msgspec.json.Encoder(order="sorted")


#: Sends one piece of a body; returns once the client has taken it or there is room.
Write = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class Answer:
    """``body`` is JSON unless ``content_type`` says otherwise; ``headers`` are those of this answer alone.

    With ``stream`` the body is what that writes instead, for as long as it runs; it isn't called for HEAD. Its errors
    cut the answer off. Where the length is known, ``headers`` say it.
    """

    status: int
    body: bytes
    headers: Headers | tuple[()] = ()
    content_type: bytes = JSON_TYPE
    stream: Callable[[Write], Awaitable[None]] | None = None


def encode(value: Any) -> bytes:
    """``value`` as JSON: keys sorted, no spaces, non-ASCII characters as ``\\uXXXX``."""
    body = _encoder.encode(value)
    if body.isascii():
        return body
    return json.dumps(msgspec.json.decode(body), ensure_ascii=True, separators=(",", ":")).encode("ascii")


def success(response: Any) -> Answer:
    """200 with a resource."""
    return Answer(200, b'{"message":"OK","response":%b,"statusCode":200}' % encode(response))


def created(response: Any = None) -> Answer:
    """201, with what was made or without."""
    if response is None:
        return plain(201)
    return Answer(201, b'{"message":"Created","response":%b,"statusCode":201}' % encode(response))


def failure(status: int, text: str) -> Answer:
    """An error as the HTTP layer tells it: ``[HTTP] text (status)``."""
    message = encode(f"[HTTP] {text} ({status})")
    return Answer(status, b'{"message":%b,"statusCode":%d}' % (message, status))


def plain(status: int) -> Answer:
    """Only the status and its text."""
    return Answer(status, b'{"message":"%b","statusCode":%d}' % (MESSAGES[status].encode(), status))


def config_failure(error: ConfigError) -> Answer:
    """A setting that is wrong, told without the HTTP layer: ``[Config] text``."""
    return Answer(400, b'{"message":%b,"statusCode":400}' % encode(f"[Config] {error}"))


def wrapped_config_failure(error: ConfigError) -> KilnError:
    """The same where the HTTP layer tells it: ``[HTTP] [Config] text (400)``; to be raised."""
    return BadRequest(f"[Config] {error}")


#: What became of one element of an array: its resource (None where there is none to tell), or its error.
Result = dict[str, Any]


def fine(response: Any = None) -> Result:
    """An element that was done; ``response`` None tells no resource."""
    told: Result = {"message": "OK", "statusCode": 200}
    if response is not None:
        told["response"] = response
    return told


def refused(error: KilnError) -> Result:
    """An element that was not: the raw text, without the HTTP layer's."""
    text = f"[Config] {error}" if isinstance(error, ConfigError) else str(error)
    return {"message": text, "statusCode": error.status}


def multi_status(results: Iterable[Result]) -> Answer:
    """The answer to an array: one result an element; the status that all share, else 207 (catalogue 2.8)."""
    told = list(results)
    statuses = {each["statusCode"] for each in told}
    status = statuses.pop() if len(statuses) == 1 else 207 if statuses else 200
    return Answer(status, encode(told))
