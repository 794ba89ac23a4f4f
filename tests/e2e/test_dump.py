"""A dump, a conclusion, thumbnails and rewinding on a whole box, through its API."""

from __future__ import annotations

import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lxml import etree

from tests.kit import ffmpeg
from tests.kit.ffmpeg import FFMPEG, LONG
from tests.kit.kiln import KilnProcess
from tests.kit.server_xml import Application, ServerXml

STREAM = "/v1/vhosts/default/apps/app/streams/cam"
DVR = "<DVR><Enable>true</Enable><TempStoragePath>/tmp/dvr</TempStoragePath><MaxDuration>60</MaxDuration></DVR>"
DUMPS = """<Dumps><Dump><Enable>true</Enable><TargetStreamName>c*</TargetStreamName>
  <OutputPath>/dumps/${VHostName}/${AppName}/${StreamName}</OutputPath></Dump></Dumps>"""
HLS = "<HLS><SegmentDuration>1</SegmentDuration></HLS>"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    application = Application(publishers=HLS, llhls=DVR + DUMPS, segment=1, count=3)
    process = KilnProcess(tmp_path_factory.mktemp("dump"), ServerXml((application,)))
    with process, ffmpeg.publish(ffmpeg.source(LONG), process.rtmp("cam"), loop=True):
        process.wait_said("output on stream=default/app/cam")
        fetch(process.hls("cam"))
        yield process


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def plays(source: str) -> float:
    """Seconds that ffmpeg decodes, without a word."""
    command = [FFMPEG, "-v", "error", "-i", source, "-progress", "-", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return int(re.findall(rb"out_time_us=(\d+)", done.stdout)[-1]) / 1e6


def test_a_dump_by_the_api_plays_and_is_told_of(box: KilnProcess) -> None:
    body = {
        "outputStreamName": "cam", "id": "d1", "outputPath": "/tmp/d1", "infoFile": "/tmp/d1.info", "userData": "u",
        "playlist": ["llhls.m3u8"],
    }  # fmt: skip
    assert box.call("POST", f"{STREAM}:startHlsDump", body)[0] == 200
    info = box.state / "media/tmp/d1.info"
    until(lambda: info.exists() and info.read_text().count("<Item>") >= 12)
    assert etree.fromstring(info.read_bytes()).findtext("Status") == "Running"
    assert plays(str(box.state / "media/tmp/d1/llhls.m3u8")) > 2
    assert box.call("POST", f"{STREAM}:stopHlsDump", {"outputStreamName": "cam", "id": "d1"})[0] == 200
    until(lambda: etree.fromstring(info.read_bytes()).findtext("Status") == "Completed")
    assert etree.fromstring(info.read_bytes()).findtext("Stream") == "/default/app/cam"
    for changes, reason in ({}, "Duplicate ID"), ({"id": "d2"}, "Duplicate info file"):
        status, answer = box.call("POST", f"{STREAM}:startHlsDump", body | changes)
        assert (status, answer["message"]) == (409, f"[HTTP] Could not start dump: [default/app/cam] ({reason}) (409)")
    _, listed = box.call("POST", f"{STREAM}:hlsDumps", {"outputStreamName": "cam"})
    assert "d2" not in [one["id"] for one in listed["response"]]
    status, listed = box.call("POST", f"{STREAM}:hlsDumps", {"outputStreamName": "cam", "id": "d1"})
    assert status == 200
    assert [(each["id"], each["enabled"]) for each in listed["response"]] == [("d1", False)]


def test_a_dump_by_the_configuration(box: KilnProcess) -> None:
    folder = box.state / "media/dumps/default/app/cam"
    until(lambda: Path(folder / "master.m3u8").exists())
    assert plays(str(folder / "master.m3u8")) > 1


def test_viewers_can_rewind(box: KilnProcess) -> None:
    chunklist = next(line for line in fetch(box.hls("cam")).splitlines() if "chunklist_0_video" in line)
    url = f"http://127.0.0.1:{box.ports.http}{chunklist}"
    until(lambda: fetch(url).count("#EXTINF") > 8)
    assert fetch(f"{url}?_HLS_rewind=NO").count("#EXTINF") <= 4
    first = re.findall(r"^seg_\S+", fetch(url), re.M)[0]
    with urllib.request.urlopen(url.rpartition("/")[0] + "/" + first, timeout=20) as answer:
        assert answer.status == 200
        assert b"moof" in answer.read(100)


def test_the_conclusion_makes_both_end(box: KilnProcess) -> None:
    for _ in range(2):
        assert box.call("POST", f"{STREAM}:concludeHlsLive", {})[0] == 200
    for url in (box.hls("cam"), box.hls("cam", "ts:playlist.m3u8")):
        child = next(line for line in fetch(url).splitlines() if line and not line.startswith("#"))
        media = child if child.startswith("/") else f"/app/cam/{child}"
        until(lambda media=media: "#EXT-X-ENDLIST" in fetch(f"http://127.0.0.1:{box.ports.http}{media}"))  # type: ignore[misc]
        assert plays(url) > 3
