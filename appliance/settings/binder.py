"""From a tree of settings as they were written to the typed model: conversion, required settings, rules.

One binder serves both forms. What is wrong goes to ``Report``: the JSON form stops at the first, the XML form collects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from appliance.errors import ConfigError
from appliance.settings.convert import ZERO, from_json, from_text
from appliance.settings.rules import Broken, broken_rules
from appliance.settings.schema import Field, Kind, Node, Raw, by_json_name, fields_of

Where = tuple[str | int, ...]
"""The way from the root of the raw tree to a value: JSON names and indexes."""


_UNREADABLE: Any = object()


class Report(Protocol):
    """Told of everything that is wrong. ``path`` are the names for a reader; may raise."""

    def fault(self, where: Where, path: str, error: ConfigError) -> None: ...

    def warning(self, where: Where, path: str, message: str) -> None: ...


class Binder:
    """Builds models. With ``text``, values are texts from XML, read leniently, and paths have XML names."""

    def __init__(self, report: Report, expand: Callable[[str, Where], str], *, text: bool) -> None:
        self._report = report
        self._expand = expand
        self._text = text

    def section(self, model: type[Node], raw: Any, path: str, where: Where, *, enforce: bool = True) -> tuple[Any, Raw]:
        """The model of ``raw``, and a copy in canonical form: no nulls, plain lists.

        ``enforce`` False: required settings may be missing, as below an optional parent (catalogue 4.4).
        """
        raw = self._object(model, raw, path, where)
        self._refuse_unknown(model, raw, path, where)
        values: dict[str, Any] = {}
        echo: Raw = {}
        given: set[str] = set()
        for field in fields_of(model):
            value = raw.get(field.json)
            if value is None:
                if field.required:
                    values[field.attr] = self._missing(field, path, where, enforce)
                continue
            at = (*where, field.json)
            name = f"{path}.{self._name(field)}"
            given.add(field.attr)
            if field.deprecated:
                self._report.warning(at, name, f"{name} is of old: {field.deprecated}")
            if field.many:
                values[field.attr], echo[field.json] = self._list(field, value, name, at)
            elif field.section:
                below = enforce and field.required
                values[field.attr], echo[field.json] = self.section(field.section, value, name, at, enforce=below)
            else:
                echo[field.json] = value
                values[field.attr] = self._scalar(field, value, name, at)
                if values[field.attr] is _UNREADABLE:
                    given.remove(field.attr)
                    values[field.attr] = ZERO[field.kind] if field.required else field.default
        built = model(**values)
        for broken in broken_rules(built, frozenset(given)):
            at, name = self._lead(model, broken, where, path)
            self._report.fault(at, name, broken)
        return built, echo

    def _name(self, field: Field) -> str:
        return (field.container or field.xml) if self._text else field.json

    def _object(self, model: type[Node], raw: Any, path: str, where: Where) -> Raw:
        if isinstance(raw, dict):
            return raw
        message = f"{path} must be an object"
        if isinstance(raw, list):
            lists = [field.item_json for field in fields_of(model) if field.many]
            message = f"{lists[0]} is not an array" if lists else message
        self._report.fault(where, path, ConfigError(message))
        return {}

    def _refuse_unknown(self, model: type[Node], raw: Mapping[str, Any], path: str, where: Where) -> None:
        known = by_json_name(model)
        if self._text:
            return  # the reader of the XML knows the element names, and has said so
        for key in sorted(raw):
            if key not in known and key != "$":
                self._report.fault(where, path, ConfigError(f"Unknown item found: {path}.{key}"))

    def _missing(self, field: Field, path: str, where: Where, enforce: bool) -> Any:
        if enforce:
            error = ConfigError(f"{path}.{self._name(field)} is not optional")
            self._report.fault(where, path, error)
        if field.many:
            return ()
        if field.section:
            return self.section(field.section, {}, path, where, enforce=False)[0]
        return ZERO[field.kind]

    def _items(self, field: Field, value: Any, where: Where) -> tuple[list[Any] | None, Where]:
        """The list that ``value`` holds, whichever of its two forms it has (catalogue 4.2)."""
        inner = field.item_json
        if isinstance(value, dict) and field.container:
            unknown = sorted(key for key in value if key not in (inner, "$"))
            if unknown:
                raise ConfigError(f"Unknown item found: {field.json}.{unknown[0]}")
            value, where = value.get(inner, []), (*where, inner)
            if not isinstance(value, list):
                raise ConfigError(f"Child {inner} is not an array")
        elif field.nested:
            raise ConfigError(f"{inner} is not an array")
        return (value if isinstance(value, list) else None), where

    def _list(self, field: Field, value: Any, path: str, where: Where) -> tuple[tuple[Any, ...], Any]:
        try:
            items, where = self._items(field, value, where)
            if items is None:
                message = f"{path} must be an array" if field.container else f"Child {field.json} is not an array"
                raise ConfigError(message)
        except ConfigError as error:
            self._report.fault(where, path, error)
            return (), []
        built, echo = [], []
        below = self._item_path(field, path)
        for index, item in enumerate(items):
            at = (*where, index)
            if field.section:
                model, copy = self.section(field.section, item, below, at)
            else:
                model, copy = self._scalar(field, item, below, at), item
            echo.append(copy)
            if model is not _UNREADABLE:
                built.append(model)
        return tuple(built), {field.item_json: echo} if field.nested else echo

    def _item_path(self, field: Field, path: str) -> str:
        if self._text:
            return f"{path}.{field.xml}" if field.container else path
        return field.item_json

    def _scalar(self, field: Field, value: Any, path: str, where: Where) -> Any:
        if field.kind is Kind.OPAQUE:
            return value
        try:
            if isinstance(value, str):
                value = self._expand(value, where)
            if not self._text:
                return from_json(field.kind, value, path)
            converted, doubt = from_text(field.kind, value)
        except ConfigError as error:
            self._report.fault(where, path, error)
            return _UNREADABLE
        if doubt:
            self._report.warning(where, path, doubt)
        return converted

    def _lead(self, model: type[Node], broken: Broken, where: Where, path: str) -> tuple[Where, str]:
        """Where a broken rule points to, in the raw tree and for a reader."""
        current: type[Node] | None = model
        steps: Iterator[str | int] = iter(broken.at)
        for step in steps:
            if isinstance(step, int):
                where = (*where, step)
                continue
            field = next(field for field in fields_of(current or model) if field.attr == step)
            where = (*where, field.json, field.item_json) if field.nested else (*where, field.json)
            path, current = f"{path}.{self._name(field)}", field.section
            if field.many:
                path = self._item_path(field, path)
        return where, path
