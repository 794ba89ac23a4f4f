"""The bit reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs.bits import BitReader, unescape


@given(st.binary(min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=20))
def test_bits_are_the_number_cut_in_pieces(data: bytes, sizes: list[int]) -> None:
    reader, text = BitReader(data), "".join(f"{byte:08b}" for byte in data)
    for size in sizes:
        if size > reader.left:
            with pytest.raises(RemoteProtocolError):
                reader.bits(size)
            return
        expected, text = text[:size], text[size:]
        assert reader.bits(size) == int(expected or "0", 2)
    assert reader.left == len(text)


@given(st.lists(st.integers(0, 2**32 - 2), max_size=20))
def test_exp_golomb_numbers_come_back(numbers: list[int]) -> None:
    text = "".join("0" * ((number + 1).bit_length() - 1) + f"{number + 1:b}" for number in numbers)
    padded = text + "0" * (-len(text) % 8)
    reader = BitReader(int("1" + padded, 2).to_bytes(len(padded) // 8 + 1, "big")[1:])
    assert [reader.ue() for _ in numbers] == numbers
    assert reader.position == len(text)


def test_signed_exp_golomb_alternates() -> None:
    reader = BitReader(bytes([0b1_010_011_0, 0b0100_0010, 0b1_0000000]))
    assert [reader.se() for _ in range(5)] == [0, 1, -1, 2, -2]


def test_reading_past_the_end_and_endless_zeros_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        BitReader(b"").flag()
    with pytest.raises(RemoteProtocolError):
        BitReader(b"\0").skip(9)
    with pytest.raises(RemoteProtocolError, match="too long"):
        BitReader(bytes(9)).ue()
    with pytest.raises(RemoteProtocolError, match="width 6 is out of range"):
        BitReader(b"\x38").ue_below(6, "width")


def test_emulation_prevention_bytes_go() -> None:
    assert unescape(b"\1\0\0\3\1\0\0\3\0\0\3") == b"\1\0\0\1\0\0\0\0"
    plain = b"\0\3\0\1"
    assert unescape(plain) is plain
