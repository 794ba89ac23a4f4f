"""A whole box records what a real publisher sends, and loses next to nothing when it is killed."""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.kit import ffmpeg, procfs
from tests.kit.ffmpeg import B_FRAMES, SMALL, Ffmpeg
from tests.kit.kiln import AUTHORIZATION, KilnProcess
from tests.kit.server_xml import BYPASS, Application, ServerXml
from tests.publishers.record.kit import decoded, demuxed

APP = "/v1/vhosts/default/apps/app"
SHARE = float(os.environ.get("KILN_LONG_SHARE", "1"))


@pytest.fixture
def kiln(tmp_path: Path) -> Iterator[KilnProcess]:
    application = Application(profiles=BYPASS, segment=1, publishers="<FILE/>")
    with KilnProcess(tmp_path, ServerXml((application,))) as process:
        yield process


def start(kiln: KilnProcess, **wanted: object) -> None:
    status, answer = kiln.call("POST", f"{APP}:startRecord", {"id": "r", "stream": {"name": "cam"}, **wanted})
    assert status == 200, answer


def task(kiln: KilnProcess) -> dict[str, object] | None:
    _, answer = kiln.call("POST", f"{APP}:records", {})
    found: list[dict[str, object]] = answer["response"]
    return found[0] if found else None


def until(condition: object, why: str, timeout: float = 15) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def recorded_ms(kiln: KilnProcess) -> int:
    """Of the current file."""
    found = task(kiln)
    value = found.get("recordTime", 0) if found and found["state"] == "recording" else 0
    assert isinstance(value, int)
    return value


def stop(kiln: KilnProcess) -> None:
    status, answer = kiln.call("POST", f"{APP}:stopRecord", {"id": "r"})
    assert status == 200, answer
    until(lambda: task(kiln) is None, "the task does not end")


def files(kiln: KilnProcess, pattern: str) -> list[Path]:
    return sorted((kiln.state / "media").rglob(pattern))


def publisher(kiln: KilnProcess, spec: ffmpeg.SourceSpec = SMALL) -> Ffmpeg:
    return ffmpeg.publish(ffmpeg.source(spec), kiln.rtmp("cam"), loop=True)


@pytest.mark.parametrize("extension", ["mp4", "ts", "mkv"])
def test_a_publisher_is_recorded(kiln: KilnProcess, extension: str) -> None:
    """Reserved before the stream is there; plain and whole at the end; listed in the info file."""
    start(kiln, filePath=f"/out/${{Stream}}.{extension}", infoPath="/out/info.xml", metadata="a <note>")
    with publisher(kiln, B_FRAMES):
        until(lambda: recorded_ms(kiln) > 2500, "nothing is recorded")
        stop(kiln)
    (path,) = files(kiln, f"cam.{extension}")
    video, audio = demuxed(path)
    span = max(video)[0] - min(video)[0]
    assert span > Fraction(2)
    assert decoded(path) == len(video)
    # A stop between B-frames leaves the last ones without their neighbours.
    shown = sorted(video)[:-3]
    steps = {round((later[0] - earlier[0]) * 1000) for earlier, later in itertools.pairwise(shown)}
    assert steps <= {33, 34}
    assert abs(video[0][0] - audio[0][0]) < Fraction(1, 10)
    assert not files(kiln, "tmp_*")
    (told,) = ElementTree.parse(files(kiln, "info.xml")[0]).getroot()
    assert told.findtext("filePath") == f"out/cam.{extension}"
    assert told.findtext("metadata") == "a <note>"
    assert told.findtext("lastSequence") == "true"
    assert told.findtext("recordBytes") == str(path.stat().st_size)
    assert abs(int(told.findtext("recordTime") or 0) - span * 1000) < 100


def test_default_names_and_splits(kiln: KilnProcess) -> None:
    """Without a path the container is TS under the application's folder; each second a new file, nothing between."""
    start(kiln, interval=1000)
    with publisher(kiln):
        until(lambda: (task(kiln) or {}).get("sequence", 0) == 3, "no fourth file")
        stop(kiln)
    found = files(kiln, "*.ts")
    assert len(found) == 4
    name = re.compile(r"[A-Za-z0-9]{16}_default_app_cam_\d{14}_\d{14}(_\d+)?\.ts")
    assert all(name.fullmatch(path.name) for path in found)
    assert {path.parent for path in found} == {kiln.state / "media/app/records"}
    assert [len(demuxed(path)[0]) for path in found[:3]] == [30, 30, 30]


def test_a_stream_that_comes_back_goes_into_the_next_file(kiln: KilnProcess) -> None:
    start(kiln, filePath="/out/${Sequence}.mp4")
    for _ in range(2):
        with publisher(kiln) as sender:
            until(lambda: recorded_ms(kiln) > 1000, "nothing is recorded")
            sender.kill()
        until(lambda: (task(kiln) or {}).get("state") == "ready", "the task does not wait")
    stop(kiln)
    assert [path.name for path in files(kiln, "*.mp4")] == ["0.mp4", "1.mp4"]
    assert all(decoded(path) >= 30 for path in files(kiln, "*.mp4"))


def test_the_end_of_the_box_finishes_its_files(tmp_path: Path) -> None:
    application = Application(profiles=BYPASS, publishers="<FILE/>")
    with KilnProcess(tmp_path, ServerXml((application,))) as kiln:
        start(kiln, filePath="/a.mp4")
        with publisher(kiln):
            until(lambda: recorded_ms(kiln) > 1500, "nothing is recorded")
            kiln.stop()
    (path,) = files(kiln, "a.mp4")
    assert decoded(path) >= 45
    assert not files(kiln, "tmp_*")


def disk_worker(kiln: KilnProcess) -> int:
    for pid in kiln.workers:
        if b"appliance.storage.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("no disk worker")


def growing(kiln: KilnProcess) -> set[str]:
    """Files that have more than a second in them."""
    return {path.name for path in files(kiln, "tmp_*") if size_of(path) > 90_000}


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def kills(kiln: KilnProcess, times: int, seed: int) -> None:
    """Engine, disk worker, and both at once are killed in turn at random moments; the task goes on each time."""
    chance = random.Random(seed)
    start(kiln, filePath="/out/${Sequence}.mp4")
    losses = []
    for turn in range(times):
        known = len(files(kiln, "*.mp4"))
        with publisher(kiln) as sender:
            until(lambda: growing(kiln), "nothing is recorded")
            time.sleep(chance.uniform(0, 0.8))
            before = recorded_ms(kiln)
            worker = disk_worker(kiln)
            whom = ("engine", "worker", "both")[turn % 3]
            if whom == "worker":
                hit = growing(kiln)
                os.kill(worker, signal.SIGKILL)
                until(lambda hit=hit: growing(kiln) - hit, "recording does not go on")
            else:
                if whom == "both":
                    os.kill(worker, signal.SIGKILL)
                kiln.kill()
                until(lambda worker=worker: not Path(f"/proc/{worker}").exists(), "the disk worker stays")
            sender.kill()
        if whom != "worker":
            kiln.start()
        until(lambda: not files(kiln, "tmp_*"), "a file is not repaired")
        found = sorted(files(kiln, "*.mp4"), key=lambda path: path.stat().st_mtime_ns)
        assert len(found) - known == (2 if whom == "worker" else 1)
        if whom != "worker":
            losses.append(before - longest(found[-1]))
        for path in found[known:]:
            assert decoded(path) > 0, path
    stop(kiln)
    assert max(losses) <= 1000, losses


def longest(path: Path) -> int:
    times = [sample[0] for sample in demuxed(path)[0]]
    return int((max(times) - min(times)) * 1000) + 33


def disk_worker_or_none(kiln: KilnProcess) -> int | None:
    try:
        return disk_worker(kiln)
    except (AssertionError, OSError):
        return None


def test_kills(kiln: KilnProcess) -> None:
    kills(kiln, 4, seed=1)


@pytest.mark.long
def test_two_hundred_kills(kiln: KilnProcess) -> None:
    kills(kiln, max(9, int(200 * SHARE)), seed=2)


def test_the_worker_is_small(kiln: KilnProcess) -> None:
    until(lambda: disk_worker_or_none(kiln) is not None, "no disk worker")
    worker = disk_worker(kiln)
    time.sleep(0.5)
    assert procfs.rss_bytes(worker) < 40 << 20
    assert "libav" not in Path(f"/proc/{worker}/maps").read_text()


def fetch(kiln: KilnProcess, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(kiln.api_url + path, headers={"Authorization": AUTHORIZATION, **headers})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_recordings_over_the_api(kiln: KilnProcess) -> None:
    """Listed, fetched whole and in ranges, kept, deleted; the disk and how long it lasts."""
    start(kiln, filePath="/out/${Sequence}.mp4", interval=1000)
    with publisher(kiln):
        until(lambda: (task(kiln) or {}).get("sequence", 0) == 2, "no third file")
        until(lambda: kiln.api("/box/v1/storage")["volumes"][0]["bytesPerSecond"] > 1000, "no rate")
        storage = kiln.api("/box/v1/storage")
        assert storage["volumes"][0]["state"] == "ok"
        assert storage["volumes"][0]["hoursLeft"] > 0
        assert storage["retention"] == [{"app": "app", "maxAge": 0, "maxSize": 0, "vhost": "default"}]
        stop(kiln)
    listed = kiln.api("/box/v1/recordings?stream=cam&state=finished")
    assert [each["path"] for each in listed] == [f"out/{number}.mp4" for number in reversed(range(len(listed)))]
    one = listed[-1]
    path = f"/box/v1/recordings/{one['id']}"
    data = (kiln.state / "media" / one["path"]).read_bytes()
    status, headers, body = fetch(kiln, f"{path}/file")
    assert (status, body, headers["content-type"]) == (200, data, "video/mp4")
    for asked, part in (("bytes=10-19", data[10:20]), ("bytes=-5", data[-5:]), ("bytes=100-", data[100:])):
        status, headers, body = fetch(kiln, f"{path}/file", Range=asked)
        assert (status, body) == (206, part)
        assert headers["content-range"].endswith(f"/{len(data)}")
    assert fetch(kiln, f"{path}/file", Range=f"bytes={len(data)}-")[0] == 416
    assert kiln.call("POST", f"{path}:keep")[1]["response"]["keep"] is True
    assert kiln.api(path)["keep"] is True
    assert kiln.call("POST", f"{path}:unkeep")[1]["response"]["keep"] is False
    assert kiln.call("DELETE", path)[0] == 200
    assert not (kiln.state / "media" / one["path"]).exists()
    assert kiln.call("DELETE", path)[0] == 404
    assert fetch(kiln, f"{path}/file")[0] == 404
    assert fetch(kiln, "/box/v1/recordings?state=odd")[0] == 400
