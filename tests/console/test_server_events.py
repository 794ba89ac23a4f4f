"""Server-sent events: the same whatever pieces they come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.console.server_events import Event, EventParser, merge

STREAM = (
    "\ufeffretry: 1500\n\n: a comment\nid: a-1\nevent: snapshot\ndata: {\"x\":\ndata: 1}\n\n"
    "data:no space\r\n\r\nid: a-2\rdata: bare\r\rid\ndata\n\nevent: empty\n\nevent: ü\ndata:  two\n\n"
).encode()
EVENTS = [
    Event("snapshot", '{"x":\n1}', "a-1"),
    Event("message", "no space", "a-1"),
    Event("message", "bare", "a-2"),
    Event("message", "", ""),
    Event("ü", " two", ""),
]


@given(st.lists(st.integers(1, len(STREAM)), max_size=40))
def test_in_any_pieces(cuts: list[int]) -> None:
    parser = EventParser()
    found: list[Event] = []
    at = 0
    for cut in [*sorted(set(cuts)), len(STREAM)]:
        found += parser.receive_data(STREAM[at:cut])
        at = cut
    assert found == EVENTS
    assert parser.retry == 1.5


def test_byte_by_byte() -> None:
    parser = EventParser()
    assert [event for byte in STREAM for event in parser.receive_data(bytes([byte]))] == EVENTS


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    parser = EventParser()
    for event in parser.receive_data(data):
        assert isinstance(event.data, str)


def test_a_line_without_an_end() -> None:
    parser = EventParser(longest=100)
    assert list(parser.receive_data(b"data: 0123456789" * 6)) == []
    with pytest.raises(ValueError, match="does not end"):
        list(parser.receive_data(b"0123456789"))


def test_merge_patches() -> None:
    """Examples of RFC 7386, appendix A."""
    for state, patch, merged in (
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, "bar", "bar"),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ):
        assert merge(state, patch) == merged
