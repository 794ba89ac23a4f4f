"""Subtitles as a rendition of their own, part by part with the picture."""

from __future__ import annotations

import re

import msgspec
import trio

from appliance.media.events import Subtitle, event_packet
from appliance.settings.models import MediaOptions, OutputProfiles, SubtitleRendition, Subtitles
from tests.conformance.llhls.playlist import parse_media
from tests.publishers.llhls.kit import Feed, Station, audio_track, play, station, video_track

AV = (video_track(), audio_track())
WANTED = Subtitles(
    enable=True, default_label="English",
    renditions=(
        SubtitleRendition(label="English", language="en", auto_select=True),
        SubtitleRendition(label="한국어", language="ko", forced=True),
    ),
)  # fmt: skip


def with_subtitles(box: Station) -> None:
    options = OutputProfiles(media_options=MediaOptions(subtitles=WANTED))
    box.application = msgspec.structs.replace(box.application, output_profiles=options)


def say(text: str, start: int, duration: int, label: str = "English", settings: str = "") -> object:
    return event_packet(Subtitle(label, text, start, duration, settings), start)


async def test_the_master_lists_them(autojump_clock: trio.testing.MockClock) -> None:
    async with station() as box:
        with_subtitles(box)
        await play(box.start(AV), Feed(AV), 5.0)
        text = (await box.get("master.m3u8")).text
        listed = [line for line in text.splitlines() if "TYPE=SUBTITLES" in line]
        assert len(listed) == 2
        assert 'NAME="English",DEFAULT=YES,AUTOSELECT=YES,FORCED=NO,LANGUAGE="en"' in listed[0]
        assert 'NAME="한국어",DEFAULT=NO,AUTOSELECT=NO,FORCED=YES,LANGUAGE="ko"' in listed[1]
        assert all('SUBTITLES="subtitle"' in line for line in text.splitlines() if "STREAM-INF" in line)


async def test_a_cue_is_in_every_part_and_segment_of_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async with station() as box:
        with_subtitles(box)
        stream, feed = box.start(AV), Feed(AV)
        await play(stream, feed, 5.0)
        stream.inject(say("one --> two\n\n\nthree", 5_000, 1_800, settings="line:0 --> \n"))  # type: ignore[arg-type]
        stream.inject(say("later", 7_200, 300))  # type: ignore[arg-type]
        stream.inject(say("not here", 5_000, 300, "한국어"))  # type: ignore[arg-type]
        await play(stream, feed, 5.0)
        live = box.live()
        window = live.subtitles["English"]
        text = (await box.get(window.playlist_name)).text
        video = (await box.get(live.windows[0].playlist_name)).text
        ours, theirs = parse_media("ours", text), parse_media("theirs", video)
        assert [one.duration for one in ours.segments] == [one.duration for one in theirs.segments]
        assert "EXT-X-MAP" not in text
        bodies = {}
        for name in re.findall(r"(?:seg|part)_\w+_subtitle_\w+\.vtt", text):
            response = await box.get(name)
            if response.status_code == 200:
                assert response.headers["content-type"] == "text/vtt"
                assert response.text.startswith("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n")
                bodies[name] = response.text
        cue = "00:00:05.000 --> 00:00:06.800 line:0\none --&gt; two\nthree\n\n"
        segments = [body for name, body in bodies.items() if name.startswith("seg_")]
        assert [cue in body for body in segments[-3:]] == [False, True, True]
        assert ["later" in body for body in segments[-3:]] == [False, False, True]
        assert not any("not here" in body for body in bodies.values())
        assert all(body.count("one --&gt;") <= 1 for body in bodies.values())


async def test_playlists_wait_and_the_end_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with station() as box:
        with_subtitles(box)
        stream, feed = box.start(AV), Feed(AV)
        await play(stream, feed, 5.0)
        window = box.live().subtitles["English"]
        msn, part = window.next_msn, window.next_part
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, stream, feed, 2.0)
            answer = await box.get(f"{window.playlist_name}?_HLS_msn={msn}&_HLS_part={part}")
        assert f'{window.part_name(msn, part)}"' in answer.text
        stream.close()
        await trio.sleep(5)
        assert (await box.get(window.playlist_name)).text.endswith("#EXT-X-ENDLIST\n")
