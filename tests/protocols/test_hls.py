from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocols import hls
from tests.conformance.llhls.playlist import attributes, parse_master, parse_media

CONTROL = hls.ServerControl(part_target=0.5, part_hold_back=1.5, hold_back=6.0, can_skip_until=12.0)


def test_a_media_playlist_is_read_back() -> None:
    text = (
        hls.media_head(target_duration=2, media_sequence=7, discontinuity_sequence=3, control=CONTROL)
        + hls.segment_head(discontinuity=False, init_uri="init.m4s", program_date_time=hls.date_time(0))
        + hls.segment(2.0, "seg_7.m4s")
        + hls.segment_head(discontinuity=True, init_uri="", program_date_time=hls.date_time(2_000_500_000))
        + hls.part(0.5, "part_8_0.m4s", independent=True)
        + hls.part(0.4, "part_8_1.m4s", independent=False)
        + hls.segment(0.9, "seg_8.m4s")
        + hls.segment(2.0, "seg_9.m4s", gap=True)
        + hls.preload_hint("part_10_0.m4s")
        + hls.rendition_report("audio.m3u8", 9, 1)
    )
    media = parse_media("http://h/", text)
    assert (media.version, media.target_duration, media.media_sequence) == (9, 2, 7)
    assert (media.part_target, media.discontinuity_sequence) == (0.5, 3)
    assert media.server_control == {
        "CAN-BLOCK-RELOAD": "YES",
        "CAN-SKIP-UNTIL": "12.000000",
        "PART-HOLD-BACK": "1.500000",
        "HOLD-BACK": "6.000000",
    }
    assert [(one.msn, one.duration, one.gap, one.discontinuity) for one in media.segments] == [
        (7, 2.0, False, False),
        (8, 0.9, False, True),
        (9, 2.0, True, False),
    ]
    assert [(part.duration, part.independent) for part in media.segments[1].parts] == [(0.5, True), (0.4, False)]
    assert {one.map for one in media.segments} == {"http://h/init.m4s"}
    assert media.segments[1].date_time == 2.0
    assert media.hint == "http://h/part_10_0.m4s"
    assert media.reports == [{"URI": "audio.m3u8", "LAST-MSN": "9", "LAST-PART": "1"}]


def test_without_low_latency_nothing_of_it_is_said() -> None:
    text = hls.media_head(target_duration=6, media_sequence=0, discontinuity_sequence=0, control=None)
    assert text == "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n"


def test_a_delta_says_how_many_it_skips() -> None:
    text = hls.media_head(target_duration=2, media_sequence=4, discontinuity_sequence=0, control=CONTROL)
    media = parse_media("http://h/", text + hls.skip(5) + hls.segment(2.0, "s.m4s"))
    assert (media.skipped, media.segments[0].msn) == (5, 9)


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_770_000_000_999_999_999, "2026-02-02T02:40:00.999Z"),
        (1_709_210_096_007_000_000, "2024-02-29T12:34:56.007Z"),
    ],
)
def test_dates(wall: int, text: str) -> None:
    assert hls.date_time(wall) == text


def test_a_multivariant_playlist() -> None:
    media = [
        hls.AudioMedia("aac", "Deutsch", "a1.m3u8", True, 2, "de", "public.easy-to-read"),
        hls.AudioMedia("aac", "English", "a2.m3u8", False),
    ]
    variants = [
        hls.Variant("v.m3u8", 5_000_000, 4_000_000, "avc1.64001e,mp4a.40.2", 1280, 720, 29.97, "aac"),
        hls.Variant("a.m3u8", 128_000, 0, "mp4a.40.2"),
    ]
    master = parse_master("http://h/", hls.multivariant(media, variants))
    assert master.independent
    assert master.variants[0] == (
        "http://h/v.m3u8",
        {
            "BANDWIDTH": "5000000", "AVERAGE-BANDWIDTH": "4000000", "RESOLUTION": "1280x720", "FRAME-RATE": "29.970",
            "CODECS": "avc1.64001e,mp4a.40.2", "AUDIO": "aac",
        },
    )  # fmt: skip
    assert master.variants[1][1] == {"BANDWIDTH": "128000", "CODECS": "mp4a.40.2"}
    assert master.media[0][1]["CHARACTERISTICS"] == "public.easy-to-read"
    assert master.media[1][1]["DEFAULT"] == "NO"


@given(st.text(max_size=40))
def test_no_name_breaks_an_attribute_list(name: str) -> None:
    found = attributes(f"NAME={hls.quoted(name)},URI={hls.quoted('x')}")
    assert found["URI"] == "x"


@given(st.text(max_size=40))
def test_no_query_breaks_a_playlist(value: str) -> None:
    text = hls.media_head(target_duration=2, media_sequence=4, discontinuity_sequence=0, control=CONTROL)
    text += hls.segment_head(discontinuity=False, init_uri="init.m4s", program_date_time=hls.date_time(0))
    text += hls.segment(2.0, "s.m4s") + hls.part(0.5, "p.m4s", independent=True) + hls.preload_hint("h.m4s")
    text += hls.rendition_report("o.m3u8", 1, 1)
    query = f"stream_key={hls.query_value(value)}"
    media = parse_media("http://h/", hls.with_query(text, query))
    uris = [media.segments[0].uri, media.segments[0].map, media.segments[1].parts[0].uri, media.hint]
    assert [uri.partition("?")[2] for uri in [*uris, media.reports[0]["URI"]]] == [query] * 5


def test_without_a_query_nothing_changes() -> None:
    assert hls.with_query("a.m4s\n", "") == "a.m4s\n"
