"""The 25 rules of low-latency HLS, on what the whole engine delivers over real sockets."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from tests.conformance.llhls.observe import Player, observe
from tests.conformance.llhls.rules import RULES, Stage, check
from tests.kit import ffmpeg
from tests.kit.ffmpeg import HD, LONG
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.server_xml import PATTERN, Application, ServerXml

#: What a busy machine and its scheduler may add to a moment.
LATE = 0.15
NONE: dict[int, list[str]] = {number: [] for number in RULES}


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=limits) as http:
        yield http


async def until_playable(url: str, seconds: float) -> None:
    """Until so much can be watched: the rules look at a stream that runs."""
    player = LlhlsClient(url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(player.run)
        await player.wait(lambda: bool(player.tracks) and player.video.delivered_seconds >= seconds, seconds + 20)
        nursery.cancel_scope.cancel()


async def test_a_stream_that_passes_through(kiln: KilnProcess) -> None:
    """With a source that stops for a while and goes on."""
    with ffmpeg.publish(ffmpeg.source(LONG), kiln.rtmp("rules"), loop=True) as publisher:
        await until_playable(kiln.hls("rules"), 4)
        async with client() as http:

            async def freeze() -> None:
                publisher.pause()

            async def thaw() -> None:
                publisher.resume()
                await trio.sleep(3)

            stage = Stage(Player(http), LATE, freeze, thaw)
            assert await check(kiln.hls("rules"), http, seconds=12, stage=stage) == NONE


@pytest.mark.long
async def test_a_stream_that_is_encoded(kiln: KilnProcess) -> None:
    async with client() as http:
        await until_playable(kiln.hls("pattern"), 4)
        assert await check(kiln.hls("pattern"), http, seconds=12, stage=Stage(Player(http), LATE)) == NONE


@pytest.mark.long
async def test_three_renditions(kiln: KilnProcess) -> None:
    url = kiln.hls("ruled", "ladder.m3u8", app="ladder")
    with ffmpeg.publish(ffmpeg.source(HD), kiln.rtmp("ruled", "ladder"), loop=True):
        async with client() as http:
            await until_playable(url, 4)
            seen = await observe(url, http, 20)
            # The rule about parts that have left the list counts from the end of what was seen: it goes first.
            order = sorted(RULES, key=lambda number: number != 17)
            assert {number: await RULES[number](seen, Stage(Player(http), LATE)) for number in order} == NONE


@pytest.mark.long
async def test_numbers_go_on_after_the_engine_is_killed(tmp_path: Path) -> None:
    """Rule 18 with a SIGKILL and the same state folder."""
    kiln = KilnProcess(tmp_path, ServerXml((Application(captures=(PATTERN,), segment=1),)))
    try:
        kiln.start()
        await until_playable(kiln.hls("pattern"), 3)

        async def restart() -> None:
            kiln.kill()
            await trio.to_thread.run_sync(kiln.start)
            await until_playable(kiln.hls("pattern"), 2)

        async with client() as http:
            stage = Stage(Player(http), LATE, restart=restart)
            found = await check(kiln.hls("pattern"), http, seconds=3, stage=stage)
        assert found[18] == []
        kiln.stop()
    finally:
        kiln.kill()


DVR = "<DVR><Enable>true</Enable><TempStoragePath>/tmp/dvr</TempStoragePath><MaxDuration>600</MaxDuration></DVR>"
SPLICED = "/v1/vhosts/default/apps/app/streams/pattern:sendEvents"


@pytest.mark.long
async def test_with_events_and_rewinding(tmp_path: Path) -> None:
    """Splices and timed metadata come in, and the playlists go back to the start."""
    application = Application(captures=(PATTERN,), llhls=DVR, segment=1, count=5)
    with KilnProcess(tmp_path, ServerXml((application,))) as box:
        await until_playable(box.hls("pattern"), 10)

        async def send() -> None:
            for number in itertools.count():
                splice = {"spliceCommand": "spliceInsert", "id": number // 2, "type": ("out", "in")[number % 2]}
                body = [
                    {"eventFormat": "scte35", "events": [splice]},
                    {"eventFormat": "id3v2", "events": [{"frameType": "TXXX", "info": "a", "data": "b"}]},
                    {"eventFormat": "cue", "events": [{"cueType": ("out", "in")[number % 2], "duration": 900}]},
                ]
                status, _ = await trio.to_thread.run_sync(partial(box.call, "POST", SPLICED, body))
                assert status == 200
                await trio.sleep(1.3)

        async with client() as http, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await check(box.hls("pattern"), http, seconds=12, stage=Stage(Player(http), LATE)) == NONE
            nursery.cancel_scope.cancel()
