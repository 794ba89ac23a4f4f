"""The delivery behind the real server: parking, buffers, keep-alive, in real time."""

from __future__ import annotations

import httpx
import pytest
import trio

from appliance.net.http_server import HttpServer
from appliance.net.listener import Listener
from tests.conformance.llhls.observe import Player, observe
from tests.conformance.llhls.playlist import parse_media
from tests.conformance.llhls.rules import RULES, Stage
from tests.publishers.llhls.kit import Feed, audio_track, play, station, video_track


@pytest.mark.parametrize("seconds", [3.0, pytest.param(12.0, marks=pytest.mark.long)])
async def test_a_live_stream_over_sockets(seconds: float) -> None:
    tracks = [video_track(), audio_track()]
    async with station(segment_duration=1.0, chunk_duration=0.2) as box:
        server = HttpServer(box.publisher.app, name="test", server_header=None)
        (listener,) = await box.nursery.start(server.serve, [Listener.tcp("127.0.0.1", 0)])
        stream = box.start(tracks)
        box.nursery.start_soon(play, stream, Feed(tracks, gop=30, size=16000), 60.0)
        base = f"http://127.0.0.1:{listener.port}/app/cam/"
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=20, trust_env=False, limits=limits) as http:
            began = trio.current_time()
            seen = await observe(f"{base}llhls.m3u8", http, seconds)
            # One group of pictures and one part, and what a busy machine adds.
            assert min(rendition.seen[0].at for rendition in seen.renditions) - began < 1.0 + 0.2 + 1.0
            player = Player(http)
            if seconds > 10:
                stage = Stage(player, late=0.2)
                assert {number: await rule(seen, stage) for number, rule in RULES.items()} == {n: [] for n in RULES}
            url = seen.renditions[0].url
            media = parse_media(url, (await player.get(url)).text)
            segment = media.complete[-1]
            whole = await player.get(segment.uri)
            assert whole.body == b"".join([(await player.get(part.uri)).body for part in segment.parts])
            assert len(whole.body) > 30 * 16000 * 0.9

            async def wait() -> None:
                msn, part = media.next
                reply = await player.playlist(url, f"_HLS_msn={msn + 1}&_HLS_part={part}")
                assert reply.has(msn + 1, 0)

            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    for _ in range(50):
                        nursery.start_soon(wait)
            assert server.connections >= 50
        await server.shut_down(1)
