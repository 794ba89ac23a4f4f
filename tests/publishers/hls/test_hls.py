"""HLS with transport stream segments: what is listed plays, in ffmpeg too, and ends as it should."""

from __future__ import annotations

import gzip
import io
import re
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import av
import httpx
import msgspec
import trio
import trio.testing

from appliance.media.contracts import OutputStream, Playlist, Rendition, Source
from appliance.media.events import Conclusion, Splice, TimedMetadata, event_packet
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec, Track
from appliance.protocols.id3 import Frame, build_tag
from appliance.publishers.hls import HlsPublisher, claims
from appliance.settings.models import CrossDomains, Publishers
from appliance.settings.models import HlsPublisher as Settings
from tests.publishers.llhls.kit import Feed, Station, audio_track, play, station, video_track
from tests.publishers.llhls.media import encoded

AV = (video_track(), audio_track())


@asynccontextmanager
async def on_air(
    tracks: Sequence[Track] = AV, playlists: Sequence[Playlist] = (), **changes: object
) -> AsyncIterator[tuple[Station, Stream]]:
    """A stream of an application that publishes over HLS alone."""
    values: dict[str, object] = {
        "segment_duration": 2.0, "segment_count": 4, "cross_domains": CrossDomains(urls=("*",)),
    }  # fmt: skip
    async with station() as box:
        settings = Settings(**values | changes)  # type: ignore[arg-type]
        box.application = msgspec.structs.replace(box.application, publishers=Publishers(hls=settings))
        box.directory.settings = box.application
        publisher = HlsPublisher(box.context)
        transport = httpx.ASGITransport(app=publisher.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://box/app/cam/", timeout=None) as client:
            box.client = client
            stream = Stream("default/app/cam", tracks, clock=box.context.clock)
            box.directory.outputs["cam"] = stream
            output = OutputStream("default", "app", "cam", stream, box.application, list(playlists), Source("Test"))
            box.nursery.start_soon(publisher.run, output, lambda: None)
            await trio.lowlevel.checkpoint()
            yield box, stream


async def media_list(box: Station, master: str = "ts:playlist.m3u8") -> str:
    found = re.findall(r"^medialist_\d+_hls\.m3u8", (await box.get(master)).text, re.M)
    return str(found[0])


def listed(text: str) -> list[str]:
    return re.findall(r"^seg_\d+_\d+_hls\.ts$", text, re.M)


def test_what_belongs_to_it() -> None:
    assert claims("/app/s/ts:any.m3u8", b"")
    assert claims("/app/s/any.m3u8", b"x=1&format=ts")
    assert claims("/app/s/medialist_1_hls.m3u8", b"")
    assert claims("/app/s/seg_1_2_hls.ts", b"")
    assert not claims("/app/s/any.m3u8", b"format=tsx")
    assert not claims("/app/s/seg_0_1_video_x_llhls.m4s", b"")


async def test_playlists_and_segments(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air() as (box, stream):
        await play(stream, Feed(AV), 29.0)
        master = await box.get("ts:playlist.m3u8")
        assert master.headers["content-type"] == "application/vnd.apple.mpegurl"
        assert master.headers["access-control-allow-origin"] == "*"
        assert re.search(
            r'BANDWIDTH=\d+,AVERAGE-BANDWIDTH=\d+,RESOLUTION=1280x720,FRAME-RATE=30.000,CODECS="avc1.64001e,mp4a.40.2"',
            master.text,
        )
        assert (await box.get("playlist.m3u8?format=ts")).text == master.text
        answer = await box.get(await media_list(box), **{"accept-encoding": "gzip"})
        text = answer.text
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.compress(text.encode())
        head = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:10"]
        assert text.splitlines()[:4] == head
        assert text.count("#EXT-X-PROGRAM-DATE-TIME:") == 4
        assert re.findall(r"#EXTINF:(\S+),", text) == ["2.000"] * 4
        names = listed(text)
        assert len(names) == 4
        for name in names:
            segment = await box.get(name)
            assert segment.headers["content-type"] == "video/mp2t"
            assert len(segment.content) % 188 == 0
            assert [struct.unpack_from(">H", segment.content, at + 1)[0] & 0x1FFF for at in (0, 188)] == [0, 0x100]
        before = names[0].replace("_10_", "_9_")
        assert (await box.get(before)).status_code == 200
        assert (await box.get(before.replace("_9_", "_0_"))).status_code == 404


async def test_every_frame_is_in_one_segment(autojump_clock: trio.testing.MockClock) -> None:
    video, pictures = encoded(Codec.H264, 300)
    audio, sounds = encoded(Codec.AAC, 470)
    packets: list[Packet] = sorted((*pictures, *sounds), key=lambda one: one.dts / one.track.timescale)
    async with on_air((video, audio), segment_count=20) as (box, stream):
        for packet in packets:
            await trio.sleep_until(max(trio.current_time(), packet.dts / packet.track.timescale))
            stream.publish(packet)
        stream.close()
        await trio.sleep(1)
        text = (await box.get(await media_list(box))).text
        assert text.endswith("#EXT-X-ENDLIST\n")
        whole = b"".join([(await box.get(name)).content for name in listed(text)])
    with av.open(io.BytesIO(whole), "r", format="mpegts") as container:
        found: list[list[int]] = [[], []]
        for demuxed in container.demux():
            if demuxed.pts is not None:
                found[demuxed.stream_index].append(demuxed.pts)
    assert found[0] == [90_000 + one.pts * 90_000 // video.timescale for one in pictures]
    assert found[1] == [90_000 + one.pts * 90_000 // audio.timescale for one in sounds][-len(found[1]) :]
    assert len(found[1]) >= len(sounds) - 3


async def test_a_request_waits_for_the_first_segment(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air() as (box, stream):
        box.nursery.start_soon(play, stream, Feed(AV), 10.0)
        answer = await box.get("ts:playlist.m3u8")
        assert answer.status_code == 200
        assert (await box.get("ts:other.m3u8")).status_code == 404
        assert (await box.get("medialist_1_hls.m3u8")).status_code == 404


async def test_a_conclusion_ends_the_list(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air() as (box, stream):
        feed = Feed(AV)
        await play(stream, feed, 5.3)
        stream.inject(event_packet(Conclusion(), 5_300))
        await play(stream, feed, 10.0)
        text = (await box.get(await media_list(box))).text
        assert text.endswith("#EXT-X-ENDLIST\n")
        assert 5.0 <= sum(map(float, re.findall(r"#EXTINF:(\S+),", text))) <= 5.4


async def test_events_are_in_the_stream_and_in_the_list(autojump_clock: trio.testing.MockClock) -> None:
    tag = build_tag([Frame("TIT2", "", "title")])
    async with on_air(segment_count=10) as (box, stream):
        feed = Feed(AV)
        await play(stream, feed, 5.5)
        stream.inject(event_packet(TimedMetadata(tag), 5_500))
        stream.inject(event_packet(Splice(9, out=True), 5_500))
        await play(stream, feed, 6.0)
        text = (await box.get(await media_list(box))).text
        assert re.search(r'#EXT-X-DATERANGE:ID="splice-9-\d+",START-DATE="\S+",SCTE35-OUT=0xFC', text)
        # The splice made the segment before it end at the next key frame.
        assert "#EXTINF:2.000" in text
        bodies = [(await box.get(name)).content for name in listed(text)]
        assert sum(tag in body for body in bodies) == 1


async def test_a_new_codec_configuration_is_a_discontinuity(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air(segment_count=10) as (box, stream):
        feed = Feed(AV)
        await play(stream, feed, 5.0)
        feed.tracks = (video_track(generation=1, width=640, height=360), AV[1])
        await play(stream, feed, 6.0)
        text = (await box.get(await media_list(box))).text
        assert text.count("#EXT-X-DISCONTINUITY\n") == 1
        assert re.search(r"#EXTINF:1.\d+,\nseg_\S+\n#EXT-X-DISCONTINUITY\n", text)


async def test_sound_alone_and_configured_playlists(autojump_clock: trio.testing.MockClock) -> None:
    playlists = [
        Playlist("a", "radio", [Rendition("r", "", "audio")], enable_ts_packaging=True),
        Playlist("b", "hidden", [Rendition("r", "video", "audio")]),
    ]
    async with on_air(playlists=playlists, create_default_playlist=False) as (box, stream):
        await play(stream, Feed(AV), 7.0)
        master = (await box.get("ts:radio.m3u8")).text
        assert 'CODECS="mp4a.40.2"' in master
        assert "RESOLUTION" not in master
        text = (await box.get(await media_list(box, "ts:radio.m3u8"))).text
        assert len(listed(text)) == 3
        assert (await box.get("ts:hidden.m3u8")).status_code == 404
        assert (await box.get("ts:playlist.m3u8")).status_code == 404
