"""RTP packets, their order, and RTCP."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols.rtp.packet import InOrder, RtpPacket, parse_rtp
from appliance.protocols.rtp.rtcp import Bye, SenderReport, parse_rtcp, receiver_report


def rtp(sequence: int, timestamp: int = 0, payload: bytes = b"x", *, marker: bool = False) -> bytes:
    return pack(">BBHII", 0x80, 96 | marker << 7, sequence, timestamp, 7) + payload


def packet(sequence: int) -> RtpPacket:
    return RtpPacket(96, False, sequence & 0xFFFF, 0, 7, b"x")


def test_the_fields_of_a_packet() -> None:
    assert parse_rtp(rtp(65535, 90_000, b"abc", marker=True)) == RtpPacket(96, True, 65535, 90_000, 7, b"abc")


def test_sources_extension_and_padding_are_no_payload() -> None:
    head = pack(">BBHII", 0xB2, 96, 1, 2, 3) + bytes(8) + pack(">HH", 0xBEDE, 1) + bytes(4)
    assert parse_rtp(head + b"abc" + b"\0\0\3").payload == b"abc"


@pytest.mark.parametrize(
    "data",
    [b"", bytes(11), bytes(20), pack(">BBHII", 0x8F, 96, 1, 2, 3), pack(">BBHII", 0x90, 96, 1, 2, 3),
     pack(">BBHII", 0xA0, 96, 1, 2, 3) + b"\0", pack(">BBHII", 0xA0, 96, 1, 2, 3) + b"\x09",
     pack(">BBHII", 0x90, 96, 1, 2, 3) + b"\0\0\0\x09"],
)  # fmt: skip
def test_what_is_broken_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_rtp(data)


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for parse in (parse_rtp, parse_rtcp):
        try:
            parse(data)
        except RemoteProtocolError:
            pass


@given(st.integers(0, 65535), st.permutations(range(12)))
def test_whatever_the_order_within_the_depth_each_comes_once_and_in_order(first: int, order: list[int]) -> None:
    queue = InOrder(depth=16)
    due = queue.push(packet(first - 1))
    for index in order:
        due += queue.push(packet(first + index))
        assert queue.push(packet(first + index)) == []
    assert [each.sequence for each, _ in due] == [(first + index) & 0xFFFF for index in range(-1, 12)]
    assert not any(gap for _, gap in due)
    assert (queue.lost, queue.late) == (0, 12)


def test_a_gap_is_given_up_when_enough_wait_behind_it() -> None:
    queue = InOrder(depth=3)
    due = queue.push(packet(10))
    for sequence in (13, 14, 15):
        assert queue.push(packet(sequence)) == []
    due += queue.push(packet(16))
    assert [each.sequence for each, _ in due] == [10, 13, 14, 15, 16]
    assert [gap for _, gap in due] == [False, True, False, False, False]
    assert queue.lost == 2
    assert queue.push(packet(12)) == []
    assert queue.late == 1


def test_over_tcp_a_gap_is_told_at_once() -> None:
    queue = InOrder(depth=0)
    queue.push(packet(65535))
    assert [gap for _, gap in queue.push(packet(1))] == [True]
    assert queue.lost == 1


def test_a_sender_report_and_a_goodbye() -> None:
    report = pack(">BBHIIIIII", 0x80, 200, 6, 7, 3_900_000_000, 1 << 31, 90_000, 5, 500)
    found = parse_rtcp(report + pack(">BBHI", 0x81, 203, 1, 7))
    assert found == [SenderReport(7, 3_900_000_000 << 32 | 1 << 31, 90_000), Bye(7)]
    assert isinstance(found[0], SenderReport)
    assert found[0].seconds == 3_900_000_000 - 2_208_988_800 + 0.5


def test_our_report_is_whole_rtcp() -> None:
    data = receiver_report(1, 7, highest=70_000, lost=3, last_report=5 << 32, since_report=1.5)
    assert parse_rtcp(data) == []
    assert data[8:12] == pack(">I", 7)
    assert data[24:28] == pack(">I", 5 << 16)
    assert data[28:32] == pack(">I", 98_304)
