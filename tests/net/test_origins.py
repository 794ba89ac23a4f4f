from __future__ import annotations

import pytest

from appliance.net.origins import allowed_origin, depends_on_origin


@pytest.mark.parametrize(
    ("urls", "origin", "allowed"),
    [
        ((), b"https://a.example", b""),
        (("*",), b"", b"*"),
        (("https://a.example", "*"), b"https://b.example", b"*"),
        (("null",), b"https://a.example", b"null"),
        (("null", "a.example"), b"null", b"null"),
        (("null", "a.example"), b"https://b.example", b""),
        (("a.example",), b"https://a.example", b"https://a.example"),
        (("a.example",), b"a.example", b"a.example"),
        (("a.example",), b"ftp://a.example", b""),
        (("a.example",), b"https://a.example.evil", b""),
        (("https://*.example",), b"https://a.b.example", b"https://a.b.example"),
        (("https://*.example",), b"http://a.example", b""),
        (("a?.example",), b"http://a1.example", b"http://a1.example"),
        (("a[1].example",), b"http://a1.example", b""),
        (("a[1].example",), b"http://a[1].example", b"http://a[1].example"),
        (("*.example",), b"", b""),
    ],
)
def test_who_is_let_in(urls: tuple[str, ...], origin: bytes, allowed: bytes) -> None:
    assert allowed_origin(urls, origin) == allowed


def test_where_the_origin_matters() -> None:
    assert [depends_on_origin(urls) for urls in ((), ("*",), ("null",), ("a", "*"))] == [False] * 4
    assert depends_on_origin(("a",))
    assert depends_on_origin(["null", "a"])
