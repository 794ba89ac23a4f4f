"""ID3 tags, SCTE 35 sections and WebVTT documents, read back by hand as their standards have them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.protocols.id3 import Frame, build_tag
from appliance.protocols.mpegts.psi import crc32
from appliance.protocols.scte35 import splice_insert
from appliance.protocols.webvtt import Cue, document, timestamp

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)


def syncsafe(data: bytes) -> int:
    assert all(byte < 0x80 for byte in data)
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]


def frames_of(tag: bytes) -> list[tuple[str, bytes]]:
    assert tag[:6] == b"ID3\x04\0\0"
    assert syncsafe(tag[6:10]) == len(tag) - 10
    found = []
    at = 10
    while at < len(tag):
        size = syncsafe(tag[at + 4 : at + 8])
        assert tag[at + 8 : at + 10] == b"\0\0"
        found.append((tag[at : at + 4].decode(), tag[at + 10 : at + 10 + size]))
        at += 10 + size
    assert at == len(tag)
    return found


@given(st.lists(st.tuples(st.sampled_from(["TXXX", "TIT2", "PRIV"]), TEXT, TEXT), max_size=8))
def test_a_tag_says_what_was_asked(wanted: list[tuple[str, str, str]]) -> None:
    found = frames_of(build_tag([Frame(*each) for each in wanted]))
    assert len(found) == len(wanted)
    for (kind, content), (asked, info, data) in zip(found, wanted, strict=True):
        assert kind == asked
        if kind == "TXXX":
            assert content == b"\x03" + info.encode() + b"\0" + data.encode()
        elif kind == "PRIV":
            assert content == info.encode() + b"\0" + data.encode()
        else:
            assert content == b"\x03" + data.encode()


def test_what_is_no_frame_is_refused() -> None:
    for kind in ("APIC", "T", "txxx", "TXX", ""):
        with pytest.raises(BadRequest, match="frameType is not supported"):
            build_tag([Frame(kind, "", "")])
    with pytest.raises(BadRequest, match="too long"):
        build_tag([Frame("TXXX", "", "x" * 70_000)])


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2**34), st.booleans(), st.integers(0, 2**33 - 1), st.booleans()
)
def test_a_splice_is_read_back(number: int, time: int, out: bool, duration: int, auto_return: bool) -> None:
    section = splice_insert(number, time, out=out, duration=duration, auto_return=auto_return)
    assert crc32(section) == 0
    assert section[0] == 0xFC
    assert int.from_bytes(section[1:3], "big") & 0xFFF == len(section) - 3
    tier_and_length = int.from_bytes(section[10:13], "big")
    assert tier_and_length >> 12 == 0xFFF
    assert section[13] == 5
    command = section[14 : 14 + (tier_and_length & 0xFFF)]
    assert section[14 + len(command) : -4] == b"\0\0"
    assert int.from_bytes(command[:4], "big") == number
    assert command[4] >> 7 == 0
    flags = command[5]
    assert (flags >> 7, flags >> 6 & 1, flags >> 5 & 1, flags >> 4 & 1) == (out, 1, duration > 0, 0)
    assert command[6] >> 7 == 1
    assert int.from_bytes(command[6:11], "big") & (1 << 33) - 1 == time % (1 << 33)
    rest = command[11:]
    if duration:
        assert rest[0] >> 7 == auto_return
        assert int.from_bytes(rest[:5], "big") & (1 << 33) - 1 == duration
        rest = rest[5:]
    assert len(rest) == 4


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6), TEXT, TEXT), max_size=5))
def test_a_document_has_as_many_cues_as_asked_whatever_they_say(cues: list[tuple[int, int, str, str]]) -> None:
    made = document([Cue(start, start + length, text, more) for start, length, text, more in cues], 90_000)
    text = made.decode()
    assert text.startswith("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:90000\n\n")
    assert len(re.findall(r"^\d\d+:\d\d:\d\d\.\d{3} --> \d\d+:\d\d:\d\d\.\d{3}", text, re.M)) == len(cues)
    assert text.count("-->") == len(cues)


def test_times() -> None:
    assert timestamp(0) == "00:00:00.000"
    assert timestamp(360_000_000 + 61_001) == "100:01:01.001"
    assert timestamp(-5) == "00:00:00.000"
