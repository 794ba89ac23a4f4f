"""Request bodies: what is read, and what is refused with the reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.body import DEEPEST, LARGEST, MOST_VALUES, TooLarge, parse_json, read_body
from appliance.errors import BadRequest
from appliance.net.asgi import ClientDisconnected, Message, Receive, Scope
from tests.api.box import AUTHORIZATION, Box

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


def receiver(*pieces: bytes, cut: bool = False) -> Receive:
    left = list(pieces)

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": cut or bool(left)}

    return receive


async def read(*pieces: bytes, cut: bool = False, limit: int = LARGEST) -> bytes:
    return await read_body(receiver(*pieces, cut=cut), limit)


async def test_pieces_are_one_body() -> None:
    assert await read(b"[1,", b"", b"2]") == b"[1,2]"


async def test_the_limit_is_kept_before_all_is_read() -> None:
    assert await read(b"x" * 5, b"y" * 5, limit=10) == b"xxxxxyyyyy"
    with pytest.raises(TooLarge) as error:
        await read(b"x" * 6, b"y" * 5, b"never asked for", limit=10)
    assert error.value.status == 413


async def test_a_client_that_leaves_has_no_body() -> None:
    with pytest.raises(ClientDisconnected):
        await read(b"[", cut=True)


@given(JSON)
def test_what_is_json_is_read(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=2).encode()) == value


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,0123456789.eE+-truefalsn \\u\t\n', max_size=60))
def test_whatever_comes_is_a_value_or_a_place(data: bytes | str) -> None:
    body = data.encode() if isinstance(data, str) else data
    try:
        value = parse_json(body)
    except BadRequest as error:
        text = str(error)
    else:
        text = ""
        json.dumps(value, ensure_ascii=False).encode()
    assert not text or text.startswith("[JSON] * Line ")


def test_an_empty_body_is_null() -> None:
    assert parse_json(b"") is None


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'[{"name":', "Line 1, Column 10\n  Syntax error: value, object or array expected."),
        (b"{{{", "Line 1, Column 2\n  Missing '}' or object member name"),
        (b'{"name"', "Line 1, Column 8\n  Missing ':' after object member name"),
        (b'{\n"a": 1,\n  "b": }', "Line 3, Column 8\n  Syntax error: value, object or array expected."),
        (b"[1] // ok", "Line 1, Column 5\n  Extra non-whitespace after JSON value."),
        (b"[1] x", "Line 1, Column 5\n  Extra non-whitespace after JSON value."),
        (b'{"a": 1, "a": 2}', "Line 1, Column 1\n  Duplicate key: 'a'"),
        (b'"a\xff"', "Line 1, Column 3\n  Not UTF-8"),
        (b'["\\ud800"]', "Line 1, Column 1\n  Half of a surrogate pair"),
        (b"[NaN]", "Line 1, Column 1\n  Not a JSON value: NaN"),
        (b"[1e999]", "Line 1, Column 1\n  Number out of range: 1e999"),
        (b"[9223372036854775808]", "Line 1, Column 1\n  Number out of range: 9223372036854775808"),
        (b"[" + b"9" * 5000 + b"]", "Line 1, Column 1\n  Number out of range: " + "9" * 24),
        (b"[" * 5000, f"Line 1, Column 1\n  Nested more than {DEEPEST} deep"),
        (b"[" * 65 + b"]" * 65, f"Line 1, Column 1\n  Nested more than {DEEPEST} deep"),
        (b"[" + b"1," * MOST_VALUES + b"1]", f"Line 1, Column 1\n  More than {MOST_VALUES} values"),
        (b"'a'", "Line 1, Column 1\n  Syntax error: value, object or array expected."),
        (b'"a\nb"', "Line 1, Column 3\n  Invalid control character at"),
    ],
)
def test_what_is_refused(body: bytes, place: str) -> None:
    with pytest.raises(BadRequest) as error:
        parse_json(body)
    assert str(error.value) == f"[JSON] * {place}\n"


def test_nesting_up_to_the_limit_is_read() -> None:
    assert parse_json(b"[" * DEEPEST + b"]" * DEEPEST) is not None
    assert parse_json(b"[" + b"[]," * 1000 + b"[]]") == [[]] * 1001


async def post(box: Box, *pieces: bytes) -> list[Message]:
    """What the API sends back to a POST of virtual hosts that comes in ``pieces``."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    path = "/v1/vhosts"
    headers = [(b"authorization", AUTHORIZATION.encode()), (b"host", b"localhost")]
    scope: Scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
    await box.api(scope, receiver(*pieces), send)
    return sent


class TestOverTheApi:
    async def test_a_chunked_body(self, box: Box) -> None:
        sent = await post(box, b'[{"name"', b': "chunked"}]')
        assert sent[0]["status"] == 200
        assert json.loads(sent[1]["body"])[0]["response"] == {"name": "chunked"}

    async def test_too_large(self, box: Box) -> None:
        sent = await post(box, b" " * LARGEST, b" ", b"never asked for")
        assert (sent[0]["status"], json.loads(sent[1]["body"])) == (
            413, {"message": f"[HTTP] Request body is larger than {LARGEST} bytes (413)", "statusCode": 413},
        )  # fmt: skip

    async def test_the_token_comes_first_and_what_is_looked_up_last(self, box: Box) -> None:
        assert (await box.ask("POST", "/v1/vhosts/nope/apps", {}, body=b"{")).status_code == 401
        assert (await box.ask("POST", "/v1/vhosts/nope/apps", body=b"{")).status_code == 400
        assert (await box.ask("POST", "/v1/vhosts/nope/apps", body=b"{}")).status_code == 404
        assert (await box.ask("POST", "/v1/vhosts", {"Authorization": AUTHORIZATION}, body=b"")).json() == {
            "message": "[HTTP] Request body must be an array (400)", "statusCode": 400,
        }  # fmt: skip
