"""The protocols of the devices: vectors, and the same result however the bytes are cut."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw import crystalfontz, matrix_orbital, visca
from hw.crystalfontz import Packet, PacketParser, crc16
from hw.fakes.gps import sentence
from hw.keys import Key
from hw.nmea import LONGEST, FixQuality, NmeaParser, Position
from hw.visca import Command, PayloadType, ReplyKind, ViscaParser

PARSERS: tuple[Callable[[], Any], ...] = (ViscaParser, PacketParser, NmeaParser, matrix_orbital.KeyParser)

GOOD = st.sampled_from(
    [
        bytes.fromhex("90 41 FF"), bytes.fromhex("90 51 FF"), bytes.fromhex("90 50 02 FF"),
        bytes.fromhex("88 30 03 FF"),
        Packet(0x80, b"\x05").encode(), Packet(0x5F).encode(), sentence("GPGSA,A,3,04,05,09,12,24,,,,,,,,2.5,1.3,2.1"),
        b"B", b"E",
    ]
)  # fmt: skip
STREAMS = st.lists(st.one_of(GOOD, st.binary(max_size=40)), max_size=30).map(b"".join)


@pytest.mark.parametrize("make", PARSERS)
@given(data=STREAMS, cuts=st.lists(st.integers(0, 1200), max_size=20))
def test_the_same_result_however_it_is_cut(make: Callable[[], Any], data: bytes, cuts: list[int]) -> None:
    whole, cut = make(), make()
    expected = whole.receive_data(data)
    places = sorted({0, len(data), *(place for place in cuts if place < len(data))})
    found = [each for a, b in pairwise(places) for each in cut.receive_data(data[a:b])]
    assert found == expected
    assert cut.discarded == whole.discarded


@pytest.mark.parametrize("make", PARSERS[:3])
@given(data=st.binary(max_size=4000))
def test_what_is_kept_is_bounded(make: Callable[[], Any], data: bytes) -> None:
    parser = make()
    parser.receive_data(data)
    assert len(parser._buffer) <= LONGEST


@pytest.mark.parametrize(
    ("command", "frame"),
    [
        (visca.POWER_ON, "81 01 04 00 02 FF"),
        (visca.POWER_OFF, "81 01 04 00 03 FF"),
        (visca.HOME, "81 01 06 04 FF"),
        (visca.zoom(0), "81 01 04 07 00 FF"),
        (visca.zoom(1), "81 01 04 07 20 FF"),
        (visca.zoom(-8), "81 01 04 07 37 FF"),
        (visca.zoom_to(0x4000), "81 01 04 47 04 00 00 00 FF"),
        (visca.focus(3), "81 01 04 08 22 FF"),
        (visca.focus_to(0x1234), "81 01 04 48 01 02 03 04 FF"),
        (visca.preset("clear", 2), "81 01 04 3F 00 02 FF"),
        (visca.preset("set", 5), "81 01 04 3F 01 05 FF"),
        (visca.preset("recall", 127), "81 01 04 3F 02 7F FF"),
        (visca.drive(-24, 20), "81 01 06 01 18 14 01 01 FF"),
        (visca.drive(5, -1), "81 01 06 01 05 01 02 02 FF"),
        (visca.drive(0, 0), "81 01 06 01 01 01 03 03 FF"),
        (visca.move_to(-1, 256, 10, 9), "81 01 06 02 0A 09 0F 0F 0F 0F 00 01 00 00 FF"),
        (visca.POWER_INQUIRY, "81 09 04 00 FF"),
        (visca.ZOOM_INQUIRY, "81 09 04 47 FF"),
        (visca.POSITION_INQUIRY, "81 09 06 12 FF"),
        (visca.cancel(2), "81 22 FF"),
    ],
)
def test_visca_commands(command: Command, frame: str) -> None:
    assert command.frame(1) == bytes.fromhex(frame)


@pytest.mark.parametrize(
    "call",
    [
        lambda: visca.drive(25, 0), lambda: visca.zoom(9), lambda: visca.preset("set", 128), lambda: visca.zoom_to(-1),
        lambda: visca.preset("paint", 1), lambda: visca.move_to(40000, 0), lambda: visca.move_to(0, 0, 0, 1),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(call: Callable[[], Command]) -> None:
    with pytest.raises(ValueError):
        call()


def test_visca_replies() -> None:
    data = bytes.fromhex("90 41 FF 90 51 FF 90 60 02 FF A0 61 41 FF 90 50 02 FF 88 30 03 FF 90 38 FF 12 FF")
    parser = ViscaParser()
    replies = parser.receive_data(data)
    assert [(each.kind, each.address, each.socket) for each in replies] == [
        (ReplyKind.ACK, 1, 1), (ReplyKind.COMPLETION, 1, 1), (ReplyKind.ERROR, 1, 0), (ReplyKind.ERROR, 2, 1),
        (ReplyKind.COMPLETION, 1, 0), (ReplyKind.ADDRESS, 0, 0), (ReplyKind.CHANGED, 1, 0),
    ]  # fmt: skip
    assert "does not know" in replies[2].reason
    assert "can't do this now" in replies[3].reason
    assert parser.discarded == 2


def test_visca_over_ip() -> None:
    sent = visca.Datagram(PayloadType.COMMAND, 7, visca.HOME.frame(1)).encode()
    assert sent == bytes.fromhex("01 00 00 05 00 00 00 07 81 01 06 04 FF")
    assert visca.SEQUENCE_TO_ZERO.encode() == bytes.fromhex("02 00 00 01 00 00 00 00 01")
    reply = visca.parse_datagram(bytes.fromhex("01 11 00 03 00 00 00 07 90 41 FF"))
    assert reply == visca.Datagram(PayloadType.REPLY, 7, bytes.fromhex("90 41 FF"))


@given(st.binary(max_size=40))
def test_a_datagram_is_whole_or_none(data: bytes) -> None:
    found = visca.parse_datagram(data)
    assert found is None or found.encode() == data


@given(st.integers(-0x8000, 0x7FFF))
def test_nibbles_go_both_ways(value: int) -> None:
    assert visca.from_nibbles(visca.nibbles(value), signed=True) == value


def test_crystalfontz_packets() -> None:
    assert crc16(b"123456789") == 0x906E
    assert Packet(crystalfontz.WRITE_TEXT, b"\x00\x01Hi").encode()[:6] == b"\x1f\x04\x00\x01Hi"
    parser = PacketParser()
    damaged = bytearray(Packet(0x80, b"\x01").encode())
    damaged[2] ^= 1
    found = parser.receive_data(bytes(damaged) + Packet(0x80, b"\x06").encode() + Packet(0x80, b"\x07").encode())
    assert [packet.pressed for packet in found] == [Key.EXIT, None]
    assert parser.discarded == len(damaged)


def test_matrix_orbital_text_holds_no_command() -> None:
    assert matrix_orbital.write_text(1, 2, b"a\xfeX") == bytes([0xFE, 0x47, 3, 2]) + b"a?X"


def test_a_position_is_put_together() -> None:
    parser, position = NmeaParser(), Position()
    data = b"".join(
        map(
            sentence,
            (
                "GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1",
                "GPGGA,123519,4807.038,N,01131.000,W,1,08,0.9,545.4,M,46.9,M,,",
                "GPRMC,123519.5,A,4807.038,N,01131.000,W,022.4,084.4,230326,003.1,W",
            ),
        )
    )
    assert all(position.apply(each) for each in parser.receive_data(data))
    assert (position.latitude, position.longitude, position.altitude) == (48.1173, -11.5166667, 545.4)
    assert position.quality is FixQuality.THREE_D
    assert position.time == datetime(2026, 3, 23, 12, 35, 19, 500_000, UTC)
    assert position.time_valid


def test_a_lost_fix_leaves_no_position() -> None:
    parser, position = NmeaParser(), Position()
    for body in ("GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,,M,,", "GPRMC,123520,V,,,,,,,230326,,"):
        for each in parser.receive_data(sentence(body)):
            position.apply(each)
    assert position.quality is FixQuality.NONE
    assert position.latitude is None
    assert not position.time_valid


def test_a_wrong_checksum_counts() -> None:
    parser = NmeaParser()
    assert parser.receive_data(b"$GPGSV,1,1,04*00\r\n") == []
    assert parser.corrupt == 1


@given(
    st.lists(st.text(alphabet="0123456789.,-NSEWAV", max_size=12), max_size=22),
    st.sampled_from(["GGA", "RMC", "GSA", "GSV"]),
)
def test_any_fields_are_taken(fields: list[str], kind: str) -> None:
    position = Position()
    for each in NmeaParser().receive_data(sentence(f"GP{kind},{','.join(fields)}")):
        assert position.apply(each)
    assert position.latitude is None or -91 < position.latitude < 91
