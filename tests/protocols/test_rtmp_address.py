"""Where a publisher wants to go, by tcUrl, app and stream key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocols.rtmp import Address, parse_address


@pytest.mark.parametrize(
    ("tc_url", "app", "key", "address"),
    [
        ("rtmp://box/app", "app", "cam", Address("box", 0, "app", "cam", "")),
        ("rtmp://BOX.example:1936/app/", "app", "cam", Address("box.example", 1936, "app", "cam", "")),
        ("rtmp://box/app", "app", "cam?key=a&b=c", Address("box", 0, "app", "cam", "key=a&b=c")),
        ("rtmp://box/app?t=1", "app?t=1", "cam?key=a", Address("box", 0, "app", "cam", "t=1&key=a")),
        ("rtmp://box/app/cam", "app/cam", "", Address("box", 0, "app", "cam", "")),
        ("rtmp://box/app/cam?key=a", "app/cam", "", Address("box", 0, "app", "cam", "key=a")),
        ("rtmp://box/app/more", "app/more", "cam", Address("box", 0, "app", "cam", "")),
        # tcUrl rules over app.
        ("rtmp://box/app", "app/cam", "cam", Address("box", 0, "app", "cam", "")),
        ("rtmp://[2001:db8::1]:1935/app", "app", "cam", Address("2001:db8::1", 1935, "app", "cam", "")),
        ("rtmp://user:word@box/app", "app", "cam", Address("box", 0, "app", "cam", "")),
        ("rtmps://box/app", "app", "cam", Address("box", 0, "app", "cam", "")),
        ("rtmp://box:99999/app", "app", "cam", Address("box", 0, "app", "cam", "")),
        ("rtmp://box", "app/cam?key=a", "", Address("box", 0, "app", "cam", "key=a")),
        ("", "app", "cam", Address("", 0, "app", "cam", "")),
        ("http://box/other", "app", "cam", Address("", 0, "app", "cam", "")),
        ("", "", "", Address("", 0, "", "", "")),
    ],
)
def test_parts(tc_url: str, app: str, key: str, address: Address) -> None:
    assert parse_address(tc_url, app, key) == address


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("key=a", "a"),
        ("x=1&key=a%20b&key=c", "a b"),
        ("key=a+b", "a+b"),
        ("Key=a", ""),
        ("", ""),
        ("key", ""),
        ("key=a=b", "a=b"),
    ],
)
def test_parameters(query: str, value: str) -> None:
    assert Address("", 0, "", "", query).parameter("key") == value


@given(st.text(), st.text(), st.text(), st.text())
def test_any_text_gives_an_address(tc_url: str, app: str, key: str, name: str) -> None:
    parse_address(tc_url, app, key).parameter(name)
    parse_address("rtmp://" + tc_url, app, key).parameter(name)
