"""A stream that nobody sends: fetched from a camera when the first viewer comes, and let go when the last has left."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.kit import ffmpeg, frames
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.rtsp_server import rtsp_server
from tests.kit.server_xml import Application, ServerXml

ORIGINS = """
      <Origins>
        <Properties><UnusedStreamDeletionTimeout>2000</UnusedStreamDeletionTimeout></Properties>
        <Origin>
          <Location>/app/cam</Location>
          <Pass><Scheme>rtsp</Scheme><Urls><Url>127.0.0.1:{port}/live</Url></Urls></Pass>
          <StrictLocation>true</StrictLocation>
        </Origin>
      </Origins>"""


@pytest.mark.needs("rtsp-server")
async def test_the_first_viewer_brings_the_camera_and_the_last_lets_it_go(tmp_path: Path) -> None:
    with rtsp_server(ffmpeg.source(ffmpeg.SMALL)) as port:
        applications = (Application(providers="<RTSPPull/>", segment=1),)
        server = ServerXml(applications, origins=ORIGINS.format(port=port))
        with KilnProcess(tmp_path, server, environment={"KILN_EGRESS_ALLOW": "127.0.0.0/8"}) as kiln:
            assert kiln.streams() == []
            client = LlhlsClient(kiln.hls("cam"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await client.wait(lambda: bool(client.tracks) and len(client.video.chunks) > 6, 20)
                assert await trio.to_thread.run_sync(kiln.streams) == ["cam"]
                assert kiln.api("/v1/vhosts/default/apps/app/streams/cam")["input"]["sourceType"] == "RtspPull"
                nursery.cancel_scope.cancel()
            frames.run_in(client.video.frames(), frames.of_file(ffmpeg.source(ffmpeg.SMALL), "video"))
            await trio.to_thread.run_sync(lambda: kiln.wait_no_stream("cam", timeout=25))
