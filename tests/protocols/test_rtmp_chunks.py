"""The RTMP chunk layer: the writer's chunks, and chunks as other senders write them, read back in any pieces."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols.rtmp.chunks import (
    MAX_CHUNK_STREAMS,
    ChunkReader,
    ChunkWriter,
    Message,
    control_message,
)

LIMIT = 1 << 20


def reader(limit: int = LIMIT) -> ChunkReader[Message]:
    return ChunkReader(max_unfinished=limit)


def read(pieces: Iterable[bytes], limit: int = LIMIT) -> list[Message]:
    chunks = reader(limit)
    return [message for piece in pieces for message in chunks.receive_data(piece)]


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]


def plain(messages: Sequence[Message]) -> list[tuple[int, int, int, bytes]]:
    return [(each.timestamp, each.type_id, each.stream_id, each.body) for each in messages]


SENT = st.tuples(
    st.sampled_from([3, 4, 6, 63, 64, 319, 320, 65599]),
    st.sampled_from([8, 9, 18, 20]),
    st.sampled_from([0, 1]),
    st.one_of(st.integers(0, 5000), st.integers(0xFFFFF0, 0x1000010), st.integers(0xFFFFFF00, 0xFFFFFFFF)),
    st.one_of(st.binary(max_size=40), st.integers(1, 2000).map(lambda size: bytes(range(256)) * 8 + bytes(size))),
)


@settings(max_examples=60)
@given(st.lists(SENT, max_size=8), st.integers(128, 5000), st.lists(st.integers(0, 20_000), max_size=12))
def test_messages_come_back_whatever_the_pieces(
    sent: list[tuple[int, int, int, int, bytes]], chunk_size: int, cuts: list[int]
) -> None:
    writer = ChunkWriter()
    wire = writer.set_chunk_size(chunk_size) + b"".join(writer.message(*message) for message in sent)
    expected = [(timestamp, kind, stream, body) for _, kind, stream, timestamp, body in sent]
    assert plain(read([wire])) == expected
    assert plain(read(split(wire, cuts))) == expected


@settings(max_examples=10, deadline=None)
@given(st.lists(SENT, max_size=4), st.integers(128, 600))
def test_messages_come_back_byte_by_byte(sent: list[tuple[int, int, int, int, bytes]], chunk_size: int) -> None:
    writer = ChunkWriter()
    wire = writer.set_chunk_size(chunk_size) + b"".join(writer.message(*message) for message in sent)
    assert plain(read(wire[at : at + 1] for at in range(len(wire)))) == plain(read([wire]))


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_give_messages_or_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    def outcome(pieces: Iterable[bytes]) -> tuple[list[Message], str]:
        chunks, messages = reader(), []
        try:
            for piece in pieces:
                messages += chunks.receive_data(piece)
        except RemoteProtocolError as error:
            return messages, str(error)
        return messages, ""

    whole, error = outcome([data])
    pieces, same_error = outcome(split(data, cuts))
    assert error == same_error
    if not error:
        assert plain(whole) == plain(pieces)


def chunk(form: int, stream: int, *fields: bytes) -> bytes:
    return bytes([form << 6 | stream]) + b"".join(fields)


def u24(value: int) -> bytes:
    return value.to_bytes(3, "big")


def head(time: int, length: int, kind: int = 9) -> bytes:
    return u24(time) + u24(length) + bytes([kind])


MEDIA_STREAM = b"\1\0\0\0"


def test_each_header_form_takes_over_what_it_leaves_out() -> None:
    wire = (
        chunk(0, 6, head(1000, 2), MEDIA_STREAM, b"ab")
        + chunk(1, 6, head(40, 3), b"cde")
        + chunk(2, 6, u24(33), b"fgh")
        + chunk(3, 6, b"ijk")
    )
    assert plain(read([wire])) == [
        (1000, 9, 1, b"ab"),
        (1040, 9, 1, b"cde"),
        (1073, 9, 1, b"fgh"),
        (1106, 9, 1, b"ijk"),
    ]


def test_a_type_3_message_after_a_type_0_one_adds_its_time() -> None:
    wire = chunk(0, 6, head(20, 1), MEDIA_STREAM, b"a") + chunk(3, 6, b"b")
    assert [message.timestamp for message in read([wire])] == [20, 40]


def test_messages_may_interleave_between_chunks() -> None:
    wire = (
        chunk(0, 6, head(0, 300), MEDIA_STREAM, b"v" * 128)
        + chunk(0, 4, head(0, 130, 8), MEDIA_STREAM, b"a" * 128)
        + chunk(3, 6, b"v" * 128)
        + chunk(3, 4, b"aa")
        + chunk(3, 6, b"v" * 44)
    )
    assert [message.body for message in read([wire])] == [b"a" * 130, b"v" * 300]


@pytest.mark.parametrize("size", [1, 127, 128, 129, 256, 257, 384, 385, 1000, 20_000])
def test_runs_of_small_chunks_are_put_together(size: int) -> None:
    body = bytes(index * 7 & 0xFF for index in range(size))
    wire = ChunkWriter().message(6, 9, 1, 5, body)
    assert [message.body for message in read([wire + wire])] == [body, body]


def test_payload_that_looks_like_chunk_headers_is_payload() -> None:
    body = b"\xc6" * 5000
    wire = ChunkWriter().message(6, 9, 1, 0, body)
    assert [message.body for message in read([wire])] == [body]
    assert [message.body for message in read(split(wire, range(0, 5000, 7)))] == [body]


@pytest.mark.parametrize("repeated", [True, False])
def test_extended_timestamps_in_continuations_with_or_without_the_field(repeated: bool) -> None:
    time = 0x01020304
    field = time.to_bytes(4, "big")
    again = field if repeated else b""
    body = bytes(range(200)) * 3
    parts = [body[at : at + 128] for at in range(0, len(body), 128)]
    wire = chunk(0, 6, head(0xFFFFFF, len(body)), MEDIA_STREAM, field, parts[0])
    wire += b"".join(chunk(3, 6, again, part) for part in parts[1:])
    wire += chunk(1, 6, head(40, 1), b"z")
    for pieces in ([wire], split(wire, range(0, len(wire), 11))):
        assert plain(read(pieces)) == [(time, 9, 1, body), (time + 40, 9, 1, b"z")]


def test_a_new_message_in_type_3_with_extended_timestamp_has_its_own_time() -> None:
    wire = chunk(0, 6, head(0xFFFFFF, 1), MEDIA_STREAM, (0x01000000).to_bytes(4, "big"), b"a")
    wire += chunk(3, 6, (0x01000028).to_bytes(4, "big"), b"b")
    assert [message.timestamp for message in read([wire])] == [0x01000000, 0x01000028]


def test_an_extended_difference_is_added() -> None:
    wire = chunk(0, 6, head(7, 1), MEDIA_STREAM, b"a")
    wire += chunk(1, 6, head(0xFFFFFF, 1), (0x01000000).to_bytes(4, "big"), b"b")
    assert [message.timestamp for message in read([wire])] == [7, 0x01000007]


def test_times_wrap_at_32_bits() -> None:
    writer = ChunkWriter()
    wire = b"".join(writer.message(6, 9, 1, time, b"x") for time in (0xFFFFFFF0, 0x100000018, 0x100000040))
    assert [message.timestamp for message in read([wire])] == [0xFFFFFFF0, 0x18, 0x40]


def test_chunk_sizes_out_of_range_are_refused() -> None:
    for size in (0, 0x80000000, 0xFFFFFFFF):
        with pytest.raises(RemoteProtocolError, match="Set Chunk Size"):
            read([control_message(1, size.to_bytes(4, "big"))])
    for size in (1, 65536, 0x7FFFFFFF):
        wire = control_message(1, size.to_bytes(4, "big"))
        if size > 1:
            wire += chunk(0, 6, head(0, 3), MEDIA_STREAM, b"abc")
        else:
            wire += chunk(0, 6, head(0, 3), MEDIA_STREAM, b"a") + chunk(3, 6, b"b") + chunk(3, 6, b"c")
        assert [message.body for message in read([wire])] == [b"abc"]


def test_a_control_message_cut_short_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        read([control_message(1, b"\0\0")])
    with pytest.raises(RemoteProtocolError):
        read([control_message(2, b"\0")])


def test_abort_drops_what_is_unfinished() -> None:
    chunks = reader(300)
    assert chunks.receive_data(chunk(0, 6, head(0, 200), MEDIA_STREAM, b"x" * 128)) == []
    assert chunks.receive_data(control_message(2, (6).to_bytes(4, "big"))) == []
    [message] = chunks.receive_data(chunk(1, 6, head(0, 200), b"y" * 128) + chunk(3, 6, b"y" * 72))
    assert message.body == b"y" * 200


def test_a_new_header_in_the_middle_gives_the_old_message_up() -> None:
    wire = chunk(0, 6, head(0, 200), MEDIA_STREAM, b"x" * 128) + chunk(0, 6, head(9, 1), MEDIA_STREAM, b"y")
    assert plain(read([wire])) == [(9, 9, 1, b"y")]


@pytest.mark.parametrize("form", [2, 3])
def test_a_chunk_stream_can_not_begin_without_a_length(form: int) -> None:
    with pytest.raises(RemoteProtocolError, match="begins"):
        read([chunk(form, 6, u24(0), b"abc")])


def test_unfinished_messages_are_bounded_together() -> None:
    wire = chunk(0, 6, head(0, 600), MEDIA_STREAM, b"x" * 128)
    assert read([wire], 1000) == []
    with pytest.raises(RemoteProtocolError, match="in progress"):
        read([wire + chunk(0, 7, head(0, 401), MEDIA_STREAM)], 1000)
    assert read([wire + chunk(0, 7, head(0, 400), MEDIA_STREAM)], 1000) == []


def test_chunk_streams_are_bounded() -> None:
    wire = [chunk(0, 0, bytes([number]), head(0, 0), MEDIA_STREAM) for number in range(MAX_CHUNK_STREAMS)]
    assert len(read(wire)) == MAX_CHUNK_STREAMS
    with pytest.raises(RemoteProtocolError, match="chunk streams"):
        read([*wire, chunk(0, 3, head(0, 0), MEDIA_STREAM)])


def fill(chunks: ChunkReader[Message]) -> None:
    """Begin one message after the other, and send nearly all of each."""
    for number in range(3, 60):
        chunks.receive_data(chunk(0, number, head(0, 8000), MEDIA_STREAM, b"x" * 128))
        for _ in range(60):
            chunks.receive_data(chunk(3, number, b"x" * 128))


def test_memory_is_bounded_by_what_is_unfinished() -> None:
    chunks = reader(64 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            fill(chunks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 64 * 1024


def test_reading_pauses_after_the_types_it_was_told_to_pause_on() -> None:
    chunks: ChunkReader[Message] = ChunkReader(max_unfinished=LIMIT, pause_on=frozenset({20}))
    writer = ChunkWriter()
    wire = b"".join(writer.message(3, kind, 0, 0, b"%d" % kind) for kind in (18, 20, 20, 18))
    seen = [[message.type_id for message in chunks.receive_data(wire)]]
    while chunks.paused:
        seen.append([message.type_id for message in chunks.receive_data(b"")])
    assert seen == [[18, 20], [20], [18]]


def test_missing_says_how_much_must_come() -> None:
    chunks = reader()
    assert chunks.missing == 1
    chunks.receive_data(chunk(0, 6, head(0, 300), MEDIA_STREAM, b"x" * 100))
    # 28 of this chunk, then two more with a header of one byte each.
    assert chunks.missing == 28 + 1 + 128 + 1 + 44
    [message] = chunks.receive_data(b"x" * 28 + chunk(3, 6, b"x" * 128) + chunk(3, 6, b"x" * 44))
    assert len(message.body) == 300


def test_the_writer_refuses_what_the_wire_can_not_say() -> None:
    with pytest.raises(ValueError, match="chunk size"):
        ChunkWriter().set_chunk_size(0x1000000)
    with pytest.raises(ValueError, match="at most"):
        ChunkWriter().message(6, 9, 1, 0, bytes(0x1000000))
