"""AMF0: what is written is read back, and nothing that a peer sends does more than raise RemoteProtocolError."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols import amf0
from appliance.protocols.amf0 import UNDEFINED, UNSUPPORTED, Date, EcmaArray, TypedObject, XmlDocument

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = TEXT.filter(bool)
NUMBERS = st.floats(allow_nan=False)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXT,
    st.sampled_from([UNDEFINED, UNSUPPORTED]),
    st.builds(Date, NUMBERS, st.integers(-0x8000, 0x7FFF)),
    st.builds(XmlDocument, TEXT),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(EcmaArray),
        st.builds(TypedObject, TEXT, st.dictionaries(KEYS, inner, max_size=4)),
    ),
    max_leaves=20,
)


@given(st.lists(VALUES, max_size=5))
def test_what_is_written_is_read_back(values: list[object]) -> None:
    decoded = amf0.decode(amf0.encode(*values))
    assert decoded == values
    assert list(map(type, decoded)) == list(map(type, values))


@given(st.binary(max_size=300))
def test_any_bytes_are_values_or_a_protocol_error(data: bytes) -> None:
    try:
        amf0.decode(data)
    except RemoteProtocolError:
        pass


@given(VALUES, st.data())
def test_a_value_cut_short_is_a_protocol_error(value: object, data: st.DataObject) -> None:
    whole = amf0.encode(value)
    cut = data.draw(st.integers(1, len(whole))) if len(whole) > 1 else 1
    if cut == len(whole):
        assert amf0.decode(whole) == [value]
    else:
        with pytest.raises(RemoteProtocolError):
            amf0.decode(whole[:cut])


def test_the_wire_form_of_each_type() -> None:
    assert amf0.encode(1.5, 3) == bytes.fromhex("003ff8000000000000004008000000000000")
    assert amf0.encode(True, False) == bytes.fromhex("01010100")
    assert amf0.encode("ab") == bytes.fromhex("0200026162")
    assert amf0.encode({"a": None}) == bytes.fromhex("0300016105000009")
    assert amf0.encode(EcmaArray(a="b")) == bytes.fromhex("080000000100016102000162000009")
    assert amf0.encode([None, UNDEFINED]) == bytes.fromhex("0a000000020506")
    assert amf0.encode(UNSUPPORTED) == b"\x0d"
    assert amf0.encode(Date(1000.0, -60)) == bytes.fromhex("0b408f400000000000ffc4")
    assert amf0.encode(XmlDocument("<a/>")) == bytes.fromhex("0f000000043c612f3e")
    assert amf0.encode(TypedObject("C", {"a": True})) == bytes.fromhex("100001430001610101000009")


def test_long_strings_have_their_own_form() -> None:
    text = "é" * 40_000
    encoded = amf0.encode(text)
    assert encoded[:5] == b"\x0c" + (80_000).to_bytes(4, "big")
    assert amf0.decode(encoded) == [text]


def test_not_a_number_survives() -> None:
    [value] = amf0.decode(amf0.encode(math.nan))
    assert isinstance(value, float)
    assert math.isnan(value)


def test_the_count_of_an_ecma_array_is_not_believed() -> None:
    [value] = amf0.decode(bytes.fromhex("08ffffffff0001610101000009"))
    assert value == {"a": True}


def test_a_reference_gives_the_object_again() -> None:
    first, second = amf0.decode(bytes.fromhex("0300016105000009070000"))
    assert first is second


@pytest.mark.parametrize("data", ["070000", "03000161070000000009", "0a00000001070000"])
def test_a_reference_to_nothing_or_in_a_circle_is_refused(data: str) -> None:
    with pytest.raises(RemoteProtocolError, match="reference"):
        amf0.decode(bytes.fromhex(data))


def test_a_switch_to_amf3_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="AMF3"):
        amf0.decode(b"\x11\x04\x01")


@pytest.mark.parametrize("marker", [0x04, 0x0E, 0x12, 0xFF])
def test_reserved_types_are_refused(marker: int) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown type"):
        amf0.decode(bytes([marker]))


def test_depth_is_bounded() -> None:
    deepest = bytes.fromhex("0a00000001") * amf0.MAX_DEPTH + b"\x05"
    assert amf0.decode(deepest)
    with pytest.raises(RemoteProtocolError, match="deeper"):
        amf0.decode(bytes.fromhex("0a00000001") + deepest)
    nested: object = None
    for _ in range(amf0.MAX_DEPTH + 1):
        nested = [nested]
    with pytest.raises(ValueError, match="deeper"):
        amf0.encode(nested)


def test_the_number_of_values_is_bounded() -> None:
    assert len(amf0.decode(b"\x05" * amf0.MAX_VALUES)) == amf0.MAX_VALUES
    with pytest.raises(RemoteProtocolError, match="more than"):
        amf0.decode(b"\x05" * (amf0.MAX_VALUES + 1))
    with pytest.raises(RemoteProtocolError, match="array of"):
        amf0.decode(b"\x0a\xff\xff\xff\xff")


def test_memory_stays_near_the_size_of_the_message() -> None:
    data = amf0.encode(*[{"key": [1.0, "x" * 50]} for _ in range(400)])
    tracemalloc.start()
    try:
        amf0.decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 64 * 1024 + 16 * len(data)


def test_what_amf0_has_no_word_for_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="bytes"):
        amf0.encode(b"x")
    with pytest.raises(ValueError, match="65535"):
        amf0.encode({"k" * 70_000: None})


@settings(max_examples=20)
@given(st.lists(VALUES, min_size=2, max_size=4))
def test_a_prefix_can_be_read_alone(values: list[object]) -> None:
    encoded = amf0.encode(*values)
    first, position = amf0.decode_prefix(encoded, 1)
    assert first == values[:1]
    assert amf0.decode(encoded[position:]) == values[1:]
