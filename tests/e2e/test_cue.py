"""A cue cuts the segments of an encoded stream at once, however far the next key frame would be."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.kit.kiln import KilnProcess
from tests.kit.server_xml import PATTERN, Application, ServerXml

STREAM = "/v1/vhosts/default/apps/app/streams/pattern"
#: A key frame every ten seconds.
ENCODED = """
            <OutputProfile><Name>one</Name><OutputStreamName>${OriginStreamName}</OutputStreamName>
              <Encodes>
                <Video><Name>v</Name><Codec>h264</Codec><Width>320</Width><Height>180</Height><Bitrate>300000</Bitrate>
                  <Framerate>30</Framerate><KeyFrameInterval>300</KeyFrameInterval><Preset>faster</Preset></Video>
                <Audio><Name>a</Name><Codec>aac</Codec><Bitrate>64000</Bitrate><Samplerate>48000</Samplerate><Channel>2</Channel></Audio>
              </Encodes>
            </OutputProfile>"""


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


@pytest.mark.long
def test_a_cue_cuts_at_once(tmp_path: Path) -> None:
    application = Application(captures=(PATTERN,), profiles=ENCODED, segment=10)
    with KilnProcess(tmp_path, ServerXml((application,))) as box:
        box.wait_said("output on stream=default/app/pattern")
        master = box.hls("pattern")
        (chunklist,) = [line for line in fetch(master).splitlines() if line and not line.startswith("#")]
        playlist = urljoin(master, chunklist)
        event = {"eventFormat": "cue", "events": [{"cueType": "out", "duration": 4000}]}
        asked = time.monotonic()
        assert box.call("POST", f"{STREAM}:sendEvent", event)[0] == 200
        while "#EXT-X-CUE-OUT:DURATION=4" not in (text := fetch(playlist)):
            assert time.monotonic() - asked < 4
            time.sleep(0.05)
    lengths = [float(length) for length in re.findall(r"#EXTINF:([\d.]+)", text.partition("#EXT-X-CUE-OUT")[0])]
    assert lengths[-1] < 9
