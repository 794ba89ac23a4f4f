"""What a publisher says in AMF data messages reaches viewers of LL-HLS as timed metadata, once, at its time."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from appliance.protocols.id3 import Frame, build_tag
from tests.kit import ffmpeg
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.rtmp_publisher import Media, RtmpPublisher
from tests.kit.server_xml import BYPASS, Application, ServerXml

RULES = """<RTMP><EventGenerator>
  <Event><Trigger>AMFDataMessage.onTextData.text</Trigger>
    <HLSID3v2><EventType>video</EventType><FrameType>TXXX</FrameType><Info>said</Info><Data>${TriggerValue}</Data></HLSID3v2>
  </Event>
  <Event><Trigger>AMFDataMessage.onCuePoint.parameters.id</Trigger>
    <HLSID3v2><EventType>audio</EventType><FrameType>PRIV</FrameType><Info>cue</Info><Data>${TriggerValue}</Data></HLSID3v2>
  </Event>
</EventGenerator></RTMP>"""


class WithRules(ServerXml):
    def xml(self) -> str:
        return super().xml().replace("<Providers><RTMP/>", f"<Providers>{RULES}")


@pytest.mark.long
async def test_text_and_cue_points_become_timed_metadata(tmp_path: Path) -> None:
    media = await trio.to_thread.run_sync(Media.of_file, ffmpeg.source(ffmpeg.SMALL))
    with KilnProcess(tmp_path, WithRules((Application(segment=1, profiles=BYPASS),))) as kiln:
        async with RtmpPublisher(kiln.ports.rtmp, "cam", media) as publisher:
            await publisher.publish()
            await publisher.run(2)
            async with trio.open_nursery() as nursery:
                client = LlhlsClient(kiln.hls("cam"))
                nursery.start_soon(client.run)
                await publisher.run(1, skip=publisher.position)
                await publisher.say("onTextData", {"text": "good evening"})
                await publisher.say("onCuePoint", {"name": "ad", "parameters": {"id": 7}})
                await publisher.say("onSomethingElse", {"text": "nothing"})
                await publisher.run(3, skip=publisher.position)
                nursery.cancel_scope.cancel()
    told = {
        track.kind: [chunk for chunk in track.chunks if b"https://aomedia.org/emsg/ID3" in chunk.data]
        for track in (client.video, client.audio)
    }
    assert [len(chunks) for chunks in told.values()] == [1, 1]
    assert build_tag([Frame("TXXX", "said", "good evening")]) in told["video"][0].data
    assert build_tag([Frame("PRIV", "cue", "7")]) in told["audio"][0].data
