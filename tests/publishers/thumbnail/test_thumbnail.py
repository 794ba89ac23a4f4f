"""The newest picture at its URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
import trio
import trio.testing

from appliance.media.contracts import OutputStream, Source
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec, MediaType, Track
from appliance.publishers.thumbnail import ThumbnailPublisher, claims
from appliance.settings.models import CrossDomains, Publishers
from appliance.settings.models import ThumbnailPublisher as Settings
from tests.publishers.llhls.kit import Station, station, video_track

JPEG = Track(id=1, media=MediaType.VIDEO, codec=Codec.JPEG, timescale=90_000, variant="image")
PNG = Track(id=2, media=MediaType.VIDEO, codec=Codec.PNG, timescale=90_000, variant="image_1")


@asynccontextmanager
async def on_air(
    tracks: Sequence[Track] = (video_track(), JPEG, PNG), urls: tuple[str, ...] = ("*",)
) -> AsyncIterator[tuple[Station, Stream]]:
    async with station() as box:
        settings = Settings(cross_domains=CrossDomains(urls=urls))
        box.application = msgspec.structs.replace(box.application, publishers=Publishers(thumbnail=settings))
        box.directory.settings = box.application
        publisher = ThumbnailPublisher(box.context)
        transport = httpx.ASGITransport(app=publisher.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://box/app/cam/", timeout=None) as client:
            box.client = client
            stream = Stream("default/app/cam", tracks, clock=box.context.clock)
            output = OutputStream("default", "app", "cam", stream, box.application, [], Source("Test"))
            assert publisher.accepts(tracks)
            box.nursery.start_soon(publisher.run, output, lambda: None)
            await trio.testing.wait_all_tasks_blocked()
            yield box, stream


def picture(track: Track, payload: bytes, time: int = 0) -> Packet:
    return Packet(track, time, time, 0, True, payload)


@pytest.mark.parametrize("path", ["/app/s/thumb.jpg", "/app/s/mythumb.png", "/app/s/thumb.webp"])
def test_its_names(path: str) -> None:
    assert claims(path)
    assert not claims(path.replace("thumb.", "thumbs."))


async def test_the_newest_picture_is_given(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air() as (box, stream):
        stream.publish(picture(JPEG, b"first"))
        stream.publish(picture(JPEG, b"second", 90_000))
        stream.publish(picture(PNG, b"small"))
        answer = await box.get("thumb.jpg")
        assert (answer.status_code, answer.content) == (200, b"second")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "no-cache, no-store"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert (await box.get("anything_thumb.png")).content == b"small"
        head = await box.client.head("thumb.jpg")
        assert (head.content, head.headers["content-length"]) == (b"", "6")
        assert (await box.client.post("thumb.jpg")).status_code == 405


async def test_the_first_picture_is_waited_for_and_then_there_is_none(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air() as (box, stream):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def later() -> None:
                await trio.sleep(3)
                stream.publish(picture(JPEG, b"late"))

            assert (await box.get("thumb.jpg")).content == b"late"
        began = trio.current_time()
        assert (await box.get("thumb.webp")).status_code == 404
        assert trio.current_time() - began == pytest.approx(5)


async def test_after_the_end_there_is_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air() as (box, stream):
        stream.publish(picture(JPEG, b"x"))
        stream.close()
        await trio.sleep(0.1)
        answer = await box.get("thumb.jpg")
        assert answer.status_code == 404
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_other_origins_get_no_grant(autojump_clock: trio.testing.MockClock) -> None:
    async with on_air(urls=("https://a.example",)) as (box, stream):
        stream.publish(picture(JPEG, b"x"))
        assert "access-control-allow-origin" not in (await box.get("thumb.jpg", origin="https://b.example")).headers
        granted = await box.get("thumb.jpg", origin="https://a.example")
        assert granted.headers["access-control-allow-origin"] == "https://a.example"
