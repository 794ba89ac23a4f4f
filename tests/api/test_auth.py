from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.auth import TokenCheck

TOKEN = b"user:pass word"


def basic(token: bytes) -> bytes:
    return b"Basic " + base64.b64encode(token)


def check() -> TokenCheck:
    return TokenCheck(lambda candidate: candidate == TOKEN)


@pytest.mark.parametrize(
    ("header", "refusal"),
    [
        (None, "Authorization header is required to call API"),
        (b"", "Authorization header is required to call API"),
        (b"Basic", "Invalid authorization header"),
        (b"Basic ", "Invalid authorization header"),
        (b"Basic a b", "Invalid authorization header"),
        (b"Basic  YQ==", "Invalid authorization header"),
        (b"Bearer YQ==", "Not supported credential type: Bearer"),
        (b"\xe9 YQ==", "Not supported credential type: \xe9"),
        (b"Basic a!b", "Invalid credential format"),
        (b"Basic YWJ", "Invalid credential format"),
        (basic(b"wrong"), "Invalid credential"),
        (basic(TOKEN + b"\0"), "Invalid credential"),
        (basic(TOKEN), ""),
        (basic(TOKEN).lower().replace(basic(TOKEN)[6:].lower(), basic(TOKEN)[6:]), ""),
    ],
)
def test_refusals(header: bytes | None, refusal: str) -> None:
    assert check().refusal(header) == refusal


def test_the_token_is_asked_for_once_a_header() -> None:
    asked = []

    def matches(candidate: bytes) -> bool:
        asked.append(candidate)
        return candidate == TOKEN

    token = TokenCheck(matches)
    assert [token.refusal(basic(TOKEN)) for _ in range(3)] == ["", "", ""]
    assert token.refusal(basic(b"other")) == "Invalid credential"
    assert token.refusal(b"") != ""
    assert asked == [TOKEN, b"other"]


@given(st.binary(max_size=64))
def test_no_header_but_the_right_one_passes(header: bytes) -> None:
    token = check()
    assert token.refusal(basic(TOKEN)) == ""
    assert token.refusal(header) != ""
