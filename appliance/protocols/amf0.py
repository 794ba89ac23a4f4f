"""AMF0, the values inside RTMP commands and FLV script data (Adobe AMF0 specification, sections 2 and 3).

| AMF0                | Python                                   |
| ------------------- | ---------------------------------------- |
| number              | float (int is accepted when encoding)    |
| boolean             | bool                                     |
| string, long string | str                                      |
| object              | dict                                     |
| ECMA array          | EcmaArray (a dict)                       |
| typed object        | TypedObject (a dict with a class name)   |
| strict array        | list                                     |
| null                | None                                     |
| undefined           | UNDEFINED                                |
| unsupported         | UNSUPPORTED                              |
| date                | Date                                     |
| XML document        | XmlDocument (a str)                      |
| reference           | the object that it refers to             |
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final

import msgspec

from appliance.errors import RemoteProtocolError

#: How deep objects may lie in each other, and how many values one sequence may hold in all.
MAX_DEPTH = 16
MAX_VALUES = 4096


class Marker(Enum):
    """Values that AMF0 has and Python lacks."""

    UNDEFINED = "undefined"
    UNSUPPORTED = "unsupported"


UNDEFINED: Final = Marker.UNDEFINED
UNSUPPORTED: Final = Marker.UNSUPPORTED


class Date(msgspec.Struct, frozen=True):
    """``milliseconds`` since 1970 in UTC; ``zone`` is reserved and should be 0 (section 2.13)."""

    milliseconds: float
    zone: int = 0


class XmlDocument(str):
    """The text of an XML document (section 2.17)."""

    __slots__ = ()


class EcmaArray(dict[str, object]):
    """An associative array (section 2.10); on the wire it says its length, which nobody may rely on."""


class TypedObject(dict[str, object]):
    """An object with a registered class name (section 2.18)."""

    def __init__(self, class_name: str, members: Mapping[str, object] | None = None) -> None:
        super().__init__(members or {})
        self.class_name = class_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypedObject) and self.class_name == other.class_name and dict.__eq__(self, other)

    __hash__ = None


_DOUBLE = struct.Struct(">d")
_DATE = struct.Struct(">dh")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_OBJECT_END = b"\x00\x00\x09"


def decode(data: bytes) -> list[object]:
    """All values of ``data`` in order. Raises RemoteProtocolError, and nothing else, on anything that is not AMF0."""
    decoder = _Decoder(data)
    values = []
    while decoder.position < len(data):
        values.append(decoder.value(0))
    return values


def decode_prefix(data: bytes, count: int) -> tuple[list[object], int]:
    """At most ``count`` values from the start of ``data``, and where the next one begins."""
    decoder = _Decoder(data)
    values: list[object] = []
    while len(values) < count and decoder.position < len(data):
        values.append(decoder.value(0))
    return values, decoder.position


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self._budget = MAX_VALUES
        # None stands for an object that is not complete yet: a reference to it would make a circle.
        self._objects: list[object] = []

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise RemoteProtocolError(f"AMF0 nested deeper than {MAX_DEPTH}")
        self._budget -= 1
        if self._budget < 0:
            raise RemoteProtocolError(f"AMF0 with more than {MAX_VALUES} values")
        marker = self._take(1)[0]
        read = _READERS.get(marker)
        if read is None:
            reason = "a switch to AMF3, which is not understood here" if marker == 0x11 else "an unknown type"
            raise RemoteProtocolError(f"AMF0 marker 0x{marker:02x}: {reason}")
        return read(self, depth)

    def _take(self, count: int) -> bytes:
        start = self.position
        end = start + count
        if end > len(self.data):
            raise RemoteProtocolError("AMF0 ends inside a value")
        self.position = end
        return self.data[start:end]

    def _number(self, _: int) -> float:
        value: float = _DOUBLE.unpack(self._take(8))[0]
        return value

    def _boolean(self, _: int) -> bool:
        return self._take(1) != b"\x00"

    def _text(self) -> str:
        return self._take(_U16.unpack(self._take(2))[0]).decode("utf-8", "replace")

    def _long_text(self) -> str:
        return self._take(_U32.unpack(self._take(4))[0]).decode("utf-8", "replace")

    def _string(self, _: int) -> str:
        return self._text()

    def _long_string(self, _: int) -> str:
        return self._long_text()

    def _xml(self, _: int) -> XmlDocument:
        return XmlDocument(self._long_text())

    def _null(self, _: int) -> None:
        return None

    def _undefined(self, _: int) -> Marker:
        return UNDEFINED

    def _unsupported(self, _: int) -> Marker:
        return UNSUPPORTED

    def _date(self, _: int) -> Date:
        milliseconds, zone = _DATE.unpack(self._take(10))
        return Date(milliseconds, zone)

    def _members(self, into: dict[str, object], depth: int) -> dict[str, object]:
        slot = len(self._objects)
        self._objects.append(None)
        while True:
            key = self._text()
            if not key and self.data[self.position : self.position + 1] == b"\x09":
                self.position += 1
                break
            into[key] = self.value(depth + 1)
        self._objects[slot] = into
        return into

    def _object(self, depth: int) -> dict[str, object]:
        return self._members({}, depth)

    def _ecma_array(self, depth: int) -> dict[str, object]:
        # The count is only a hint, and encoders are known to write a wrong one: the end marker tells.
        self._take(4)
        return self._members(EcmaArray(), depth)

    def _typed_object(self, depth: int) -> dict[str, object]:
        return self._members(TypedObject(self._text()), depth)

    def _strict_array(self, depth: int) -> list[object]:
        count = _U32.unpack(self._take(4))[0]
        if count > self._budget:
            raise RemoteProtocolError(f"AMF0 array of {count} values")
        slot = len(self._objects)
        self._objects.append(None)
        values = [self.value(depth + 1) for _ in range(count)]
        self._objects[slot] = values
        return values

    def _reference(self, _: int) -> object:
        index = _U16.unpack(self._take(2))[0]
        target = self._objects[index] if index < len(self._objects) else None
        if target is None:
            raise RemoteProtocolError(f"AMF0 reference to object {index}, which is not there")
        return target


_READERS: dict[int, Callable[[_Decoder, int], object]] = {
    0x00: _Decoder._number,
    0x01: _Decoder._boolean,
    0x02: _Decoder._string,
    0x03: _Decoder._object,
    0x05: _Decoder._null,
    0x06: _Decoder._undefined,
    0x07: _Decoder._reference,
    0x08: _Decoder._ecma_array,
    0x0A: _Decoder._strict_array,
    0x0B: _Decoder._date,
    0x0C: _Decoder._long_string,
    0x0D: _Decoder._unsupported,
    0x0F: _Decoder._xml,
    0x10: _Decoder._typed_object,
}


def encode(*values: object) -> bytes:
    """``values`` one after the other.

    Raises TypeError for what AMF0 has no word for, ValueError for a key over 65535 bytes or too deep a value.
    """
    out = bytearray()
    for value in values:
        _write(out, value, 0)
    return bytes(out)


def _write(out: bytearray, value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"AMF0 nested deeper than {MAX_DEPTH}")
    match value:
        case bool():
            out += b"\x01\x01" if value else b"\x01\x00"
        case int() | float():
            out += b"\x00" + _DOUBLE.pack(value)
        case XmlDocument():
            text = value.encode("utf-8", "surrogatepass")
            out += b"\x0f" + _U32.pack(len(text)) + text
        case str():
            _write_string(out, value)
        case None:
            out.append(0x05)
        case Marker():
            out.append(0x06 if value is UNDEFINED else 0x0D)
        case Date():
            out += b"\x0b" + _DATE.pack(value.milliseconds, value.zone)
        case dict():
            _write_members(out, value, depth)
        case list() | tuple():
            _write_array(out, value, depth)
        case _:
            raise TypeError(f"AMF0 has no form for {type(value).__name__}")


def _write_string(out: bytearray, value: str) -> None:
    text = value.encode("utf-8", "surrogatepass")
    if len(text) <= 0xFFFF:
        out += b"\x02" + _U16.pack(len(text)) + text
    else:
        out += b"\x0c" + _U32.pack(len(text)) + text


def _write_members(out: bytearray, value: Mapping[str, object], depth: int) -> None:
    if isinstance(value, TypedObject):
        out.append(0x10)
        _write_key(out, value.class_name)
    elif isinstance(value, EcmaArray):
        out += b"\x08" + _U32.pack(len(value))
    else:
        out.append(0x03)
    for key, member in value.items():
        _write_key(out, key)
        _write(out, member, depth + 1)
    out += _OBJECT_END


def _write_array(out: bytearray, values: Iterable[object], depth: int) -> None:
    members = list(values)
    out += b"\x0a" + _U32.pack(len(members))
    for member in members:
        _write(out, member, depth + 1)


def _write_key(out: bytearray, key: str) -> None:
    text = key.encode("utf-8", "surrogatepass")
    if len(text) > 0xFFFF:
        raise ValueError("an AMF0 key holds at most 65535 bytes")
    out += _U16.pack(len(text)) + text
