"""How a typed model says its own XML and JSON names, so that one model serves both (catalogue section 4).

A setting's XML name is its attribute in CamelCase and its JSON name the XML name with the first letter lower-cased;
``Annotated`` markers say what differs. A field without a default is required where its parent is (catalogue 4.4).
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from functools import cache
from typing import Annotated, Any

import msgspec

Raw = dict[str, Any]
"""A tree of settings as they were written: JSON names; texts from XML, JSON values from JSON; nothing defaulted."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One element of Server.xml, one object of JSON. Immutable; attributes that were not given hold their default."""


class Kind(enum.Enum):
    """How the text of a single setting is read."""

    TEXT = "text"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    BITRATE = "a bitrate in bit/s, or a text such as 2M or 128K"
    PORT = "a port, or a text such as 1935/tcp"
    PORTS = "a port, or a text such as 4000-4001,4004/udp"
    FLAG = "true or false, or an empty element, which is true"
    OPAQUE = "anything"
    SECTION = "an object"


class Named(msgspec.Struct, frozen=True):
    """Names that don't follow from the attribute; ``json`` "" is ``xml`` with a small first letter."""

    xml: str
    json: str = ""


class Listed(msgspec.Struct, frozen=True):
    """A repeated element ``item``; inside an element ``container`` where that isn't "".

    JSON: ``json`` holds the plain array, or with ``nested`` an object ``{<item>: [...]}``.
    """

    item: str
    container: str = ""
    json: str = ""
    nested: bool = False


class Attribute(msgspec.Struct, frozen=True):
    """The setting is an attribute of its element, not an element."""


class Deprecated(msgspec.Struct, frozen=True):
    """Still read; ``instead`` says what to write now."""

    instead: str


Bitrate = Annotated[int, Kind.BITRATE]
"""bit/s. In text the suffix K is times 1024, M times 1048576."""
Port = Annotated[int, Kind.PORT]
"""One port, 0 to 65535; 0 lets the kernel choose."""
Ports = Annotated[str, Kind.PORTS]
"""Ports, ranges and lists, as written; ``appliance.settings.ports.parse_ports`` reads them."""
Flag = Annotated[bool, Kind.FLAG]
"""True by being there."""
Opaque = Annotated[Any, Kind.OPAQUE]
"""Accepted, echoed, never read."""


class Field(msgspec.Struct, frozen=True):
    """One setting of a model. ``section`` is its Node class, None for a single value; ``many`` is a tuple of them.

    ``deprecated`` says what to write instead, "" for what is current.
    """

    attr: str
    owner: type[Node]
    xml: str
    json: str
    kind: Kind
    section: type[Node] | None
    many: bool
    container: str
    nested: bool
    attribute: bool
    deprecated: str
    optional: bool
    required: bool
    default: Any

    @property
    def item_json(self) -> str:
        """The JSON name of one item: errors inside list items start with it."""
        return lower_first(self.xml) if self.container or self.nested else self.json


_KINDS = {str: Kind.TEXT, int: Kind.INTEGER, float: Kind.NUMBER, bool: Kind.BOOLEAN, Any: Kind.OPAQUE}


def lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]


def camel_case(attr: str) -> str:
    return "".join(word.capitalize() for word in attr.split("_"))


@cache
def fields_of(model: type[Node]) -> tuple[Field, ...]:
    """The settings of a model, in the order in which they are read."""
    return tuple(_field(model, info) for info in msgspec.structs.fields(model))


@cache
def by_json_name(model: type[Node]) -> dict[str, Field]:
    return {field.json: field for field in fields_of(model) if not field.attribute}


def _owner(model: type[Node], attr: str) -> type[Node]:
    return next(base for base in model.__mro__ if attr in inspect.get_annotations(base))


def _field(model: type[Node], info: msgspec.structs.FieldInfo) -> Field:
    plain, marks = _unwrap(info.type)
    optional = False
    if typing.get_origin(plain) in (types.UnionType, typing.Union):
        inner = [arg for arg in typing.get_args(plain) if arg is not type(None)]
        plain, more = _unwrap(inner[0])
        marks, optional = marks + more, True
    many = typing.get_origin(plain) is tuple
    if many:
        plain, more = _unwrap(typing.get_args(plain)[0])
        marks += more
    kind = next((mark for mark in marks if isinstance(mark, Kind)), None)
    named = next((mark for mark in marks if isinstance(mark, Named)), Named(camel_case(info.name)))
    listed = next((mark for mark in marks if isinstance(mark, Listed)), Listed(named.xml))
    section = plain if isinstance(plain, type) and issubclass(plain, Node) else None
    required = info.default is msgspec.NODEFAULT and info.default_factory is msgspec.NODEFAULT
    xml = listed.item if many else named.xml
    return Field(
        attr=info.name,
        owner=_owner(model, info.name),
        xml=xml,
        json=(listed.json or lower_first(listed.container or xml)) if many else named.json or lower_first(xml),
        kind=kind or (Kind.SECTION if section else _KINDS[plain]),
        section=section,
        many=many,
        container=listed.container,
        nested=listed.nested,
        deprecated=next((mark.instead for mark in marks if isinstance(mark, Deprecated)), ""),
        attribute=any(isinstance(mark, Attribute) for mark in marks),
        optional=optional,
        required=required,
        default=None if required else info.default,
    )


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    if typing.get_origin(annotation) is Annotated:
        return annotation.__origin__, annotation.__metadata__
    return annotation, ()
