"""The configuration as one document: read from JSON or XML with every fault, and turned so that JSON reads it alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import ConfigError, KilnError
from appliance.settings import models
from appliance.settings.binder import Binder, Where
from appliance.settings.clashes import server_faults
from appliance.settings.convert import from_json, from_text
from appliance.settings.macros import expand
from appliance.settings.schema import Field, Kind, Node, Raw, fields_of
from appliance.settings.xml import VERSIONS, Fault, load_xml
from appliance.settings.xml_edit import Element, scan, value_plain

HIDDEN = "***"
"""What stands for a secret in a document that was given to somebody who may not see it."""
_TYPED = (Kind.BOOLEAN, Kind.FLAG, Kind.INTEGER, Kind.NUMBER, Kind.BITRATE)


class ConfigFaults(KilnError):
    """All that is wrong with a document. The message has a line each."""

    status = 400

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) if fault.file else f"{fault.message}" for fault in faults))
        self.faults = faults


class Difference(msgspec.Struct, frozen=True):
    """One setting that two documents have otherwise; None where it isn't written. ``path`` as in
    ``virtualHosts[default].applications[app].type``."""

    path: str
    before: Any
    after: Any


def portable(model: type[Node], raw: Raw) -> Raw:
    """``raw`` as read from XML, so that the stricter JSON form reads the same in it: ``1`` for true becomes true."""
    made: Raw = {}
    fields = {field.json: field for field in fields_of(model)}
    for key, value in raw.items():
        made[key] = _portable(fields[key], value) if key in fields else value
    return made


def _portable(field: Field, value: Any) -> Any:
    if field.many:
        if isinstance(value, dict):
            return {field.item_json: [_portable_item(field, item) for item in value.get(field.item_json, [])]}
        return [_portable_item(field, item) for item in value]
    return _portable_item(field, value)


def _portable_item(field: Field, value: Any) -> Any:
    if field.section:
        return portable(field.section, value)
    if field.kind not in _TYPED or not isinstance(value, str) or "${" in value:
        return value
    meant, _ = from_text(field.kind, value)
    try:
        return value if from_json(field.kind, value, "") == meant else meant
    except ConfigError:
        return meant


def read_json(value: Any, folder: Path, *, known: Raw) -> Raw:
    """A whole document as JSON. Raises ConfigFaults with every fault.

    ``folder`` is that of the Server.xml, ``known`` the document that it is to replace: only what stands in that may
    take from environment variables that begin with KILN_.
    """
    if not isinstance(value, dict):
        raise ConfigFaults([Fault("server", "", 0, "The configuration must be an object")])
    report = _Collected()
    allowed = frozenset(_macros(known))
    here = {"Home": str(folder), "CurrentPath": str(folder)}

    def expanded(text: str, where: Where) -> str:
        return expand(text, _visible(text, allowed), here)

    version = value.get("version")
    if str(version) not in VERSIONS:
        report.add("server.version", f"Unsupported version: [{version}]", "Versions 8, 9 and 10 are read.")
        value = {**value, "version": VERSIONS[-1]}
    built, raw = _DocumentBinder(report, expanded, text=False).section(models.Server, value, "server", ())
    if not isinstance(value.get("virtualHosts", []), list):
        report.add("server.virtualHosts", "server.virtualHosts must be an array")
    if not report.faults:
        for _, path, error in server_faults(built):
            report.add(path, str(error), error.hint)
    for path in _hidden(raw, "server"):
        report.add(path, f"{path} is hidden ({HIDDEN}): write the secret itself")
    if report.faults:
        raise ConfigFaults(report.faults)
    return raw


def read_xml(data: bytes, path: Path, *, known: Raw) -> Raw:
    """A whole document as XML, which will stand in ``path``. Raises ConfigFaults; lines are those of ``data``."""
    try:
        included = [element.tag for element in _all(scan(data)) if "include" in element.attributes]
    except ConfigError:
        included = []
    if included:
        message = f"{included[0]}: include= can't stand in a document that is sent to the box"
        raise ConfigFaults([Fault(included[0], "", 0, message)])
    loaded = load_xml(path, data=data)
    faults = [msgspec.structs.replace(fault, file="the document") for fault in loaded.faults]
    allowed = frozenset(_macros(known))
    faults += [
        Fault("Server", "", 0, f"No variable KILN_… is to be had in a document: [{text[:128]}]")
        for text in _macros(loaded.raw) if "${env:KILN_" in text and text not in allowed
    ]  # fmt: skip
    faults += [
        Fault(name, "", 0, f"{name} is hidden ({HIDDEN}): write the secret itself")
        for name in _hidden(loaded.raw, "Server")
    ]
    if faults:
        raise ConfigFaults(faults)
    return portable(models.Server, loaded.raw)


def differences(before: Raw, after: Raw, model: type[Node] = models.Server, path: str = "") -> Iterator[Difference]:
    """What is not the same in the two, setting by setting."""
    for field in fields_of(model):
        old, new = before.get(field.json), after.get(field.json)
        if value_plain(field, old) == value_plain(field, new):
            continue
        where = f"{path}.{field.json}" if path else field.json
        if field.section and old is not None and new is not None:
            if field.many:
                yield from _list_differences(field, old, new, where)
            else:
                yield from differences(old, new, field.section, where)
        else:
            yield Difference(where, old, new)


def _list_differences(field: Field, old: Any, new: Any, path: str) -> Iterator[Difference]:
    assert field.section is not None
    before, after = _by_name(field, old), _by_name(field, new)
    for name in dict.fromkeys([*before, *after]):
        where = f"{path}[{name}]"
        if name in before and name in after:
            yield from differences(before[name], after[name], field.section, where)
        else:
            yield Difference(where, before.get(name), after.get(name))
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield Difference(f"{path} (order)", list(before), list(after))


def _by_name(field: Field, value: Any) -> dict[str, Any]:
    items = value.get(field.item_json, []) if isinstance(value, dict) else value
    named = [str(item.get("name", index)) for index, item in enumerate(items)]
    if len(set(named)) < len(named):
        named = [str(index) for index in range(len(items))]
    return dict(zip(named, items, strict=True))


class _Collected:
    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def add(self, path: str, message: str, hint: str = "") -> None:
        self.faults.append(Fault(path, "", 0, message, hint))

    def fault(self, where: Where, path: str, error: ConfigError) -> None:
        self.add(path, str(error), error.hint)

    def warning(self, where: Where, path: str, message: str) -> None:
        """JSON is read strictly: nothing is doubtful."""


class _DocumentBinder(Binder):
    """As the API's objects are read; only here the root has an attribute, ``version``."""

    def _refuse_unknown(self, model: type[Node], raw: Mapping[str, Any], path: str, where: Where) -> None:
        attributes = {field.json for field in fields_of(model) if field.attribute}
        super()._refuse_unknown(model, {key: raw[key] for key in raw if key not in attributes}, path, where)


def _visible(text: str, allowed: frozenset[str]) -> Mapping[str, str]:
    if text in allowed:
        return os.environ
    return {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}


def _macros(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for below in value.values():
            yield from _macros(below)
    elif isinstance(value, list):
        for item in value:
            yield from _macros(item)
    elif isinstance(value, str) and "${env:" in value:
        yield value


def _hidden(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _hidden(below, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _hidden(item, f"{path}[{index}]")
    elif value == HIDDEN:
        yield path


def _all(element: Element) -> Iterator[Element]:
    yield element
    for child in element.children:
        yield from _all(child)
