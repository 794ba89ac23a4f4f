"""HTTP/2 field lists: requests and responses as HPACK (RFC 7541).

Both do once for each different field what h2 and hpack do for every request: browsers and players repeat themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hpack.hpack import Decoder, decode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable, table_entry_size

from appliance.net.request_fields import LONGEST_KNOWN, MOST_KNOWN, Field

_LONGEST_INTEGER = 16


class RequestDecoder(Decoder):
    """``hpack.Decoder`` with its limits and errors; strings that many clients send are decoded once for all."""

    def decode(self, data: bytes, raw: bool = True) -> list[Field]:  # type: ignore[override]
        """The fields of a whole block, as bytes whatever ``raw`` says. Raises HPACKError, or IndexError at its end."""
        fields: list[Field] = []
        table = self.header_table
        size = at = 0
        while at < len(data):
            first = data[at]
            if first & 0x80:  # Section 6.1
                index, at = _read_integer(data, at, 7)
                field = table.get_by_index(index)
            elif first & 0x60 == 0x20:  # Section 6.3
                if fields:
                    raise HPACKDecodingError("a table size update behind a field")
                at += self._update_encoding_context(data[at : at + _LONGEST_INTEGER])
                continue
            else:  # Section 6.2
                indexing = first & 0x40
                index, at = _read_integer(data, at, 6 if indexing else 4)
                if index:
                    name = table.get_by_index(index)[0]
                else:
                    name, at = _read_string(data, at)
                value, at = _read_string(data, at)
                field = (name, value)
                if indexing:
                    table.add(name, value)
            fields.append(field)
            size += table_entry_size(*field)
            if size > self.max_header_list_size:
                raise OversizedHeaderListError("the field list is too long")
        self._assert_valid_table_size()
        return fields


def _read_integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer, and where it ends."""
    most = (1 << bits) - 1
    value = data[at] & most
    if value < most:
        return value, at + 1
    value, consumed = decode_integer(data[at : at + _LONGEST_INTEGER], bits)
    return value, at + consumed


def _read_string(data: bytes, at: int) -> tuple[bytes, int]:
    """A string literal (section 5.2), and where it ends."""
    huffman = data[at] & 0x80
    length, at = _read_integer(data, at, 7)
    text = data[at : at + length]
    if len(text) != length:
        raise HPACKDecodingError("the block is cut off")
    if huffman:
        text = _known_huffman(text) if length <= LONGEST_KNOWN else decode_huffman(text)
    return text, at + length


_known_huffman = lru_cache(MOST_KNOWN)(decode_huffman)


class ResponseEncoder:
    """Stands in for ``hpack.Encoder``: literals that use no dynamic table, so that each field is encoded once for all.

    ``known`` is shared by the connections of a server.
    """

    def __init__(self, known: dict[Field, bytes]) -> None:
        self._known = known
        self._size = HeaderTable.DEFAULT_SIZE
        self._resized = False

    @property
    def header_table_size(self) -> int:
        return self._size

    @header_table_size.setter
    def header_table_size(self, size: int) -> None:
        # The peer waits for word of a changed table (section 4.2); ours is empty whatever it allows.
        self._resized = self._resized or size != self._size
        self._size = size

    def encode(self, fields: Iterable[Field], huffman: bool = False) -> bytes:
        """A field block. There is no Huffman coding, whatever ``huffman`` asks for: the caller leaves it to us."""
        known = self._known
        pieces = [b"\x20"] if self._resized else []
        self._resized = False
        for field in fields:
            line = known.get(field)
            if line is None:
                line = _encode(*field)
                if len(line) <= LONGEST_KNOWN:
                    if len(known) >= MOST_KNOWN:
                        known.clear()
                    known[field] = line
            pieces.append(line)
        return b"".join(pieces)


_STATIC_FIELDS: dict[Field, int] = {}
_STATIC_NAMES: dict[bytes, int] = {}
for _index, (_name, _value) in enumerate(HeaderTable.STATIC_TABLE, start=1):
    _STATIC_NAMES.setdefault(_name, _index)
    if _value:
        _STATIC_FIELDS[_name, _value] = _index


def _encode(name: bytes, value: bytes) -> bytes:
    index = _STATIC_FIELDS.get((name, value))
    if index is not None:
        return _integer(index, 7, 0x80)
    index = _STATIC_NAMES.get(name)
    begin = _integer(index, 4, 0) if index is not None else b"\0" + _integer(len(name), 7, 0) + name
    return begin + _integer(len(value), 7, 0) + value


def _integer(value: int, bits: int, flags: int) -> bytes:
    """Section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((flags | value,))
    encoded = bytearray((flags | most,))
    value -= most
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
