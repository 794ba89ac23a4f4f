from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access.guessing import FREE, Guessing
from appliance.access.roles import ADMIN, Caller, Role
from appliance.api.auth import Refusal, TokenCheck

TOKEN = b"user:pass word"


def basic(token: bytes) -> bytes:
    return b"Basic " + base64.b64encode(token)


def check() -> TokenCheck:
    return TokenCheck(lambda candidate: candidate == TOKEN)


def refusal_of(token: TokenCheck, header: bytes | None) -> str:
    """What is said to a caller, "" to one that may pass as the owner of the access token."""
    admitted = token.admit(header, "192.0.2.1")
    if isinstance(admitted, Refusal):
        assert admitted.status == 401
        return admitted.text
    assert admitted is ADMIN
    return ""


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
    assert refusal_of(check(), header) == refusal


def test_the_token_is_asked_for_once_a_header() -> None:
    asked = []

    def matches(candidate: bytes) -> bool:
        asked.append(candidate)
        return candidate == TOKEN

    token = TokenCheck(matches)
    assert [refusal_of(token, basic(TOKEN)) for _ in range(3)] == ["", "", ""]
    assert refusal_of(token, basic(b"other")) == "Invalid credential"
    assert refusal_of(token, b"") != ""
    assert asked == [TOKEN, b"other"]


@given(st.binary(max_size=64))
def test_no_header_but_the_right_one_passes(header: bytes) -> None:
    token = check()
    assert refusal_of(token, basic(TOKEN)) == ""
    assert refusal_of(token, header) != ""


def test_a_named_token_brings_its_role() -> None:
    anna = Caller("anna", Role.VIEWER)
    token = TokenCheck(lambda candidate: candidate == TOKEN, lambda candidate: anna if candidate == b"anna.x" else None)
    assert token.admit(basic(b"anna.x"), "192.0.2.1") == anna
    assert token.admit(basic(TOKEN), "192.0.2.1") is ADMIN
    assert refusal_of(token, basic(b"berta.x")) == "Invalid credential"


def test_guessing_is_slowed_down_and_the_right_token_still_passes() -> None:
    token = TokenCheck(lambda candidate: candidate == TOKEN, None, Guessing(lambda: 100.0))
    for _ in range(FREE):
        assert refusal_of(token, basic(b"guess")) == "Invalid credential"
    refusal = token.admit(basic(b"guess"), "192.0.2.1")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.retry_after) == (429, 60)
    assert token.admit(basic(TOKEN), "192.0.2.1") is ADMIN
    assert token.admit(basic(b"guess"), "192.0.2.2") == Refusal(401, "Invalid credential")
