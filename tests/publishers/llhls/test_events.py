"""Events among the media: where players find them in parts and playlists."""

from __future__ import annotations

import re
import struct

import httpx
import trio

from appliance.media.events import Conclusion, Cue, CueType, Splice, Target, TimedMetadata, event_packet
from appliance.protocols.id3 import Frame, build_tag
from appliance.protocols.mpegts.psi import crc32
from tests.publishers.llhls.kit import Feed, Station, audio_track, play, station, video_track

AV = (video_track(), audio_track())
TAG = build_tag([Frame("TXXX", "who", "Émile")])


async def chunklist(box: Station, kind: str) -> str:
    master = (await box.get("master.m3u8")).text
    found = re.search(rf"\S*chunklist_\d+_{kind}_\w+\.m3u8", master.replace('"', "\n"))
    assert found is not None
    return str(httpx.URL("http://box/app/cam/").join(found[0]))


async def messages(box: Station, kind: str) -> list[tuple[int, bytes]]:
    """Presentation time and tag of each event message in the listed segments and parts."""
    text = (await box.get(await chunklist(box, kind))).text
    found = []
    for name in dict.fromkeys(re.findall(r'(?:URI="|\n)(part_\w+\.m4s)', text)):
        response = await box.get(name)
        if response.status_code != 200:
            continue
        data = response.content
        while data[4:8] == b"emsg":
            size = int.from_bytes(data[:4], "big")
            assert b"https://aomedia.org/emsg/ID3\0" in data[:size]
            found.append((struct.unpack_from(">Q", data, 16)[0], data[data.index(b"ID3\x04") : size]))
            data = data[size:]
    return found


async def test_timed_metadata_is_in_the_part_of_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async with station() as box:
        stream = box.start(AV)
        feed = Feed(AV)
        await play(stream, feed, 5.0)
        stream.inject(event_packet(TimedMetadata(TAG), 5_700))
        await play(stream, feed, 2.0)
        assert await messages(box, "video") == [(5_700 * 90, TAG)]
        assert await messages(box, "audio") == [(5_700 * 48, TAG)]


async def test_the_target_chooses_the_tracks(autojump_clock: trio.testing.MockClock) -> None:
    async with station() as box:
        stream = box.start(AV)
        feed = Feed(AV)
        await play(stream, feed, 5.0)
        stream.inject(event_packet(TimedMetadata(TAG), 5_000, Target.AUDIO))
        await play(stream, feed, 2.0)
        assert await messages(box, "video") == []
        assert len(await messages(box, "audio")) == 1


async def test_what_comes_late_is_in_the_next_part_and_not_before_its_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with station() as box:
        stream = box.start(AV)
        feed = Feed(AV)
        await play(stream, feed, 5.0)
        stream.inject(event_packet(TimedMetadata(TAG), 1_000))
        await play(stream, feed, 2.0)
        ((time, _),) = await messages(box, "video")
        assert 4.0 <= time / 90_000 <= 5.1


async def test_a_splice_begins_a_segment_with_a_date_range(autojump_clock: trio.testing.MockClock) -> None:
    async with station(segment_count=20) as box:
        stream = box.start(AV)
        feed = Feed(AV)
        await play(stream, feed, 5.5)
        stream.inject(event_packet(Splice(7, out=True, duration=3_000), 5_500))
        await play(stream, feed, 3.0)
        stream.inject(event_packet(Splice(7, out=False), 8_500))
        await play(stream, feed, 3.0)
        for kind in ("video", "audio"):
            text = (await box.get(await chunklist(box, kind))).text
            out = re.search(
                r'#EXT-X-PROGRAM-DATE-TIME:(\S+)\n#EXT-X-DATERANGE:ID="(splice-7-\d+)",START-DATE="(\S+?)",'
                r"PLANNED-DURATION=3.000,SCTE35-OUT=0x([0-9A-F]+)\n", text
            )  # fmt: skip
            assert out is not None
            # Audio frames begin a little behind the boundary.
            assert out[1][:21] == out[3][:21]
            back = re.search(r'ID="(\S+)",START-DATE="(\S+?)",DURATION=(\S+?),SCTE35-IN=0x([0-9A-F]+)\n', text)
            assert back is not None
            assert (back[1], back[2]) == (out[2], out[3])
            assert 2.5 <= float(back[3]) <= 3.5
            for section in (out[4], back[4]):
                data = bytes.fromhex(section)
                assert data[0] == 0xFC
                assert crc32(data) == 0
                assert len(data) == 3 + (int.from_bytes(data[1:3], "big") & 0xFFF)


async def test_a_cue_is_told_until_it_is_in(autojump_clock: trio.testing.MockClock) -> None:
    async with station(segment_count=20) as box:
        stream = box.start(AV)
        feed = Feed(AV)
        await play(stream, feed, 4.5)
        stream.inject(event_packet(Cue(CueType.OUT, 10_000), 4_500))
        await play(stream, feed, 4.0)
        stream.inject(event_packet(Cue(CueType.IN), 8_500))
        await play(stream, feed, 3.0)
        text = (await box.get(await chunklist(box, "video"))).text
        told = re.findall(r"#EXT-X-CUE\S+", text)
        assert told[0] == "#EXT-X-CUE-OUT:DURATION=10.000"
        assert told[-1] == "#EXT-X-CUE-IN"
        assert all(re.fullmatch(r"#EXT-X-CUE-OUT-CONT:ElapsedTime=\S+,Duration=10.000", one) for one in told[1:-1])
        assert len(told) >= 3


async def test_a_conclusion_makes_a_recorded_programme_of_it(autojump_clock: trio.testing.MockClock) -> None:
    async with station() as box:
        stream = box.start(AV)
        feed = Feed(AV)
        await play(stream, feed, 5.3)
        for _ in range(2):
            stream.inject(event_packet(Conclusion(), 5_300))
        await play(stream, feed, 20.0)
        text = (await box.get(await chunklist(box, "video"))).text
        assert text.endswith("#EXT-X-ENDLIST\n")
        assert 4.9 <= sum(map(float, re.findall(r"#EXTINF:([\d.]+)", text))) <= 5.4
        segments = re.findall(r"\n(seg_\S+)", text)
        assert [(await box.get(name)).status_code for name in segments] == [200] * len(segments)


async def test_a_delta_update_leaves_out_segments_but_no_date_range(autojump_clock: trio.testing.MockClock) -> None:
    async with station(segment_count=30) as box:
        stream = box.start(AV)
        feed = Feed(AV)
        await play(stream, feed, 4.5)
        stream.inject(event_packet(Splice(7, out=True), 4_500))
        await play(stream, feed, 30.0)
        text = (await box.get(f"{await chunklist(box, 'video')}?_HLS_skip=YES")).text
        assert "#EXT-X-SKIP:SKIPPED-SEGMENTS=" in text
        assert text.count("#EXT-X-DATERANGE:") == 1
