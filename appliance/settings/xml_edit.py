"""A Server.xml with some of its settings changed: every other byte stays as it is, comments and all."""

from __future__ import annotations

import re
import xml.parsers.expat
from dataclasses import dataclass, field
from html import escape
from typing import Any

from appliance.errors import ConfigError, Forbidden
from appliance.settings import models
from appliance.settings.schema import Field, Kind, Node, Raw, fields_of

INDENT = "  "
_DECLARED = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


@dataclass(slots=True)
class Element:
    """Where an element stands in the bytes: ``start`` to ``end`` whole, ``inside`` to ``close`` what is in it."""

    tag: str
    attributes: dict[str, str]
    start: int
    inside: int = -1
    close: int = -1
    end: int = -1
    children: list[Element] = field(default_factory=list)

    @property
    def ignored(self) -> bool:
        return self.attributes.get("ignore", "").lower() == "true"


def scan(data: bytes) -> Element:
    """The root element of a well-formed document. Raises ConfigError."""
    parser = xml.parsers.expat.ParserCreate()
    roots: list[Element] = []
    stack: list[Element] = []

    def within() -> None:
        if stack and stack[-1].inside < 0:
            stack[-1].inside = parser.CurrentByteIndex

    def opened(tag: str, attributes: dict[str, str]) -> None:
        within()
        element = Element(tag, attributes, parser.CurrentByteIndex)
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def closed(tag: str) -> None:
        at = parser.CurrentByteIndex
        element = stack.pop()
        if element.inside < 0 and data[at - 2 : at] == b"/>":
            element.close, element.end = -1, at
            return
        element.inside = at if element.inside < 0 else element.inside
        element.close = at
        element.end = data.index(b">", at) + 1

    parser.StartElementHandler = opened
    parser.EndElementHandler = closed
    parser.DefaultHandler = lambda text: within()
    try:
        parser.Parse(data, True)
    except (xml.parsers.expat.ExpatError, ValueError) as error:
        raise ConfigError(f"Not well-formed: {error}") from error
    return roots[0]


def edited(data: bytes, before: Raw, after: Raw, *, inline: bool = False) -> bytes:
    """``data``, which says ``before``, so that it says ``after`` (both as ``LoadedServer.raw``).

    What stands in another file by ``include=`` is written in its place with ``inline``; without it a change of that
    raises Forbidden, for only one file is written. Raises ConfigError for what is no Server.xml in an encoding that
    holds ASCII as it is.
    """
    return _Editor(data, inline).run(before, after)


def rendered(raw: Raw) -> bytes:
    """A Server.xml that says ``raw``, without any comment."""
    version = escape(str(raw.get("version", "10")))
    body = _section(models.Server, raw, INDENT)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Server version="{version}">\n{body}</Server>\n'.encode()


def same(model: type[Node], before: Any, after: Any) -> bool:
    """Whether two trees say the same of one section: 8081 and "8081" do, and lists in either of their forms."""
    return bool(_plain(model, before) == _plain(model, after))


class _Editor:
    def __init__(self, data: bytes, inline: bool) -> None:
        declared = _DECLARED.match(data.removeprefix(b"\xef\xbb\xbf"))
        self._encoding = declared[1].decode() if declared else "utf-8"
        try:
            fits = "<Server>".encode(self._encoding) == b"<Server>"
        except LookupError:
            fits = False
        if not fits or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ConfigError(f"A file in {self._encoding} can't be changed here", hint="Store it as UTF-8.")
        self._data = data
        self._inline = inline
        self._splices: list[tuple[int, int, str | bytes]] = []

    def run(self, before: Raw, after: Raw) -> bytes:
        root = scan(self._data)
        self._sync(root, models.Server, before, after, "Server")
        pieces: list[bytes] = []
        at = 0
        for start, end, text in sorted(self._splices, key=lambda splice: splice[:2]):
            written = text if isinstance(text, bytes) else text.encode(self._encoding, "xmlcharrefreplace")
            pieces += self._data[at:start], written
            at = max(at, end)
        return b"".join([*pieces, self._data[at:]])

    def _sync(self, element: Element, model: type[Node], before: Raw, after: Raw, path: str) -> None:
        added: list[str] = []
        indent = self._indent_below(element)
        for each in fields_of(model):
            if each.attribute:
                continue
            name = each.container or each.xml
            found = [child for child in element.children if child.tag == name and not child.ignored]
            old, new = before.get(each.json), after.get(each.json)
            where = f"{path}.{name}"
            if each.many and not each.container:
                added += self._items(found, each, _items(each, old), _items(each, new), where, indent)
            elif found and "include" in found[0].attributes:
                self._included(found[0], each, old, new, where, indent)
            elif new is None:
                for child in found:
                    self._remove(child)
            elif not found:
                if old is None or value_plain(each, old) != value_plain(each, new):
                    added.append(_field(each, new, indent))
            else:
                self._change(found[0], each, old, new, where)
        if added:
            self._append(element, "".join(added), indent)

    def _change(self, element: Element, each: Field, old: Any, new: Any, path: str) -> None:
        if each.many:
            indent = self._indent_below(element)
            found = [child for child in element.children if child.tag == each.xml and not child.ignored]
            added = self._items(found, each, _items(each, old), _items(each, new), f"{path}.{each.xml}", indent)
            if added:
                self._append(element, "".join(added), indent)
        elif each.section:
            self._sync(element, each.section, old or {}, new, path)
        elif value_plain(each, old) != value_plain(each, new):
            if each.kind is Kind.FLAG:
                self._remove(element)  # it is true by being there
            else:
                self._set_text(element, each, new)

    def _items(
        self, found: list[Element], each: Field, old: list[Any], new: list[Any], path: str, indent: str
    ) -> list[str]:
        """Edits those that stay, removes those that go, and returns those that come."""
        if any("include" in element.attributes for element in found) or len(found) != len(old):
            if self._inline:
                for element in found:
                    self._remove(element)
                return [_item(each, item, indent) for item in new]
            if _list_plain(each, old) != _list_plain(each, new):
                raise _elsewhere(path)
            return []
        pairs = _paired(each, old, new)
        kept = [index for index in pairs if index is not None]
        if kept != sorted(kept):
            return self._reordered(found, each, old, new, pairs, indent)
        for index, element in enumerate(found):
            if index not in kept:
                self._remove(element)
        last = max((position for position, index in enumerate(pairs) if index is not None), default=-1)
        for position, origin in enumerate(pairs[: last + 1]):
            if origin is None:
                following = next(other for other in pairs[position:] if other is not None)
                at = found[following].start
                self._splices.append((at, at, _item(each, new[position], indent).lstrip() + indent))
            elif each.section:
                self._sync(found[origin], each.section, old[origin], new[position], path)
            elif _text(old[origin]) != _text(new[position]):
                self._set_text(found[origin], each, new[position])
        return [_item(each, item, indent) for item in new[last + 1 :]]

    def _reordered(
        self, found: list[Element], each: Field, old: list[Any], new: list[Any], pairs: list[int | None], indent: str
    ) -> list[str]:
        made = []
        for item, index in zip(new, pairs, strict=True):
            if index is not None and _list_plain(each, [old[index]]) == _list_plain(each, [item]):
                source = self._data[found[index].start : found[index].end].decode(self._encoding)
                made.append(f"{indent}{source}\n")
            else:
                made.append(_item(each, item, indent))
        for element in found:
            self._remove(element)
        return made

    def _included(self, element: Element, each: Field, old: Any, new: Any, path: str, indent: str) -> None:
        if self._inline:
            text = _field(each, new, indent).strip() if new is not None else ""
            self._splices.append((element.start, element.end, text))
        elif value_plain(each, old) != value_plain(each, new):
            raise _elsewhere(path)

    def _set_text(self, element: Element, each: Field, value: Any) -> None:
        if each.kind is Kind.OPAQUE and not isinstance(value, (str, int, float, bool)):
            indent = self._indent_of(element)
            self._splices.append((element.start, element.end, _field(each, value, indent).strip()))
        elif element.close < 0:
            self._splices.append((element.start, element.end, f"<{element.tag}>{_text(value)}</{element.tag}>"))
        else:
            self._splices.append((element.inside, element.close, _text(value)))

    def _append(self, element: Element, text: str, indent: str) -> None:
        if element.close < 0:
            head = self._data[element.start : element.end].decode(self._encoding).removesuffix("/>").rstrip()
            outer = indent.removesuffix(INDENT)
            self._splices.append((element.start, element.end, f"{head}>\n{text}{outer}</{element.tag}>"))
            return
        line = self._line_start(element.close)
        if line is not None and line >= element.inside:
            self._splices.append((line, line, text))
        else:
            outer = indent.removesuffix(INDENT)
            self._splices.append((element.close, element.close, f"\n{text}{outer}"))

    def _remove(self, element: Element) -> None:
        """With its line, where nothing else is on it."""
        line, end = self._line_start(element.start), self._data.find(b"\n", element.end)
        if line is not None and end >= 0 and not self._data[element.end : end].strip():
            self._splices.append((line, end + 1, ""))
        else:
            self._splices.append((element.start, element.end, ""))

    def _line_start(self, at: int) -> int | None:
        """The beginning of the line, when there is only space between it and ``at``."""
        start = self._data.rfind(b"\n", 0, at) + 1
        return start if not self._data[start:at].strip() else None

    def _indent_of(self, element: Element) -> str:
        start = self._data.rfind(b"\n", 0, element.start) + 1
        line = self._data[start : element.start]
        return line[: len(line) - len(line.lstrip())].decode("ascii", "replace")

    def _indent_below(self, element: Element) -> str:
        for child in element.children:
            if self._line_start(child.start) is not None:
                return self._indent_of(child)
        return self._indent_of(element) + INDENT


def _elsewhere(path: str) -> Forbidden:
    return Forbidden(f"{path} stands in a file of its own, by include=: change it there, and restart")


def _paired(each: Field, old: list[Any], new: list[Any]) -> list[int | None]:
    """For each new item the old one that it goes on from: of the same name, else of the same place."""
    if each.section is None or not any(inner.json == "name" for inner in fields_of(each.section)):
        return [index if index < len(old) else None for index in range(len(new))]
    names: dict[str, list[int]] = {}
    for index, item in enumerate(old):
        names.setdefault(_text(item.get("name", "")), []).append(index)
    made: list[int | None] = []
    for item in new:
        same_name = names.get(_text(item.get("name", "")), [])
        made.append(same_name.pop(0) if same_name else None)
    return made


# What is compared


def _items(each: Field, value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = value.get(each.item_json)
    return value if isinstance(value, list) else []


def _list_plain(each: Field, items: list[Any]) -> list[Any]:
    return [_plain(each.section, item) if each.section else _text(item) for item in items]


def value_plain(each: Field, value: Any) -> Any:
    """What is compared of a setting, whichever form it came in."""
    if value is None:
        return None
    if each.many:
        return _list_plain(each, _items(each, value))
    if each.section:
        return _plain(each.section, value)
    if each.kind is Kind.FLAG:
        return _text(value).strip().lower() != "false"
    return value if each.kind is Kind.OPAQUE else _text(value)


def _plain(model: type[Node], raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    return {each.json: value_plain(each, raw[each.json]) for each in fields_of(model) if each.json in raw}


# What is written


def _section(model: type[Node], raw: Raw, indent: str) -> str:
    return "".join(
        _field(each, raw[each.json], indent)
        for each in fields_of(model)
        if not each.attribute and raw.get(each.json) is not None
    )


def _field(each: Field, value: Any, indent: str) -> str:
    if not each.many:
        return _item(each, value, indent)
    items = _items(each, value)
    if not each.container:
        return "".join(_item(each, item, indent) for item in items)
    body = "".join(_item(each, item, indent + INDENT) for item in items)
    return f"{indent}<{each.container}>\n{body}{indent}</{each.container}>\n"


def _item(each: Field, value: Any, indent: str) -> str:
    if each.section:
        body = _section(each.section, value, indent + INDENT)
        return f"{indent}<{each.xml}>{f'{chr(10)}{body}{indent}' if body else ''}</{each.xml}>\n"
    if each.kind is Kind.FLAG and _text(value) == "false":
        return ""  # it is true by being there, whatever it says
    if each.kind is Kind.OPAQUE:
        return _opaque(each.xml, value, indent)
    return f"{indent}<{each.xml}>{_text(value)}</{each.xml}>\n"


def _opaque(tag: str, value: Any, indent: str) -> str:
    if isinstance(value, list):
        return "".join(_opaque(tag, item, indent) for item in value)
    if isinstance(value, dict):
        body = "".join(_opaque(key[:1].upper() + key[1:], item, indent + INDENT) for key, item in value.items())
        return f"{indent}<{tag}>\n{body}{indent}</{tag}>\n"
    return f"{indent}<{tag}>{_text(value)}</{tag}>\n"


def _text(value: Any) -> str:
    """As text between tags."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return escape(str(value).lower() if isinstance(value, bool) else str(value), quote=False)
