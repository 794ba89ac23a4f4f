"""The body of a request: read with a bound, and read as JSON, strictly (catalogue 2.7, DECISIONS).

No comments, nothing behind the value, no key twice, no number that does not fit, no broken text. An empty body is null.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from appliance.errors import BadRequest, KilnError
from appliance.net.asgi import ClientDisconnected, Receive

#: Bytes of a JSON body.
LARGEST = 1024 * 1024
DEEPEST = 64
#: Values and keys take time on the loop that all requests share.
MOST_VALUES = 50_000

_SHORT_OF_NUMBERS = 2**63
_TEXTS = {
    "Expecting value": "Syntax error: value, object or array expected.",
    "Expecting property name enclosed in double quotes": "Missing '}' or object member name",
    "Illegal trailing comma before end of object": "Missing '}' or object member name",
    "Illegal trailing comma before end of array": "Syntax error: value, object or array expected.",
    "Expecting ':' delimiter": "Missing ':' after object member name",
    "Expecting ',' delimiter": "Missing ',' or the end of the array or object",
    "Extra data": "Extra non-whitespace after JSON value.",
}


class TooLarge(KilnError):
    """A body with more bytes than the route takes."""

    status = 413


class _Refused(ValueError):
    """A value that is JSON and not taken."""


async def read_body(receive: Receive, limit: int = LARGEST) -> bytes:
    """All of the body, however it is transferred. Raises TooLarge, and ClientDisconnected when the client left."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("left before the end of its request")
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise TooLarge(f"Request body is larger than {limit} bytes")
        if piece:
            pieces.append(bytes(piece))
        if not message.get("more_body", False):
            return b"".join(pieces)


def parse_json(body: bytes) -> Any:
    """The value of ``body``, None when it is empty. Raises BadRequest with line and column (both from 1)."""
    if not body:
        return None
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _at(body[: error.start].decode("utf-8"), "Not UTF-8") from None
    if body.count(b"{") + body.count(b"[") + body.count(b",") > MOST_VALUES:
        raise _at("", f"More than {MOST_VALUES} values")
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise _at(text[: error.pos], _TEXTS.get(error.msg, error.msg)) from None
    except UnicodeEncodeError:
        raise _at("", "Half of a surrogate pair") from None
    except _Refused as error:
        raise _at("", str(error)) from None
    except RecursionError:
        raise _too_deep() from None
    if body.count(b"{") + body.count(b"[") > DEEPEST and _depth_exceeds(value, DEEPEST):
        raise _too_deep()
    return value


def _at(before: str, text: str) -> BadRequest:
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return BadRequest(f"[JSON] * Line {line}, Column {column}\n  {text}\n")


def _too_deep() -> BadRequest:
    return _at("", f"Nested more than {DEEPEST} deep")


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        below = [each for one in level for each in (one.values() if isinstance(one, dict) else one)]
        level = [each for each in below if isinstance(each, (dict, list))]
        if not level:
            return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"Duplicate key: '{key[:128]}'")
            seen.add(key)
    return made


def _integer(text: str) -> int:
    value = int(text) if len(text) <= 20 else _SHORT_OF_NUMBERS
    if not -_SHORT_OF_NUMBERS <= value < _SHORT_OF_NUMBERS:
        raise _Refused(f"Number out of range: {text[:24]}")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"Number out of range: {text[:24]}")
    return value


def _constant(text: str) -> NoReturn:
    raise _Refused(f"Not a JSON value: {text}")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant, strict=True
)
