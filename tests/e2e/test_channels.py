"""Channels on a whole box: made over the API or by files, seen by a viewer, there again after a restart."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.kit import ffmpeg
from tests.kit.ffmpeg import SMALL
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.server_xml import BYPASS, Application, ServerXml
from tests.transcoder.playout.conftest import media

__all__ = ["media"]

APP = "/v1/vhosts/default/apps/app"
PROVIDERS = """<Schedule/><Multiplex/><FILE><StreamMap>
<Stream><Name>film</Name><Path>plain.mp4</Path></Stream></StreamMap></FILE>"""


def now(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Iterator[KilnProcess]:
    folder = tmp_path_factory.mktemp("channels")
    root = folder / "state" / "media"
    root.mkdir(parents=True)
    for file in media.iterdir():
        if not file.is_symlink():
            shutil.copy(file, root)
    application = Application(profiles=BYPASS, providers=PROVIDERS)
    kiln = KilnProcess(folder, ServerXml((application, Application("other"))))
    with kiln:
        kiln.wait_stream("film")
        yield kiln


def ask(box: KilnProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    return box.call(method, f"{APP}{path}", body)


def until(box: KilnProcess, path: str, wanted: Any, within: float = 10) -> Any:
    """The resource of ``path`` once ``wanted`` holds for it."""
    deadline = time.monotonic() + within
    resource: Any = None
    while time.monotonic() < deadline:
        status, told = ask(box, "GET", path)
        resource = told.get("response") if status == 200 else None
        if resource is not None and wanted(resource):
            return resource
        time.sleep(0.05)
    raise AssertionError(f"{path} is {resource}\n{box.said()}")


def playing(resource: Any) -> str:
    """What a scheduled channel has on the air."""
    url: str = resource["currentProgram"].get("currentItem", {}).get("url", "")
    return url


def steps(client: LlhlsClient, kind: str) -> list[float]:
    shown = sorted(float(frame.pts) for frame in client.track(kind).frames())
    return [later - earlier for earlier, later in pairwise(shown)]


async def watch(url: str, seconds: float) -> LlhlsClient:
    client = LlhlsClient(url)
    with trio.move_on_after(seconds):
        await client.run()
    return client


def test_a_viewer_sees_files_and_a_live_stream_as_one(box: KilnProcess) -> None:
    items = [
        {"url": "file://b-frames.mp4"}, {"url": "stream://default/app/film", "duration": 2000},
        {"url": "file://plain.mp4", "start": 1000, "duration": 2000},
    ]  # fmt: skip
    body = {"stream": {"name": "tv"}, "programs": [
        {"name": "day", "scheduled": now(), "repeat": True, "items": items}
    ]}  # fmt: skip
    assert ask(box, "POST", "/scheduledChannels", body)[0] == 201
    assert ask(box, "POST", "/scheduledChannels", body)[0] == 409
    box.wait_stream("tv")
    client = trio.run(watch, box.hls("tv"), 9)
    pictures, sounds = steps(client, "video"), steps(client, "audio")
    assert len(pictures) > 150
    assert max(pictures) < 1.05 / 30
    assert min(pictures) > 0.95 / 30
    assert max(sounds) < 1024 / 48_000 + 0.001
    assert min(sounds) > 1024 / 48_000 - 0.001
    video, audio = client.track("video").frames(), client.track("audio").frames()
    ends = [max(float(frame.pts) for frame in track) for track in (video, audio)]
    # Parts are half a second, so the two tracks end within one of them.
    assert abs(ends[0] - ends[1]) < 0.55
    resource = until(box, "/scheduledChannels/tv", playing)
    assert resource["currentProgram"]["state"] == "onair"
    assert ask(box, "DELETE", "/scheduledChannels/tv")[0] == 200
    assert ask(box, "GET", "/scheduledChannels/tv")[0] == 404
    box.wait_no_stream("tv")


def test_the_fallback_plays_and_an_alarm_says_why(box: KilnProcess) -> None:
    body = {
        "stream": {"name": "shaky"}, "fallbackProgram": {"items": [{"url": "file://silent.mp4"}]},
        "programs": [{"scheduled": now(), "items": [{"url": "file://nonsense.mp4"}]}],
    }  # fmt: skip
    assert ask(box, "POST", "/scheduledChannels", body)[0] == 201
    box.wait_stream("shaky")
    resource = until(box, "/scheduledChannels/shaky", lambda told: told["currentProgram"]["state"] == "offair")
    assert "currentItem" not in resource["currentProgram"]
    change = {"programs": [{"name": "good", "scheduled": now(), "repeat": True, "items": [{"url": "file://plain.mp4"}]}]}
    assert ask(box, "PATCH", "/scheduledChannels/shaky", change)[0] == 201
    told = until(box, "/scheduledChannels/shaky", lambda told: playing(told) == "file://plain.mp4")
    at, seen = time.monotonic(), told["currentProgram"]["currentItem"]["currentPosition"]
    time.sleep(0.4)
    later = ask(box, "GET", "/scheduledChannels/shaky")[1]["response"]["currentProgram"]["currentItem"]
    passed = (later["currentPosition"] - seen) % 3000 - (time.monotonic() - at) * 1000
    assert abs(passed) < 150
    status, answer = ask(box, "PATCH", "/scheduledChannels/shaky", {"stream": {}})
    assert (status, answer["message"]) == (400, "[HTTP] Cannot change [stream] using this API (400)")
    assert ask(box, "DELETE", "/scheduledChannels/shaky")[0] == 200


def test_files_written_by_hand(box: KilnProcess) -> None:
    folder = box.state / "media" / "channels" / "default" / "app"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "hand.sch"

    def schedule(name: str) -> str:
        return (
            f"<Schedule><Stream><Name>x</Name></Stream><Program name='p' scheduled='{now(-1)}' repeat='true'>"
            f"<Item url='file://{name}'/></Program></Schedule>"
        )

    file.write_text(schedule("plain.mp4"))
    until(box, "/scheduledChannels/hand", lambda told: playing(told) == "file://plain.mp4")
    file.write_text(schedule("silent.mp4"))
    until(box, "/scheduledChannels/hand", lambda told: playing(told) == "file://silent.mp4")
    file.write_text("<Schedule><Stream/>")
    box.wait_said("channel file refused app=default/app file=hand.sch")
    assert playing(until(box, "/scheduledChannels/hand", playing)) == "file://silent.mp4"
    # After a restart of the box it is there again.
    file.write_text(schedule("b-frames.mp4"))
    box.stop()
    box.start()
    until(box, "/scheduledChannels/hand", lambda told: playing(told) == "file://b-frames.mp4")
    file.unlink()
    box.wait_no_stream("hand")
    assert ask(box, "GET", "/scheduledChannels/hand")[0] == 404


def multiplex(name: str, *sources: str) -> dict[str, Any]:
    return {
        "outputStream": {"name": name},
        "sourceStreams": [
            {"name": source, "url": f"stream://default/app/{source}", "trackMap": [
                {"sourceTrackName": "video", "newTrackName": f"v-{source}"},
                {"sourceTrackName": "audio", "newTrackName": f"a-{source}"}]}
            for source in sources
        ],
        "playlists": [{"name": "abr", "fileName": "abr", "renditions": [
            {"name": source, "video": f"v-{source}", "audio": f"a-{source}"} for source in sources]}],
    }  # fmt: skip


def test_a_multiplex_waits_plays_and_outlives_a_source(box: KilnProcess) -> None:
    assert ask(box, "POST", "/multiplexChannels", multiplex("mux", "film", "guest"))[0] == 201
    told = until(box, "/multiplexChannels/mux", lambda told: told["state"] == "Pulling")
    assert told["pullingMessage"] == "Multiplex Channel : #default#app/mux: Wait for stream guest"
    assert "mux" not in box.streams()
    with ffmpeg.publish(ffmpeg.source(SMALL), box.rtmp("guest")):
        until(box, "/multiplexChannels/mux", lambda told: told["state"] == "Playing")
        box.wait_stream("mux")
        client = trio.run(watch, box.hls("mux", "abr.m3u8"), 4)
        assert len(steps(client, "video")) > 30
        assert ask(box, "GET", "/multiplexChannels")[1]["response"] == ["mux"]
    until(box, "/multiplexChannels/mux", lambda told: told["state"] == "Pulling", within=15)
    assert "mux" in box.streams()
    assert ask(box, "PATCH", "/multiplexChannels/mux", {"sourceStreams": multiplex("mux", "film")["sourceStreams"],
                                                        "playlists": []})[0] == 201  # fmt: skip
    until(box, "/multiplexChannels/mux", lambda told: told["state"] == "Playing" and len(told["sourceStreams"]) == 1)
    assert ask(box, "DELETE", "/multiplexChannels/mux")[0] == 200
    box.wait_no_stream("mux")


def test_a_pulled_file_goes_round(box: KilnProcess) -> None:
    assert ask(box, "POST", "/streams", {"name": "again", "urls": ["file://b-frames.mp4"]})[0] == 201
    client = trio.run(watch, box.hls("again"), 6)
    assert len(steps(client, "video")) > 90
    assert max(steps(client, "video")) < 1.05 / 30
    assert max(steps(client, "audio")) < 1024 / 48_000 + 0.001
    assert ask(box, "DELETE", "/streams/again")[0] == 200
    for url in ("file://nonsense.mp4", "file://../../etc/passwd", "file://nowhere.mp4"):
        status, answer = ask(box, "POST", "/streams", {"name": "bad", "urls": [url]})
        assert status in (400, 502), answer


def test_an_application_without_channels(box: KilnProcess) -> None:
    other = "/v1/vhosts/default/apps/other"
    assert box.call("GET", f"{other}/scheduledChannels")[1]["response"] == []
    status, answer = box.call("POST", f"{other}/scheduledChannels", {"stream": {"name": "a"}})
    assert (status, answer) == (403, {"message": "Forbidden", "statusCode": 403})
    status, answer = box.call("GET", f"{other}/multiplexChannels")
    assert (status, answer["message"]) == (404, "[HTTP] Could not get the multiplex application (404)")
    status, answer = box.call("POST", f"{other}/multiplexChannels", {})
    assert (status, answer) == (403, {"message": "Forbidden", "statusCode": 403})
