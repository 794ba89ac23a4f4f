"""Server-sent events as they come over the wire (HTML 9.2.6): bytes in, events out."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """``id`` is what a later connection may go on from, "" when there is none."""

    name: str
    data: str
    id: str = ""


class EventParser:
    """The same events whatever pieces the bytes come in. Bytes that are not UTF-8 become U+FFFD.

    ``retry`` is the pause before another connection that the server asks for, in seconds (None: it said nothing).
    Raises ValueError for a line of more than ``longest`` characters.
    """

    def __init__(self, longest: int = 16 * 1024 * 1024) -> None:
        self.retry: float | None = None
        self.last_id = ""
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._rest: list[str] = []
        self._rest_size = 0
        self._longest = longest
        self._after_return = False
        self._name = ""
        self._data: list[str] = []

    def receive_data(self, data: bytes) -> Iterator[Event]:
        """The events that ``data`` completes."""
        text = self._decode(data)
        if self._after_return and text:
            text = text.removeprefix("\n")
            self._after_return = False
        self._after_return = text.endswith("\r") or (self._after_return and not text)
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines[:-1]:
            whole = "".join([*self._rest, line])
            self._rest, self._rest_size = [], 0
            event = self._line(whole)
            if event is not None:
                yield event
        self._rest.append(lines[-1])
        self._rest_size += len(lines[-1])
        if self._rest_size > self._longest:
            raise ValueError("an event that does not end")

    def _line(self, line: str) -> Event | None:
        if not line:
            event = Event(self._name or "message", "\n".join(self._data), self.last_id) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self.last_id = value
        elif field == "retry" and value.isascii() and value.isdecimal() and len(value) < 9:
            self.retry = int(value) / 1000
        return None


def merge(state: object, patch: object) -> object:
    """``state`` with a JSON merge patch applied (RFC 7386): how deltas change a snapshot. Changes dicts in place."""
    if not isinstance(patch, dict):
        return patch
    merged = state if isinstance(state, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
