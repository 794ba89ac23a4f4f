"""Catalogue 2.5, row by row."""

from __future__ import annotations

import pytest

from appliance.api.cors import METHODS, CrossOrigin
from appliance.settings.models import CrossDomains, Header

ORIGIN = b"https://tv.example"
ALLOWED = {b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-allow-methods"}


def domains(*urls: str, **headers: str) -> CrossDomains:
    own = tuple(Header(key=key.replace("_", "-"), value=value) for key, value in headers.items())
    return CrossDomains(urls=urls, headers=own)


def answer(
    server: CrossDomains | None, api: CrossDomains | None, origin: bytes = ORIGIN, asked: bytes = b""
) -> dict[bytes, bytes]:
    headers = dict(CrossOrigin(server, api).headers(origin, asked))
    assert headers.pop(b"vary") == b"Origin"
    return headers


def test_nothing_configured_sends_only_the_methods() -> None:
    assert answer(None, None) == {b"access-control-allow-methods": METHODS}


def test_only_the_servers_layer() -> None:
    assert set(answer(domains("*"), None)) == ALLOWED
    assert answer(domains("https://other.example"), None) == {b"access-control-allow-methods": METHODS}


def test_the_apis_layer_takes_away_what_it_does_not_grant() -> None:
    assert answer(domains("*"), domains("https://other.example")) == {}
    assert answer(domains("*"), domains()) == {}
    assert answer(domains("https://other.example"), domains("*"))[b"access-control-allow-origin"] == b"*"


def test_a_grant() -> None:
    assert answer(None, domains("tv.example"), asked=b"authorization, x-more") == {
        b"access-control-allow-origin": ORIGIN,
        b"access-control-allow-credentials": b"true",
        b"access-control-allow-methods": METHODS,
        b"access-control-allow-headers": b"authorization, x-more",
    }


@pytest.mark.parametrize(
    ("url", "origin", "granted"),
    [
        ("tv.example", b"https://tv.example", b"https://tv.example"),
        ("tv.example", b"http://tv.example", b"http://tv.example"),
        ("tv.example", b"tv.example", b"tv.example"),
        ("tv.example", b"ftp://tv.example", None),
        ("tv.example", b"https://tv.example:8443", None),
        ("tv.example", b"https://tvxexample", None),
        ("https://tv.example", b"http://tv.example", None),
        ("*.example", b"https://a.b.example", b"https://a.b.example"),
        ("https://tv?.example", b"https://tv1.example", b"https://tv1.example"),
        ("https://tv?.example", b"https://tv.example", None),
        ("null", b"https://tv.example", b"null"),
        ("*", b"", b"*"),
        ("tv.example", b"", None),
    ],
)
def test_patterns(url: str, origin: bytes, granted: bytes | None) -> None:
    assert answer(None, domains(url), origin).get(b"access-control-allow-origin") == granted


def test_a_star_among_others_is_everybody() -> None:
    assert answer(None, domains("https://a.example", "*"))[b"access-control-allow-origin"] == b"*"


def test_own_headers() -> None:
    own = domains("tv.example", Access_Control_Allow_Credentials="false", Access_Control_Allow_Methods="GET: no",
                  Access_Control_Allow_Origin="https://evil.example", X_Box="one")  # fmt: skip
    granted = answer(None, own)
    assert granted[b"access-control-allow-credentials"] == b"false"
    assert granted[b"access-control-allow-methods"] == METHODS
    assert granted[b"access-control-allow-origin"] == ORIGIN
    assert answer(None, own, b"https://other.example") == {b"x-box": b"one"}
