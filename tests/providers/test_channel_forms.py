"""Channels as requests and as files: one model, whatever is sent or lies there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.media.channel_text import wall_time
from appliance.providers import multiplex, schedule
from appliance.transcoder.playout.model import Item

NOW = 1_795_000_000_000_000_000
ITEM = {"url": "file://sample.mp4", "start": 0, "duration": 60000}
TV: dict[str, Any] = {
    "stream": {"name": "tv", "audioMap": [{"name": "English", "language": "en"}, {"name": "Deutsch"}]},
    "fallbackProgram": {"items": [ITEM]},
    "programs": [
        {"name": "1", "scheduled": "2023-11-13T20:57:00.000+09", "repeat": True, "items": [ITEM]},
        {"scheduled": "2099-01-01T00:00:00Z", "items": [{"url": "stream://default/app/live", "fallbackOnErr": False}]},
    ],
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00", 0), ("1970-01-01T09:00:01+09", 1),
        ("1970-01-01T09:00:01+0900", 1), ("1970-01-01T09:00:01.500+09:00", 1.5), ("1969-12-31T19:00:00-05:00", 0),
        ("2023-11-13T20:57:00.000+09", 1699876620),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert wall_time(text) == seconds * 1_000_000_000


@pytest.mark.parametrize(
    "text",
    ["", "banana", "2023-13-01T00:00:00Z", "2023-01-01", "2023-01-01T00:00:00+99", "\u0662023-01-01T00:00:00Z"],
)
def test_no_times(text: str) -> None:
    with pytest.raises(BadRequest, match="Invalid ISO 8601 string"):
        wall_time(text)


def test_a_request_and_its_file_say_the_same() -> None:
    made = schedule.from_json(TV, NOW)
    assert schedule.from_xml(schedule.to_xml(made), "tv") == made
    assert [program.name for program in made.programs] == ["1", "program-2"]
    assert made.programs[1].items == (Item("stream://default/app/live", 0, -1, False),)
    assert made.fallback is not None
    assert made.fallback.repeat


def test_programs_that_are_over_are_left_out_of_requests_alone() -> None:
    body = {"stream": {"name": "tv"}, "programs": [
        {"scheduled": f"20{year}-01-01T00:00:00Z", "items": []} for year in (20, 21, 22)
    ]}  # fmt: skip
    assert [each.scheduled[:4] for each in schedule.from_json(body, NOW).programs] == ["2022"]
    file = b"<Schedule><Stream/>" + b"".join(
        b"<Program scheduled='20%d-01-01T00:00:00Z'/>" % year for year in (20, 21, 22)
    )
    assert len(schedule.from_xml(file + b"</Schedule>", "tv").programs) == 3


def changed(**parts: Any) -> dict[str, Any]:
    return {**TV, **parts}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([], "Invalid request body"),
        ({}, "Failed to find Stream object"),
        ({"stream": []}, "Failed to find Stream object"),
        ({"stream": {}}, "Failed to find Stream.Name object"),
        ({"stream": {"name": 1}}, "Failed to find Stream.Name object"),
        ({"stream": {"name": "../x"}}, r"Invalid channel name: \[\.\./x\]"),
        ({"stream": {"name": "a", "audioMap": {}}}, "audioMap must be an array"),
        ({"stream": {"name": "a", "videoTrack": "x"}}, r"\[videoTrack\] must be true or false"),
        ({"stream": {"name": "a", "videoTrack": False, "audioTrack": False}}, "One of videoTrack and audioTrack"),
        (changed(fallbackProgram=[]), "FallbackProgram must be an object"),
        (changed(programs={}), "programs must be an array"),
        (changed(programs=[{}]), "Failed to find scheduled object, scheduled is required"),
        (changed(programs=[{"scheduled": "x"}]), "Failed to parse scheduled attribute: Invalid ISO 8601 string"),
        (changed(fallbackProgram={"items": {}}), "items must be an array"),
        (changed(fallbackProgram={"items": [{}]}), "Failed to find url object, url is required"),
        (changed(fallbackProgram={"items": [{"url": "http://x"}]}), "url must be file:// or stream://"),
        (changed(fallbackProgram={"items": [{"url": "stream://x"}]}), "a stream is stream://vhost/app/stream"),
        (changed(fallbackProgram={"items": [{"url": "file://../x"}]}), "may not be above its folder"),
        (changed(fallbackProgram={"items": [{**ITEM, "start": "abc"}]}), r"\[start\] must be an integer"),
        (changed(fallbackProgram={"items": [{**ITEM, "start": True}]}), r"\[start\] must be an integer"),
        (changed(fallbackProgram={"items": [{**ITEM, "duration": -2}]}), r"\[duration\] must be between"),
    ],
)
def test_wrong_schedules(body: Any, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        schedule.from_json(body, NOW)


def test_a_patch_changes_what_it_names() -> None:
    made = schedule.from_json(TV, NOW)
    assert schedule.patched(made, {}, NOW) == made
    assert schedule.patched(made, {"fallbackProgram": None}, NOW).fallback is None
    assert schedule.patched(made, {"programs": []}, NOW).programs == ()
    assert schedule.patched(made, {"programs": []}, NOW).fallback == made.fallback
    with pytest.raises(BadRequest, match=r"Cannot change \[stream\] using this API"):
        schedule.patched(made, {"stream": {"name": "tv"}}, NOW)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "It is no XML"),
        (b"<Schedule>", "It is no XML"),
        (b"<Multiplex/>", "begins with <Multiplex>"),
        (b"<Schedule/>", "no <Stream>"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><Schedule><Stream/></Schedule>", "DOCTYPE"),
        (b"<Schedule>\n<Stream/>\n<Program/></Schedule>", "line 3: Failed to find scheduled object"),
        (b"<Schedule><Stream/><Program scheduled='x'/></Schedule>", "line 1: .*ISO 8601"),
        (b"<Schedule><Stream/><FallbackProgram>\n<Item url='ftp://x'/></FallbackProgram></Schedule>", "line 2: .*url"),
        (b"<Schedule><Stream/><FallbackProgram><Item url='file://x' start='a'/></FallbackProgram></Schedule>", "numb"),
        (b"<Schedule><Stream><VideoTrack>yes</VideoTrack></Stream></Schedule>", "neither true nor false"),
    ],
)
def test_broken_schedule_files(file: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        schedule.from_xml(file, "tv")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["file://a", "stream://a/b/c"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(
        st.sampled_from(["stream", "name", "programs", "items", "url", "scheduled", "audioMap", "fallbackProgram",
                         "outputStream", "sourceStreams", "trackMap", "sourceTrackName", "newTrackName", "playlists",
                         "fileName", "renditions", "options"]), below, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(JSON)
def test_whatever_is_sent_is_taken_or_refused(body: Any) -> None:
    for read in (lambda: schedule.from_json(body, NOW), lambda: multiplex.from_json(body)):
        with suppress(BadRequest):
            read()


@given(st.binary(max_size=200) | st.text(alphabet="<>/ ='\"SchedulMtipxrogamIn0", max_size=80).map(str.encode))
def test_whatever_lies_there_is_taken_or_refused(file: bytes) -> None:
    for read in (schedule.from_xml, multiplex.from_xml):
        with suppress(BadRequest):
            read(file, "tv")


MUX: dict[str, Any] = {
    "outputStream": {"name": "mux1"},
    "sourceStreams": [
        {"name": "in1", "url": "stream://default/app/live1", "trackMap": [
            {"sourceTrackName": "video", "newTrackName": "v1", "bitrateConf": 4_000_000, "framerateConf": 30},
            {"sourceTrackName": "audio", "newTrackName": "a1"}]},
        {"name": "in2", "url": "stream://default/app/live2", "trackMap": [
            {"sourceTrackName": "video", "newTrackName": "v2"}]},
    ],
    "playlists": [
        {"name": "ABR", "fileName": "abr", "options": {"webrtcAutoAbr": True, "hlsChunklistPathDepth": 0},
         "renditions": [
             {"name": "1", "video": "v1", "audio": "a1", "videoIndexHint": 0}, {"name": "2", "video": "v2"}]},
        {"name": "dropped", "fileName": "dropped"},
    ],
}  # fmt: skip


def test_a_multiplex_and_its_file_say_the_same() -> None:
    made = multiplex.from_json(MUX)
    assert multiplex.from_xml(multiplex.to_xml(made), "mux1") == made
    assert [playlist.file_name for playlist in made.playlists] == ["abr"]
    assert made.sources[0].tracks[0].bitrate == 4_000_000
    assert multiplex.patched(made, {"playlists": None}).playlists == ()
    with pytest.raises(BadRequest, match=r"Cannot change \[outputStream\]"):
        multiplex.patched(made, {"outputStream": {}})


SOURCE = MUX["sourceStreams"][0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "Invalid request body"),
        ({}, "Failed to find outputStream object"),
        ({"outputStream": {}}, "Failed to find outputStream/name object"),
        ({"outputStream": {"name": "m"}}, "Failed to find sourceStreams object"),
        ({**MUX, "sourceStreams": []}, "Failed to find sourceStreams object"),
        ({**MUX, "sourceStreams": [{}]}, "Failed to find sourceStreams/name object"),
        ({**MUX, "sourceStreams": [{"name": "s"}]}, "Failed to find sourceStreams/url object"),
        ({**MUX, "sourceStreams": [{**SOURCE, "url": "rtmp://x"}]}, "Failed to parse url: rtmp://x"),
        ({**MUX, "sourceStreams": [{"name": "s", "url": SOURCE["url"]}]}, "sourceStreams/trackMap object"),
        ({**MUX, "sourceStreams": [{**SOURCE, "trackMap": [{}]}]}, "trackMap/sourceTrackName object"),
        ({**MUX, "sourceStreams": [SOURCE]}, "Failed to find video variant name v2 in SourceStream/TrackMap object"),
        ({**MUX, "sourceStreams": [SOURCE, SOURCE]}, "Duplicate name: v1"),
        ({**MUX, "playlists": [{"fileName": "f"}]}, "Failed to find playlists/name object"),
        ({**MUX, "playlists": [{"name": "f"}]}, "Failed to find playlists/fileName object"),
        ({**MUX, "playlists": [{"name": "f", "fileName": "f", "renditions": [{}]}]}, "renditions/name object"),
        ({**MUX, "outputStream": {"name": "m", "bypassTranscoder": "x"}}, "must be true or false"),
    ],
)
def test_wrong_multiplexes(body: Any, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        multiplex.from_json(body)
