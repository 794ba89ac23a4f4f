"""Reading the members of a JSON object: absent and null are the same, a wrong type is a 400 that says so."""

from __future__ import annotations

from typing import Any

from appliance.errors import BadRequest


class Fields:
    """``body`` None is an empty object; ``path`` is how its members are spoken of (``stream.``). Raises BadRequest."""

    __slots__ = ("_body", "_path")

    def __init__(self, body: Any, path: str = "") -> None:
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise BadRequest(f"[{path[:-1]}] must be an object" if path else "Request body must be an object")
        self._body: dict[str, Any] = body
        self._path = path

    def __contains__(self, key: str) -> bool:
        return self._body.get(key) is not None

    def raw(self, key: str) -> Any:
        return self._body.get(key)

    def text(self, key: str, default: str = "") -> str:
        value = self._body.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def integer(self, key: str, default: int = 0, *, low: int = -(2**63), high: int = 2**63 - 1) -> int:
        value = self._body.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "an integer")
        if not low <= value <= high:
            raise BadRequest(f"[{self._path}{key}] must be between {low} and {high}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._body.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._body.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(key, "an array of strings")
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        value = self._body.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            raise self._wrong(key, "an array of integers")
        return tuple(value)

    def fields(self, key: str) -> Fields:
        """An object within; empty when it is absent."""
        return Fields(self._body.get(key), f"{self._path}{key}.")

    def _wrong(self, key: str, wanted: str) -> BadRequest:
        return BadRequest(f"[{self._path}{key}] must be {wanted}")


def check_id(value: str) -> str:
    """An id of a task: 1 to 128 characters, none of them a control character or a slash. Raises BadRequest."""
    if len(value) > 128 or "/" in value or "\\" in value or value in (".", "..") or not value.isprintable():
        raise BadRequest(f"Invalid id: [{value[:128]}]")
    return value
