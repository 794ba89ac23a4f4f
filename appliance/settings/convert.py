"""The value of one setting: from JSON strictly, from the text of an XML element leniently (catalogue 4.3)."""

from __future__ import annotations

import math
import re
from typing import Any

from appliance.errors import ConfigError
from appliance.settings.ports import parse_port
from appliance.settings.schema import Kind

ZERO: dict[Kind, Any] = {
    Kind.TEXT: "",
    Kind.INTEGER: 0,
    Kind.NUMBER: 0.0,
    Kind.BOOLEAN: False,
    Kind.BITRATE: 0,
    Kind.PORT: 0,
    Kind.PORTS: "",
    Kind.FLAG: False,
    Kind.OPAQUE: None,
}
"""What stands in a model for a value that could not be read; such a model is never used."""

_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,15})")
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(?:[eE][+-]?[0-9]{1,2})?)")
_SUFFIX = re.compile(r"\s*([kKmM])\s*")
_FACTORS = {"k": 1024, "m": 1048576}
_LARGEST = 2**53


def from_text(kind: Kind, text: str) -> tuple[Any, str]:
    """The value of an element's text, and "" or what is doubtful about it. Raises ConfigError for ports alone."""
    match kind:
        case Kind.TEXT | Kind.PORTS:
            return text, ""
        case Kind.PORT:
            return parse_port(text), ""
        case Kind.FLAG:
            return True, ""
        case Kind.BOOLEAN:
            return _boolean(text)
        case _:
            value, rest = _prefix(kind, text)
            return value, f"[{text}] is not {kind.value}: {value} is taken" if rest else ""


def from_json(kind: Kind, value: Any, path: str) -> Any:
    """The value of a JSON scalar. A text is taken for a number or a boolean only when it is exactly one, because values
    from Server.xml are answered as texts and may be sent back so. Raises ConfigError."""
    match kind:
        case Kind.TEXT if isinstance(value, str):
            return value
        case Kind.PORTS if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)
        case Kind.PORT if isinstance(value, (str, int)) and not isinstance(value, bool):
            return parse_port(value)
        case Kind.BITRATE if isinstance(value, str):
            return _prefix(kind, value)[0]
        case Kind.BOOLEAN | Kind.FLAG if isinstance(value, bool):
            return value
        case Kind.BOOLEAN | Kind.FLAG if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        case Kind.INTEGER | Kind.NUMBER | Kind.BITRATE:
            return _json_number(kind, value, path)
    raise _wrong(kind, path)


def _json_number(kind: Kind, value: Any, path: str) -> int | float:
    if isinstance(value, str):
        value, rest = _prefix(kind, value)
        if rest:
            raise _wrong(kind, path)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(kind, path)
    if abs(value) > _LARGEST:
        raise ConfigError(f"{path} is too large")
    if kind is Kind.NUMBER:
        return float(value)
    if int(value) != value:
        raise _wrong(kind, path)
    return int(value)


def _prefix(kind: Kind, text: str) -> tuple[int | float, str]:
    """The number that ``text`` starts with (0 without one), and the text that is left over."""
    if kind is Kind.INTEGER:
        match = _INTEGER.match(text)
        return (int(match[1]), text[match.end() :].strip()) if match else (0, text or "nothing")
    match = _NUMBER.match(text)
    if not match:
        return (0 if kind is Kind.BITRATE else 0.0), text or "nothing"
    number, rest = float(match[1]), text[match.end() :]
    if kind is Kind.NUMBER:
        return number, rest.strip()
    suffix = _SUFFIX.fullmatch(rest)
    return int(number * _FACTORS[suffix[1].lower()] if suffix else number), "" if suffix else rest.strip()


def _boolean(text: str) -> tuple[bool, str]:
    word = text.strip().lower()
    if word in ("true", "false"):
        return word == "true", ""
    value = bool(_prefix(Kind.NUMBER, word)[0])
    return value, "" if word in ("0", "1") else f"[{text}] is not true or false: {str(value).lower()} is taken"


def _wrong(kind: Kind, path: str) -> ConfigError:
    return ConfigError(f"{path} must be {'a text' if kind is Kind.TEXT else kind.value}")
