"""Field lists: h2's own rules and hpack's own decoder are the judges."""

from __future__ import annotations

import pytest
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hypothesis import given
from hypothesis import strategies as st

from appliance.net.http2_fields import RequestDecoder, ResponseEncoder
from appliance.net.request_fields import Field, RequestFields

GOOD: list[Field] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/"),
    (b":authority", b"a"),
    (b"accept", b"*/*"),
    (b"empty", b""),
    (b"te", b"trailers"),
]


def test_a_request_is_valid_also_the_second_time() -> None:
    fields = RequestFields()
    assert fields.valid(GOOD)
    assert fields.valid(GOOD)
    assert fields.valid([*GOOD[:3], (b"host", b"a")])
    assert fields.valid([*GOOD, (b"host", b"a")])


@pytest.mark.parametrize(
    "bad",
    [
        GOOD[1:],
        [GOOD[0], *GOOD[2:]],
        [*GOOD[:2], *GOOD[3:]],
        GOOD[:3],
        [*GOOD, (b":path", b"/")],
        [GOOD[0], *GOOD],
        [*GOOD[:2], (b":path", b""), *GOOD[3:]],
        [(b":status", b"200"), *GOOD],
        [(b":protocol", b"websocket"), *GOOD],
        [*GOOD, (b"host", b"b")],
        [*GOOD, (b"host", b"a"), (b"host", b"a")],
        [*GOOD, (b"Upper", b"x")],
        [*GOOD, (b"", b"x")],
        [*GOOD, (b"a b", b"x")],
        [*GOOD, (b"a:b", b"x")],
        [*GOOD, (b"a", b" x")],
        [*GOOD, (b"a", b"x\t")],
        [*GOOD, (b"a", b"x\r\ny: z")],
        [*GOOD, (b"a", b"\0")],
        [*GOOD, (b"connection", b"close")],
        [*GOOD, (b"transfer-encoding", b"chunked")],
        [*GOOD, (b"te", b"gzip")],
    ],
)
def test_malformed_requests(bad: list[Field]) -> None:
    fields = RequestFields()
    assert not fields.valid(bad)
    assert not fields.valid(bad)


_FIELD = st.tuples(
    st.one_of(st.sampled_from([f[0] for f in GOOD] + [b"host", b"x", b":status"]), st.binary(max_size=3)),
    st.one_of(st.sampled_from([f[1] for f in GOOD]), st.binary(max_size=4)),
)


@given(st.lists(_FIELD, max_size=4), st.lists(_FIELD, max_size=3))
def test_nothing_is_valid_that_h2_refuses(before: list[Field], after: list[Field]) -> None:
    fields = [*before, *GOOD, *after]
    if RequestFields().valid(fields):
        flags = HeaderValidationFlags(
            is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False
        )
        try:
            list(validate_headers(fields, flags))
        except ProtocolError as error:
            pytest.fail(f"h2 refuses {fields}: {error}")


@given(
    st.lists(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=400)), max_size=5), max_size=4)
)
def test_what_is_encoded_is_what_hpack_decodes(blocks: list[list[Field]]) -> None:
    encoder, decoder = ResponseEncoder({}), Decoder()
    for block in blocks:
        fields = [(b":status", b"200"), (b":status", b"599"), (b"date", b"now"), *block]
        assert [tuple(field) for field in decoder.decode(encoder.encode(fields), raw=True)] == fields


def test_a_peer_that_shrinks_its_table_is_told() -> None:
    encoder, decoder = ResponseEncoder({}), Decoder()
    encoder.header_table_size = 0
    decoder.max_allowed_table_size = 0
    assert decoder.decode(encoder.encode([(b"a", b"b")]), raw=True) == [(b"a", b"b")]
    assert encoder.encode([(b"a", b"b")])[0] != 0x20


NAME = st.sampled_from([b":path", b"accept", b"x-a", b"cookie"]) | st.binary(max_size=12)
FIELD = st.tuples(NAME, st.binary(max_size=300))
BLOCK = st.lists(FIELD, max_size=6)


def _outcome(decoder: Decoder, block: bytes) -> object:
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except OversizedHeaderListError:
        return "oversized"
    except (HPACKError, IndexError):
        return "malformed"


@given(st.lists(st.tuples(BLOCK, st.booleans(), st.sampled_from([None, 0, 100, 4096])), min_size=1, max_size=4))
def test_requests_decode_as_with_hpack(blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]]) -> None:
    encoder, ours, theirs = Encoder(), RequestDecoder(), Decoder()
    for fields, huffman, table_size in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        block = encoder.encode(fields, huffman=huffman)
        assert _outcome(ours, block) == _outcome(theirs, block) == fields


@given(st.binary(max_size=80), st.integers(0, 2000))
def test_no_block_is_taken_that_hpack_refuses(block: bytes, most: int) -> None:
    ours, theirs = RequestDecoder(most), Decoder(most)
    assert _outcome(ours, block) == _outcome(theirs, block)
