"""Events, subtitles and the conclusion, from the API to a player in Chromium; HLS with MPEG-TS segments there too."""

from __future__ import annotations

import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit import browser
from tests.kit.ffmpeg import FFMPEG
from tests.kit.kiln import KilnProcess
from tests.kit.server_xml import PATTERN, Application, ServerXml

pytestmark = [pytest.mark.needs("chromium", "node", "npm"), pytest.mark.system]

SUBTITLES = """
            <MediaOptions><Subtitles><Enable>true</Enable><DefaultLabel>English</DefaultLabel>
              <Rendition><Language>en</Language><Label>English</Label><AutoSelect>true</AutoSelect></Rendition>
            </Subtitles></MediaOptions>
            <OutputProfile><Name>one</Name><OutputStreamName>${OriginStreamName}</OutputStreamName>
              <Encodes>
                <Video><Name>v</Name><Codec>h264</Codec><Width>640</Width><Height>360</Height><Bitrate>700000</Bitrate>
                  <Framerate>30</Framerate><KeyFrameInterval>30</KeyFrameInterval><Preset>faster</Preset></Video>
                <Audio><Name>a</Name><Codec>aac</Codec><Bitrate>128000</Bitrate><Samplerate>48000</Samplerate><Channel>2</Channel></Audio>
                <Image><Name>i</Name><Codec>jpeg</Codec><Width>320</Width><Height>180</Height><Framerate>1</Framerate></Image>
              </Encodes>
            </OutputProfile>"""
HLS = """<HLS><SegmentDuration>1</SegmentDuration><CrossDomains><Url>*</Url></CrossDomains></HLS>
            <Thumbnail><CrossDomains><Url>*</Url></CrossDomains></Thumbnail>"""
STREAM = "/v1/vhosts/default/apps/app/streams/pattern"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    application = Application(captures=(PATTERN,), profiles=SUBTITLES, publishers=HLS, segment=1, count=10)
    with KilnProcess(tmp_path_factory.mktemp("events"), ServerXml((application,))) as process:
        process.wait_said("output on stream=default/app/pattern")
        # The answer is held until the first playlist is there.
        with urllib.request.urlopen(process.hls("pattern"), timeout=20) as answer:
            assert answer.status == 200
        yield process


@pytest.fixture(autouse=True)
def installed() -> None:
    if reason := browser.missing():
        pytest.skip(reason)


def meanwhile(act: Any, times: int, every: float) -> threading.Thread:
    """``act`` again and again while a player plays."""
    done = threading.Event()

    def run() -> None:
        for _ in range(times):
            act()
            done.wait(every)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_player_gets_timed_metadata_and_shows_subtitles(box: KilnProcess) -> None:
    event = {
        "eventFormat": "id3v2", "eventType": "video",
        "events": [{"frameType": "TXXX", "info": "who", "data": "Émile"}, {"frameType": "TIT2", "data": "a title"}],
    }  # fmt: skip
    subtitles = {
        "format": "webvtt",
        "data": [{"label": "English", "subtitles": [{"text": "Hello, viewers", "durationMs": 1500}]}],
    }  # fmt: skip

    answers: list[int] = []

    def send() -> None:
        answers.append(box.call("POST", f"{STREAM}:sendEvent", event)[0])
        answers.append(box.call("POST", f"{STREAM}:sendSubtitles", subtitles)[0])

    thread = meanwhile(send, 14, 1.0)
    playback = browser.play(box.hls("pattern"), "hls", 10)
    thread.join()
    assert set(answers) == {200}
    metadata = [cue for track in playback.tracks if track["kind"] == "metadata" for cue in track["cues"]]
    assert ("TXXX", "who", "Émile") in {(cue["key"], cue["info"], cue["data"]) for cue in metadata}, playback.tracks
    assert ("TIT2", "a title") in {(cue["key"], cue["data"]) for cue in metadata}
    shown = [track for track in playback.tracks if track["kind"] in ("subtitles", "captions")]
    assert [track["label"] for track in shown] == ["English"]
    said = [cue for cue in shown[0]["cues"] if cue["text"] == "Hello, viewers"]
    first, last = playback.samples[0]["time"], playback.samples[-1]["time"]
    assert len([cue for cue in said if first - 2 <= cue["start"] <= last + 4]) >= 4, (first, last, shown)
    assert not [problem for problem in playback.problems if "fatal" in problem]


def test_hls_with_transport_stream_segments_plays(box: KilnProcess) -> None:
    url = box.hls("pattern", "ts:playlist.m3u8")
    playback = browser.play(url, "hls", 8)
    assert playback.advanced >= 6
    assert playback.frames >= 150
    assert not [problem for problem in playback.problems if "fatal" in problem]
    done = subprocess.run(
        [FFMPEG, "-v", "error", "-i", url, "-t", "3", "-f", "null", "-"], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
