"""A Kiln that plays what a Kiln sends: LL-HLS in, over HTTP, and LL-HLS out again, every frame."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.kit import ffmpeg, frames
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.server_xml import BYPASS, Application, ServerXml

LOOPBACK = {"KILN_EGRESS_ALLOW": "127.0.0.0/8"}


@pytest.mark.long
async def test_from_llhls_to_llhls(tmp_path: Path) -> None:
    applications = (
        Application(segment=1, profiles=BYPASS),
        Application("copies", segment=1, profiles=BYPASS, providers="<HLSPull/>"),
    )
    source = ffmpeg.source(ffmpeg.SMALL)
    with KilnProcess(tmp_path, ServerXml(applications), environment=LOOPBACK) as kiln:
        with ffmpeg.publish(source, kiln.rtmp("cam"), loop=True):
            first = LlhlsClient(kiln.hls("cam"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.run)
                await first.wait(lambda: bool(first.tracks) and len(first.video.chunks) > 6, 20)
                nursery.cancel_scope.cancel()
            body = {"name": "cam", "urls": [kiln.hls("cam")]}
            status, answer = await trio.to_thread.run_sync(
                kiln.call, "POST", "/v1/vhosts/default/apps/copies/streams", body
            )
            assert status == 201, answer
            stream = kiln.api("/v1/vhosts/default/apps/copies/streams/cam")
            assert stream["input"]["sourceType"] == "HlsPull"
            client = LlhlsClient(kiln.hls("cam", app="copies"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await client.wait(lambda: bool(client.tracks) and len(client.video.frames()) > 150, 30)
                nursery.cancel_scope.cancel()
        frames.run_in(client.video.frames(), frames.of_file(source, "video"))
        frames.run_in(client.audio.frames(), frames.of_file(source, "audio"))
        # The stream it plays has ended: so has the copy.
        await trio.to_thread.run_sync(lambda: kiln.wait_no_stream("cam", app="copies", timeout=40))
