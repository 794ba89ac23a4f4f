"""Records, pushes, dumps, pulls, events and statistics over the API: order of checks, words, fields, roles."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from appliance.access.roles import Role
from appliance.api.ome.secrets import shown_to
from appliance.engine.tasks.kinds import RECORD
from appliance.errors import NameTaken
from appliance.media.contracts import OutputStream, Progress
from appliance.media.tasks import Dump, Task
from tests.api.box import Box, open_box

APP = "/v1/vhosts/default/apps/app"
LIVE = f"{APP}/streams/live1"
#: Its output is on without any encoder.
BYPASS = "/v1/vhosts/default/apps/bypass/streams/live1"
STREAM = {"name": "later"}


class Idle:
    """A runner whose tasks wait for their stream: nothing runs here."""

    def check(self, task: Task, output: OutputStream | None) -> None:
        if isinstance(task, Dump) and task.info_file == "/taken":
            raise NameTaken("Duplicate info file")

    async def run(self, task: Task, output: OutputStream, stop: trio.Event, progress: Progress) -> None:
        raise AssertionError("no stream is on")


@asynccontextmanager
async def ready(state: Path) -> AsyncIterator[Box]:
    async with open_box(state) as box:
        for kind in ("record", "push", "dump"):
            box.engine.runners[kind] = Idle()
        box.feed(*box.open("app", "live1"), frames=60)
        yield box


async def told(box: Box, path: str, body: Any, method: str = "POST") -> tuple[int, str]:
    answer = await box.ask(method, path, body=body)
    return answer.status_code, answer.json()["message"]


async def test_without_a_runner_it_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        record = {"id": "r", "stream": STREAM}
        status, message = await told(box, f"{APP}:startRecord", record)
        assert (status, message) == (501, "[HTTP] Recording is not built in this version (501)")
        assert list(box.engine.tasks.all()) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "Request body must be an object"),
        ("x", "Request body must be an object"),
        ({}, "There is no required parameter [ id stream.name]"),
        (None, "There is no required parameter [ id stream.name]"),
        ({"id": "", "stream": STREAM}, "There is no required parameter [ id]"),
        ({"id": "r", "stream": {}}, "There is no required parameter [ stream.name]"),
        ({"id": "r", "stream": STREAM, "interval": 1, "schedule": "x"},
         "[Interval] and [Schedule] cannot be used at the same time"),
        *(({"id": "r", "stream": STREAM, "schedule": text}, "Invalid [schedule] parameter")
          for text in ("x", "0 0", "60 0 0", "0 60 0", "0 0 24", "01 0 0", "*/60 * *", "0  0 0", "0 0 0 ", "*/ * *")),
        ({"id": 5, "stream": STREAM}, "[id] must be a string"),
        ({"id": "r", "stream": "later"}, "[stream] must be an object"),
        ({"id": "r", "stream": {"name": "x", "trackIds": [True]}}, "[stream.trackIds] must be an array of integers"),
        ({"id": "r", "stream": {"name": "x", "variantNames": "v"}},
         "[stream.variantNames] must be an array of strings"),
        ({"id": "r", "stream": STREAM, "interval": "5"}, "[interval] must be an integer"),
        ({"id": "r", "stream": STREAM, "metadata": {}}, "[metadata] must be a string"),
        ({"id": "../r", "stream": STREAM}, "Invalid id: [../r]"),
        ({"id": "r", "stream": {"name": "../x"}}, "Invalid stream name: [../x]"),
        ({"id": "r", "stream": STREAM, "calendar": {"start": "soon"}},
         "calendar: [start] must be a time such as 2026-11-22T10:00:00+01:00"),
        ({"id": "r", "stream": STREAM, "calendar": {"start": "2020-01-01T00:00:00Z", "stop": "2020-01-01T01:00:00Z"}},
         "calendar: [stop] is in the past"),
    ],
)  # fmt: skip
async def test_a_record_that_is_refused(body: Any, message: str, tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        assert await told(box, f"{APP}:startRecord", body) == (400, f"[HTTP] {message} (400)")
        assert list(box.engine.tasks.all()) == []


async def test_a_record_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        body = {"id": "r1", "stream": {"name": "later", "tracks": [3]}, "interval": 5000, "metadata": "m",
                "segmentationRule": "banana", "filePath": "/x/${Id}.ts"}  # fmt: skip
        answer = await box.ask("POST", f"{APP}:startRecord", body=body)
        shown = answer.json()["response"]
        assert shown.pop("createdTime").count(":") == 3
        assert shown == {
            "app": "app", "filePath": "/x/${Id}.ts", "id": "r1", "interval": 5000, "isConfig": False, "metadata": "m",
            "segmentationRule": "discontinuity", "state": "ready",
            "stream": {"name": "later", "trackIds": [3], "variantNames": []}, "vhost": "default",
        }  # fmt: skip
        assert list(shown) == sorted(shown)
        assert await told(box, f"{APP}:startRecord", body) == (400, "[HTTP] Duplicate ID already exists (400)")
        await box.ask("POST", f"{APP}:startRecord", body={"id": "r0", "stream": STREAM})
        listed = (await box.ask("GET", f"{APP}:records")).json()["response"]
        assert [each["id"] for each in listed] == ["r0", "r1"]
        assert len((await box.ask("POST", f"{APP}:records", body={"id": "r1"})).json()["response"]) == 1
        stopped = (await box.ask("POST", f"{APP}:stopRecord", body={"id": "r1"})).json()["response"]
        assert stopped == shown | {"state": "stopping", "createdTime": stopped["createdTime"]}
        gone = "[HTTP] There is no record information related to the ID [r1] (404)"
        assert await told(box, f"{APP}:stopRecord", {"id": "r1"}) == (404, gone)
    async with ready(tmp_path) as box:
        await box.engine.tasks.restore()
        listed = (await box.ask("POST", f"{APP}:records", body={})).json()["response"]
        assert [each["id"] for each in listed] == ["r0"]


async def test_a_calendar_is_shown_with_what_comes_next(tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        calendar = {"start": "2030-01-06T10:00:00", "stop": "2030-01-06T11:00:00", "repeat": "weekly",
                    "days": ["sun"], "timezone": "Asia/Seoul"}  # fmt: skip
        body = {"id": "c", "stream": STREAM, "calendar": calendar}
        shown = (await box.ask("POST", f"{APP}:startRecord", body=body)).json()["response"]["calendar"]
        assert shown.pop("next")["start"].startswith("2030-01-06T01:00:00")
        assert shown == calendar
        (entry,) = box.engine.tasks.entries(RECORD, "default", "app")
        assert entry.agenda is not None


PUSH = {"id": "p", "stream": STREAM, "protocol": "rtmp", "url": "rtmp://h/app"}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (APP, {}, 400, "Could not find protocol '': [default/app]"),
        (APP, {"protocol": "HTTP"}, 400, "Could not find protocol 'http': [default/app]"),
        ("/v1/vhosts/default/apps/bypass", {"protocol": "rtmp"}, 404, "Could not find application: [default/bypass]"),
        (APP, {"protocol": " RTMP "}, 400, "There is no required parameter [ id stream.name url]"),
        (APP, PUSH | {"url": "nothing"}, 400, "Could not parse url"),
        (APP, PUSH | {"url": "rtmp://h:99999/x"}, 400, "Could not parse url"),
        (APP, PUSH | {"url": "rtmp://h/a b"}, 400, "Could not parse url"),
        (APP, PUSH | {"url": "RTMP://h/x"}, 400, "Unsupported protocol"),
        (APP, PUSH | {"url": "srt://h:1"}, 400, "Unsupported protocol"),
        (APP, PUSH | {"protocol": "srt", "url": "srt://h:1?mode=listener"}, 400, "Unsupported connection mode"),
        (APP, PUSH | {"protocol": "mpegts", "url": "tcp://h:1?listen"}, 400, "Unsupported tcp listen"),
        (APP, PUSH | {"url": 5}, 400, "[url] must be a string"),
        (APP, PUSH | {"urls": ["rtmp://ok/x", "http://h/x"]}, 400, "Unsupported protocol"),
        (APP, PUSH | {"urls": ["rtmp://h/x"] * 17}, 400, "[urls] may hold 16 addresses"),
    ],
)  # fmt: skip
async def test_a_push_that_is_refused(path: str, body: Any, status: int, message: str, tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        assert await told(box, f"{path}:startPush", body) == (status, f"[HTTP] {message} ({status})")
        assert list(box.engine.tasks.all()) == []


async def test_a_push_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        body = PUSH | {"url": " rtmp://h/app// ", "streamKey": " k ", "urls": ["rtmp://spare/app"]}
        shown = (await box.ask("POST", f"{APP}:startPush", body=body)).json()["response"]
        times = [shown.pop(key)[:4] for key in ("createdTime", "finishTime", "startTime")]
        assert times[0] != "1970"
        assert set(times[1:]) <= {"1970", "1969"}
        assert shown == {
            "app": "app", "id": "p", "isConfig": False, "protocol": "rtmp", "sentBytes": 0, "sentTime": 0,
            "sequence": 0, "state": "ready", "stream": {"name": "later", "trackIds": [], "variantNames": []},
            "streamKey": "k", "totalsentBytes": 0, "totalsentTime": 0, "url": "rtmp://h/app",
            "urls": ["rtmp://h/app", "rtmp://spare/app"], "vhost": "default",
        }  # fmt: skip
        assert shown_to(Role.OPERATOR, shown)["streamKey"] == "***"
        assert await told(box, f"{APP}:startPush", body) == (400, "[HTTP] Duplicate ID (400)")
        assert (await box.ask("POST", f"{APP}:pushes", body={"id": "q"})).json()["response"] == []
        assert await told(box, f"{APP}:stopPush", {}) == (400, "[HTTP] There is no required parameter [ id] (400)")
        stopped = await box.ask("POST", f"{APP}:stopPush", body={"id": "p"})
        assert stopped.json() == {"message": "OK", "statusCode": 200}
        gone = "[HTTP] Could not find id 'p': [default/app] (404)"
        assert await told(box, f"{APP}:stopPush", {"id": "p"}) == (404, gone)
        assert (await box.ask("GET", "/v1/vhosts/default/apps/bypass:pushes")).json()["response"] == []


async def test_dumps(tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        box.feed(*box.open("bypass", "live1"), frames=60)
        body = {"id": "d", "outputStreamName": "live1", "outputPath": "/d", "playlist": ["llhls.m3u8"]}
        path = f"{BYPASS}:startHlsDump"
        required = "[HTTP] id, outputStreamName and outputPath are required (400)"
        assert await told(box, path, {"id": "d"}) == (400, required)
        missing = "[HTTP] Could not find output stream: [default/bypass/nope] (404)"
        assert await told(box, path, body | {"outputStreamName": "nope"}) == (404, missing)
        taken = "[HTTP] Could not start dump: [default/bypass/live1] (Duplicate info file) (409)"
        assert await told(box, path, body | {"infoFile": "/taken"}) == (409, taken)
        assert (await told(box, path, body | {"playlist": {}}))[0] == 400
        assert (await told(box, path, body | {"playlist": ["../x"]}))[0] == 400
        assert await told(box, path, body) == (200, "OK")
        twice = "[HTTP] Could not start dump: [default/bypass/live1] (Duplicate ID) (409)"
        assert await told(box, path, body) == (409, twice)
        asked = {"outputStreamName": "live1"}
        listed = (await box.ask("POST", f"{BYPASS}:hlsDumps", body=asked)).json()["response"]
        assert listed == [body | {"enabled": True}]
        unknown = "[HTTP] Could not stop dump: [default/bypass/live1] (Could not find dump info) (404)"
        assert await told(box, f"{BYPASS}:stopHlsDump", asked | {"id": "x"}) == (404, unknown)
        for _ in range(2):
            assert await told(box, f"{BYPASS}:stopHlsDump", asked) == (200, "OK")
        listed = (await box.ask("POST", f"{BYPASS}:hlsDumps", body=asked | {"id": "d"})).json()["response"]
        assert [each["enabled"] for each in listed] == [False]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ([], 400, "Request body must be an object"),
        ({"urls": ["rtsp://x"]}, 400, "Stream name or urls is required"),
        ({"name": "x", "urls": "rtsp://x"}, 400, "Stream name or urls is required"),
        ({"name": "x", "urls": []}, 400, "Urls must be at least one"),
        ({"name": "x", "urls": [1]}, 400, "Url must be a string"),
        ({"name": "x", "urls": ["rtsp://x"] * 33}, 400,
         "[urls] may hold 32 addresses of 2048 printable characters"),
        ({"name": "../x", "urls": ["rtsp://x"]}, 400, "Invalid stream name: [../x]"),
        ({"name": "x", "urls": ["rtsp://x"], "properties": []}, 400, "[properties] must be an object"),
        ({"name": "x", "urls": ["rtsp://x"], "properties": {"persistent": 1}}, 400,
         "[properties.persistent] must be true or false"),
        ({"name": "x", "urls": ["rtsp://x"], "properties": {"retryCount": -2}}, 400,
         "[properties.retryCount] must be between -1 and 1000"),
        ({"name": "live1", "urls": ["rtsp://x"]}, 409, "Stream already exists"),
        ({"name": "x", "urls": ["ovt://x/y"]}, 501, "Pulling from ovt:// is not built in this version"),
        ({"name": "x", "urls": ["gopher://x"]}, 502,
         "Could not pull the stream : http://localhost:8081/v1/vhosts/default/apps/app/streams"),
    ],
)  # fmt: skip
async def test_a_pull_that_is_refused(body: Any, status: int, message: str, tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        assert await told(box, f"{APP}/streams", body) == (status, f"[HTTP] {message} ({status})")
        assert list(box.engine.pulls) == []


async def test_a_stream_that_is_deleted_is_gone_and_its_provider_told(tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        opened, _, _ = box.open("app", "live9")
        reasons: list[str] = []
        opened.on_cancel(reasons.append)
        assert await told(box, f"{APP}/streams/live9", None, "DELETE") == (200, "OK")
        assert reasons == ["deleted over the API"]
        gone = "[HTTP] Could not find the stream: [default/#default#app/live9] (404)"
        assert await told(box, f"{APP}/streams/live9", None, "DELETE") == (404, gone)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "eventFormat(string) and events(array) are required"),
        ({"eventFormat": "id3v2", "events": []}, "eventFormat(string) and events(array) are required"),
        ({"eventFormat": "amf", "events": [{}]}, "eventFormat is not supported: [amf]"),
        ({"eventFormat": "id3v2", "events": [{}], "eventType": 5}, "frameType is required in events"),
        ({"eventFormat": "id3v2", "events": [{"frameType": "APIC"}]}, "frameType is not supported: [APIC]"),
        ({"eventFormat": "id3v2", "events": ["x"]}, "[events[0]] must be an object"),
        ({"eventFormat": "id3v2", "events": [{"frameType": "TIT2"}], "eventType": 5}, "eventType must be string"),
        ({"eventFormat": "id3v2", "events": [{"frameType": "TIT2"}], "eventType": "x"},
         "eventType is not supported: [x]"),
        ({"eventFormat": "id3v2", "events": [{"frameType": "TIT2"}], "urgent": 1}, "[urgent] must be true or false"),
        ({"eventFormat": "cue", "events": [{}]}, "cueType is required in events"),
        ({"eventFormat": "cue", "events": [{"cueType": "x"}]}, "cueType is not supported: [x]"),
        ({"eventFormat": "cue", "events": [{"cueType": "out", "duration": -1}]},
         "[events[0].duration] must be between 0 and 4294967295"),
        ({"eventFormat": "scte35", "events": [{"spliceCommand": "x"}]}, "Now only spliceInsert is supported"),
        ({"eventFormat": "scte35", "events": [{}]}, "id is required in events"),
        ({"eventFormat": "scte35", "events": [{"id": 1}]}, "type is required in events"),
        ({"eventFormat": "scte35", "events": [{"id": 1, "type": "x"}]}, "type must be 'out' or 'in'"),
    ],
)  # fmt: skip
async def test_an_event_that_is_refused(body: Any, message: str, tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        assert await told(box, f"{LIVE}:sendEvent", body) == (400, f"[HTTP] {message} (400)")
        answer = await box.ask("POST", f"{LIVE}:sendEvents", body=[body])
        assert (answer.status_code, answer.json()) == (400, [{"message": message, "statusCode": 400}])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "format(string) and data(array) are required"),
        ({"format": "srt", "data": [{}]}, 400, "format is not supported: [srt]"),
        ({"format": "webvtt", "data": [{}]}, 400, "label(string) and subtitles(array) are required"),
        ({"format": "webvtt", "data": [5]}, 400, "[data[0]] must be an object"),
        ({"format": "webvtt", "data": [{"label": "x", "subtitles": [{}]}]}, 400,
         "text(string) is required in subtitles"),
        ({"format": "webvtt", "data": [{"label": "x", "subtitles": [{"text": "t", "durationMs": "5"}]}]}, 400,
         "[data[0].subtitles[0].durationMs] must be an integer"),
        ({"format": "webvtt", "data": [{"label": "Klingon", "subtitles": [{"text": "t"}]}]}, 404,
         "Could not send WebVTT frame: [default/app/live1] (no subtitles are labelled Klingon)"),
    ],
)  # fmt: skip
async def test_subtitles_that_are_refused(body: Any, status: int, message: str, tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        assert await told(box, f"{LIVE}:sendSubtitles", body) == (status, f"[HTTP] {message} ({status})")


async def test_statistics_at_every_level(tmp_path: Path) -> None:
    async with ready(tmp_path) as box:
        base = "/v1/stats/current"
        shown = [
            (await box.ask("GET", path)).json()["response"]
            for path in (base, f"{base}/vhosts/default", f"{base}{APP[3:]}", f"{base}{LIVE[3:]}")
        ]
        assert len({each["totalBytesIn"] for each in shown}) == 1
        assert shown[0]["totalBytesIn"] > 60 * 2500
        assert sorted(shown[0]["connections"]) == [
            "file", "hlsv3", "llhls", "ovt", "push", "srt", "thumbnail", "webrtc",
        ]  # fmt: skip
        assert (await box.ask("GET", f"{base}/internals")).json()["response"] == [f"{base}/internals/queues"]
        assert (await box.ask("GET", f"{base}/vhosts/nope")).status_code == 404


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(
    st.recursive(st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=8),
                 lambda inner: st.lists(inner, max_size=3)
                 | st.dictionaries(st.sampled_from(["id", "stream", "name", "url", "urls", "protocol", "events", "data",
                                                    "eventFormat", "calendar", "start", "properties"]), inner)),
)  # fmt: skip
def test_no_body_is_a_fault(body: Any) -> None:
    async def ask(folder: Path) -> None:
        async with ready(folder) as box:
            for path in (f"{APP}:startRecord", f"{APP}:stopRecord", f"{APP}:records", f"{APP}:startPush",
                         f"{APP}:stopPush", f"{APP}:pushes", f"{APP}/streams", f"{LIVE}:startHlsDump",
                         f"{LIVE}:stopHlsDump", f"{LIVE}:hlsDumps", f"{LIVE}:sendEvent", f"{LIVE}:sendEvents",
                         f"{LIVE}:sendSubtitles", f"{LIVE}:concludeHlsLive"):  # fmt: skip
                answer = await box.ask("POST", path, body=body)
                assert answer.status_code < 500 or answer.status_code in (501, 502, 503), (path, answer.text)

    with tempfile.TemporaryDirectory() as folder:
        trio.run(ask, Path(folder))
