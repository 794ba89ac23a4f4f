"""Payload formats: what a sender cuts up comes out whole, also with losses."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols.rtp.packet import RtpPacket
from appliance.protocols.rtp.payloads import H264, H265, Aac, AccessUnit, Depacketizer, OneFrame, Vp8


def send(depacketizer: Depacketizer, *packets: tuple[int, bool, bytes], gap_before: int = -1) -> list[AccessUnit]:
    units = []
    for number, (timestamp, marker, payload) in enumerate(packets):
        packet = RtpPacket(96, marker, number, timestamp, 1, payload)
        units += depacketizer.receive(packet, number == gap_before)
    return units


def fragments(unit: bytes, size: int) -> list[bytes]:
    """FU-A of an H.264 NAL unit (RFC 6184 section 5.8)."""
    pieces = [unit[at : at + size] for at in range(1, len(unit), size)]
    flags = [(0x80 if n == 0 else 0) | (0x40 if n == len(pieces) - 1 else 0) for n in range(len(pieces))]
    head, kind = unit[0] & 0x60 | 28, unit[0] & 31
    return [bytes([head, flag | kind]) + piece for flag, piece in zip(flags, pieces, strict=True)]


def fragments_h265(unit: bytes, size: int) -> list[bytes]:
    pieces = [unit[at : at + size] for at in range(2, len(unit), size)]
    flags = [(0x80 if n == 0 else 0) | (0x40 if n == len(pieces) - 1 else 0) for n in range(len(pieces))]
    head = bytes([unit[0] & 0x81 | 49 << 1, unit[1]])
    kind = unit[0] >> 1 & 63
    return [head + bytes([flag | kind]) + piece for flag, piece in zip(flags, pieces, strict=True)]


@given(st.binary(min_size=20, max_size=300), st.integers(5, 18))
def test_a_fragmented_picture_comes_out_whole(body: bytes, size: int) -> None:
    for kind, cut, head in ((H264, fragments, b"\x65"), (H265, fragments_h265, b"\x26\x01")):
        unit = head + body
        pieces = cut(unit, size)
        packets = [(5, number == len(pieces) - 1, piece) for number, piece in enumerate(pieces)]
        assert send(kind(), *packets) == [AccessUnit(5, (unit,))]


def test_single_and_aggregated_units_of_one_time_are_one_access_unit() -> None:
    sets = b"\x18" + pack(">H", 2) + b"\x67a" + pack(">H", 2) + b"\x68b"
    assert send(H264(), (1, False, sets), (1, True, b"\x65c")) == [AccessUnit(1, (b"\x67a", b"\x68b", b"\x65c"))]
    sets = b"\x60\x01" + pack(">H", 3) + b"\x42\x01a" + pack(">H", 3) + b"\x44\x01b"
    (unit,) = send(H265(), (1, False, sets), (1, True, b"\x26\x01c"))
    assert unit.parts == (b"\x42\x01a", b"\x44\x01b", b"\x26\x01c")


def test_the_next_time_ends_a_picture_whose_marker_is_missing() -> None:
    assert send(H264(), (1, False, b"\x65a"), (2, False, b"\x41b"), (3, True, b"\x41c")) == [
        AccessUnit(1, (b"\x65a",)), AccessUnit(2, (b"\x41b",)), AccessUnit(3, (b"\x41c",)),
    ]  # fmt: skip


def test_a_picture_with_a_hole_is_given_up_and_the_next_one_is_not() -> None:
    first, middle, last = fragments(b"\x65" + bytes(30), 12)
    damaged = send(H264(), (1, False, first), (1, True, last), (2, True, b"\x41b"), gap_before=1)
    assert damaged == [AccessUnit(2, (b"\x41b",))]
    assert middle


def test_aac_frames_of_a_packet_have_their_own_times() -> None:
    headers = pack(">H", 32) + pack(">HH", 3 << 3, 2 << 3)
    units = send(Aac({}), (1000, True, headers + b"abcde"))
    assert units == [AccessUnit(1000, (b"abc",)), AccessUnit(2024, (b"de",))]


def test_a_fragmented_aac_frame_comes_out_whole_or_not_at_all() -> None:
    head = pack(">HH", 16, 6 << 3)
    assert send(Aac({}), (1, False, head + b"abcd"), (1, True, head + b"ef")) == [AccessUnit(1, (b"abcdef",))]
    assert send(Aac({}), (1, False, head + b"abcd"), (2, True, pack(">HH", 16, 1 << 3) + b"x"), gap_before=1) == [
        AccessUnit(2, (b"x",))
    ]


def test_vp8_frames() -> None:
    plain = (1, False, b"\x10ab"), (1, True, b"\x00cd")
    assert send(Vp8(), *plain) == [AccessUnit(1, (b"abcd",))]
    extended = b"\x90\xe0\x81\x02\x03\x04"
    assert send(Vp8(), (1, True, extended + b"ab")) == [AccessUnit(1, (b"ab",))]
    assert send(Vp8(), (1, False, b"\x10ab"), (1, True, b"\x00cd"), gap_before=1) == []


def test_one_packet_one_frame() -> None:
    assert send(OneFrame(), (1, True, b"ab"), (2, True, b"")) == [AccessUnit(1, (b"ab",))]


@pytest.mark.parametrize(
    ("depacketizer", "payload"),
    [(H264(), b"\x1d\x00\x00"), (H264(), b"\x18\x00\x09a"), (H264(), b"\x1c\x80"), (H265(), b"\x62"),
     (H265(), b"\x64\x01\x00"), (Aac({}), b"\x00"), (Aac({}), b"\x00\x20\x00"), (Aac({}), pack(">HHH", 32, 80, 80)),
     (Vp8(), b""), (Vp8(), b"\x80"), (Vp8(), b"\x90\x80\x80")],
)  # fmt: skip
def test_what_is_broken_is_refused(depacketizer: Depacketizer, payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        send(depacketizer, (1, True, payload))


def test_parameters_that_cannot_be_are_refused() -> None:
    for value in ("33", "-1", "x"):
        with pytest.raises(RemoteProtocolError):
            Aac({"sizelength": value})


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.binary(max_size=40), st.booleans()), max_size=12))
def test_any_packets_parse_or_are_refused(packets: list[tuple[int, bool, bytes, bool]]) -> None:
    for depacketizer in (H264(), H265(), Vp8(), Aac({}), Aac({"mode": "AAC-lbr"}), OneFrame()):
        for number, (timestamp, marker, payload, gap) in enumerate(packets):
            try:
                units = depacketizer.receive(RtpPacket(96, marker, number, timestamp, 1, payload), gap)
            except RemoteProtocolError:
                continue
            assert all(part for unit in units for part in unit.parts)
