"""Splice information sections are read back as they were written, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols.mpegts.psi import crc32
from appliance.protocols.scte35 import SpliceInsert, read_splice_insert, splice_insert

TICKS = (1 << 33) - 1
#: SCTE 35 2023, 14.3: splice_insert with a pre-roll and a break of 60.3 s.
STANDARD = bytes.fromhex(
    "fc302f000000000000fffff014054800008f7feffe73"
    "69c02efe0052ccf500000000000a0008435545490000013562dba30a"
)


@given(st.integers(0, 2**32 - 1), st.integers(0, TICKS), st.booleans(), st.integers(0, TICKS), st.booleans())
def test_what_is_written_is_read(number: int, time: int, out: bool, duration: int, back: bool) -> None:
    data = splice_insert(number, time, out=out, duration=duration, auto_return=back)
    assert read_splice_insert(data) == SpliceInsert(number, out, time, duration, back and duration > 0)


def test_the_example_of_the_standard() -> None:
    assert read_splice_insert(STANDARD) == SpliceInsert(0x4800008F, True, 0x07369C02E, 0x00052CCF5, True)


@given(st.binary(max_size=60))
def test_whatever_comes_it_is_read_or_refused(body: bytes) -> None:
    head = bytes((0xFC, 0x30, (len(body) + 15) & 255)) + bytes(9) + b"\xf0\x05" + body
    for data in (body, head + crc32(head).to_bytes(4, "big")):
        try:
            read_splice_insert(data)
        except RemoteProtocolError:
            continue


def test_a_wrong_check_sum() -> None:
    with pytest.raises(RemoteProtocolError):
        read_splice_insert(STANDARD[:-1] + b"\0")
