"""Captures of what real encoders sent, whole, in pieces, and broken."""

from __future__ import annotations

import itertools
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.rtmp import Audio, Event, Unpublish, Video
from tests.kit.rtmp_corpus import BROKEN, GOOD, capture, events_of, frames_of, pieces_of


@pytest.mark.parametrize(
    ("name", "video", "audio", "keyframes"),
    [
        ("h264-aac", "H264", "AAC", [0, 25]),
        ("h264-aac-chunks-of-128", "H264", "AAC", [0, 25]),
        # Open GOP: the second key frame comes before three frames that are shown first.
        ("h265-aac", "H265", "AAC", [0, 22]),
        ("av1-opus", "AV1", "OPUS", [0, 25]),
        ("vp9-aac", "VP9", "AAC", [0]),
        ("multitrack", "H264", "AAC", [0, 25]),
        ("audio-alone", "", "AAC", []),
    ],
)
def test_every_frame_of_a_capture_is_there(name: str, video: str, audio: str, keyframes: list[int]) -> None:
    events, error = events_of([capture(name)])
    assert error == ""
    assert isinstance(events[-1], Unpublish)
    frames, reports = frames_of(events)
    pictures = [frame for frame in frames if frame[0].is_video]
    sounds = [frame for frame in frames if frame[0].is_audio]
    assert {frame[0].codec.value for frame in pictures} == ({video} if video else set())
    assert {frame[0].codec.value for frame in sounds} == {audio}
    if video:
        assert len(pictures) == 50
        assert [index for index, frame in enumerate(pictures) if frame[3]] == keyframes
        first = pictures[0][1]
        assert {(frame[0].width, frame[0].height) for frame in pictures} == {(128, 72)}
        assert sorted(frame[1] for frame in pictures) == pytest.approx([first + 3600 * n for n in range(50)], abs=90)
        assert all(after[2] > before[2] for before, after in itertools.pairwise(pictures))
    assert len(sounds) >= 93
    assert {frame[0].sample_rate for frame in sounds} == {48000}
    expected = ["video track 1 of a multitrack publisher ignored", "audio track 1 of a multitrack publisher ignored"]
    assert reports == (expected if name == "multitrack" else [])


def test_the_size_of_chunks_makes_no_difference() -> None:
    def media(name: str) -> list[Event]:
        return [event for event in events_of([capture(name)])[0] if isinstance(event, Video | Audio)]

    assert media("h264-aac") == media("h264-aac-chunks-of-128")


@pytest.mark.parametrize("name", GOOD)
def test_byte_by_byte_gives_the_same(name: str) -> None:
    data = capture(name)[:20_000]
    assert events_of(data[at : at + 1] for at in range(len(data))) == events_of([data])


@pytest.mark.parametrize("name", GOOD + BROKEN)
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=30))
def test_pieces_make_no_difference(name: str, cuts: list[int]) -> None:
    data = capture(name)
    whole, error = events_of([data])
    pieces, same_error = events_of(pieces_of(data, cuts))
    assert error == same_error
    # Before an error, what came in the same piece as it is lost with it.
    assert pieces[: len(whole)] == whole
    assert error or pieces == whole


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("broken-version-six", "version 6"),
        ("broken-http", "version 71"),
        ("broken-chunk-size-zero", "Set Chunk Size"),
        ("broken-length-of-16-mib", "16777215 bytes in progress"),
        ("broken-type-three-first", "type 3"),
        ("broken-cut-in-a-message", ""),
    ],
)
def test_each_fault_has_its_name(name: str, error: str) -> None:
    assert error in events_of([capture(name)])[1]
    assert bool(error) == bool(events_of([capture(name)])[1])


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=25, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 255)), min_size=1, max_size=8),
    lost=st.tuples(st.integers(3000, 30_000), st.integers(0, 40)),
)
def test_a_mutated_capture_gives_events_or_a_protocol_error(
    name: str, changes: list[tuple[int, int]], lost: tuple[int, int]
) -> None:
    data = bytearray(capture(name))
    for place, value in changes:
        data[place % len(data)] = value
    del data[lost[0] : lost[0] + lost[1]]
    start = time.thread_time()
    events, _ = events_of([bytes(data)])
    frames_of(events)
    assert time.thread_time() - start < 0.1


@pytest.mark.parametrize("length", [0, 1, 0x7FFF, 0xFFFF, 0x10000, 0xFFFFFE, 0xFFFFFF])
def test_any_length_field_is_survived(length: int) -> None:
    """Right behind the handshake, where nobody is known yet."""
    data = bytearray(capture("h264-aac"))
    data[3073 + 4 : 3073 + 7] = length.to_bytes(3, "big")
    events, error = events_of([bytes(data)])
    assert bool(error) == (length > 0xFFFF) or not events


@pytest.mark.parametrize("name", GOOD + BROKEN)
def test_memory_stays_near_what_was_sent(name: str) -> None:
    data = capture(name)
    tracemalloc.start()
    try:
        for _ in range(3):
            events_of(pieces_of(data, range(0, len(data), 1000)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 64 * 1024 + 8 * len(data)
