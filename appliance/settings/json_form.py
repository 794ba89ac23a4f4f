"""Settings in JSON: VirtualHost, Application and OutputProfile as the API takes and answers them (catalogue 4)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from appliance.errors import ConfigError
from appliance.settings.binder import Binder, Where
from appliance.settings.macros import expand
from appliance.settings.schema import Node, Raw, lower_first

Model = TypeVar("Model", bound=Node)


class Loaded(msgspec.Struct, Generic[Model], frozen=True):
    """``model`` has the typed values, ``raw`` what was sent, to be echoed: no defaults, no nulls, plain lists."""

    model: Model
    raw: Raw


class _FirstFault:
    def fault(self, where: Where, path: str, error: ConfigError) -> NoReturn:
        raise error

    def warning(self, where: Where, path: str, message: str) -> None:
        """JSON is read strictly: nothing is doubtful."""


def load_json(model: type[Model], value: Any, *, environment: Mapping[str, str] | None = None) -> Loaded[Model]:
    """Read one object of the API.

    ``${env:…}`` takes from ``environment`` (the process's own when None); no variable ``KILN_…`` is to be had so.
    Raises ConfigError for the first fault, with the text that follows ``[Config] `` in an answer.
    """
    outside = os.environ if environment is None else environment

    def expanded(text: str, where: Where) -> str:
        if "${env:" not in text and "${ome:" not in text:
            return text
        public = {name: value for name, value in outside.items() if not name.startswith("KILN_")}
        return expand(text, public, {})

    binder = Binder(_FirstFault(), expanded, text=False)
    built, raw = binder.section(model, value if isinstance(value, dict) else {}, _root(model), ())
    return Loaded(built, raw)


def merge_patch(current: Raw, patch: Mapping[str, Any]) -> Raw:
    """``current`` with ``patch`` merged in (catalogue 1.3): objects key by key, all else replaced, null removes."""
    merged = dict(current)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge_patch(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _root(model: type[Node]) -> str:
    return lower_first(model.__name__)
