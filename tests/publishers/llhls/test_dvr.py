"""Rewinding: what the window has left behind comes from the disk, and memory stays what it was."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from appliance.media.stream import Stream
from appliance.publishers.llhls.publisher import LlhlsPublisher
from appliance.settings.models import DVR
from tests.publishers.llhls.kit import Feed, Station, audio_track, station, video_track

AV = (video_track(), audio_track())


@asynccontextmanager
async def rewinding(root: Path, **dvr: object) -> AsyncIterator[Station]:
    values: dict[str, object] = {"enable": True, "temp_storage_path": "/tmp/dvr", "max_duration": 40}
    async with station(segment_duration=1.0, segment_count=5, dvr=DVR(**values | dvr)) as box:  # type: ignore[arg-type]
        box.context.media_root = root
        box.publisher = LlhlsPublisher(box.context)
        box.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=box.publisher.app), base_url="http://box/app/cam/", timeout=None
        )
        async with box.client:
            yield box


async def burst(stream: Stream, feed: Feed, seconds: int) -> None:
    """So many seconds of media, as fast as the disk takes them."""
    for _ in range(seconds):
        for _, packet in feed.packets(1.0):
            stream.publish(packet)
        await trio.sleep(0.04)


def segments(text: str) -> list[str]:
    return re.findall(r"^(seg_\S+)$", text, re.M)


async def test_the_playlist_goes_back_as_far_as_the_disk(tmp_path: Path) -> None:
    async with rewinding(tmp_path) as box:
        stream, feed = box.start(AV), Feed(AV)
        await trio.sleep(0.05)
        await burst(stream, feed, 30)
        live = box.live()
        name = live.windows[0].playlist_name
        all_of_it = (await box.get(name)).text
        assert len(segments(all_of_it)) == 29
        assert "#EXT-X-MEDIA-SEQUENCE:0\n" in all_of_it
        short = (await box.get(f"{name}?_HLS_rewind=NO")).text
        assert segments(short) == segments(all_of_it)[-len(segments(short)) :]
        assert len(segments(short)) <= 6
        skipped = (await box.get(f"{name}?_HLS_skip=YES")).text
        assert int(re.findall(r"SKIPPED-SEGMENTS=(\d+)", skipped)[0]) >= 20
        for file in segments(all_of_it):
            answer = await box.get(file)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "video/mp4"
            number = int(file.split("_")[2])
            assert f"0:{30 * number}:".encode() in answer.content
        master = (await box.get("llhls.m3u8?_HLS_rewind=NO")).text
        assert master.count("_HLS_rewind=NO") >= 2
        # In memory is what has been asked for, in its bounds, and the window.
        assert live.retained < 16 * 30 * 2200


async def test_what_is_too_old_goes_from_the_disk(tmp_path: Path) -> None:
    async with rewinding(tmp_path, max_duration=12, event_playlist_type=True) as box:
        stream, feed = box.start(AV), Feed(AV)
        await trio.sleep(0.05)
        await burst(stream, feed, 8)
        name = box.live().windows[0].playlist_name
        early = (await box.get(name)).text
        assert "#EXT-X-PLAYLIST-TYPE:EVENT\n" in early
        await burst(stream, feed, 22)
        text = (await box.get(name)).text
        assert "PLAYLIST-TYPE" not in text
        assert 10 <= len(segments(text)) <= 13
        assert (await box.get(segments(early)[0])).status_code == 404
        folder = tmp_path / "tmp/dvr/#default#app/cam/0"
        await trio.sleep(0.3)
        assert 10 <= len(list(folder.iterdir())) <= 16
        assert len(box.live().files) < 200


async def test_what_has_just_expired_can_be_fetched_for_a_while(tmp_path: Path) -> None:
    async with rewinding(tmp_path, max_duration=25) as box:
        stream, feed = box.start(AV), Feed(AV)
        await trio.sleep(0.05)
        await burst(stream, feed, 20)
        name = box.live().windows[0].playlist_name
        oldest = segments((await box.get(name)).text)[0]
        await burst(stream, feed, 20)
        assert oldest not in (await box.get(name)).text
        assert (await box.get(oldest)).status_code == 200
        await burst(stream, feed, 25)
        assert (await box.get(oldest)).status_code == 404
        await trio.sleep(0.3)
        assert len(list((tmp_path / "tmp/dvr/#default#app/cam/0").iterdir())) <= 25 + 30 + 3


async def test_a_disk_that_is_short_of_room_is_for_recordings(tmp_path: Path) -> None:
    async with rewinding(tmp_path) as box:
        reason = "nearly full: 1 MiB free"
        box.publisher = LlhlsPublisher(box.context, lambda: reason)
        stream, feed = box.start(AV), Feed(AV)
        await trio.sleep(0.05)
        await burst(stream, feed, 10)
        assert not (tmp_path / "tmp").exists()
        reason = ""
        await trio.sleep(2.1)
        assert list((tmp_path / "tmp/dvr/#default#app/cam/0").iterdir())


async def test_a_disk_that_says_no_shortens_the_past_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "tmp").write_text("no folder")
    async with rewinding(tmp_path) as box:
        stream, feed = box.start(AV), Feed(AV)
        await trio.sleep(0.05)
        await burst(stream, feed, 30)
        live = box.live()
        text = (await box.get(live.windows[0].playlist_name)).text
        listed = segments(text)
        assert 5 <= len(listed) <= 20
        assert [(await box.get(file)).status_code for file in listed] == [200] * len(listed)
        assert live.retained < 2 * 16 * 30 * 2200
