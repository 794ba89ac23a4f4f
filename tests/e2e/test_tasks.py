"""Tasks and pulled streams of a whole box, through SIGKILL: what was answered is there again, and goes on."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import ffmpeg
from tests.kit.kiln import KilnProcess
from tests.kit.ports import free_ports
from tests.kit.server_xml import PATTERN, Application, ServerXml

ALLOWED = {"KILN_EGRESS_ALLOW": "127.0.0.0/8"}
APP = "/v1/vhosts/default/apps/app"


def until(condition: Callable[[], Any], within: float = 15) -> Any:
    end = time.monotonic() + within
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within} s, last: {found}")


@pytest.fixture
def kiln(tmp_path: Path) -> Iterator[KilnProcess]:
    app = Application(captures=(PATTERN,), publishers="<FILE/><Push/>")
    server = ServerXml((app, Application("sink")))
    with KilnProcess(tmp_path / "box", server, environment=ALLOWED) as process:
        until(lambda: process.api(f"{APP}/streams") == ["pattern"])
        yield process


def ask(kiln: KilnProcess, action: str, body: Any, status: int = 200) -> Any:
    answered, told = kiln.call("POST", action, body, timeout=15)
    assert answered == status, told
    return told.get("response")


def test_a_record_and_a_push_survive_a_kill(kiln: KilnProcess) -> None:
    ask(kiln, f"{APP}:startRecord", {"id": "r", "stream": {"name": "pattern"}, "filePath": "/rec/${Sequence}.mp4"})
    url = f"rtmp://127.0.0.1:{kiln.ports.rtmp}/sink"
    made = ask(kiln, f"{APP}:startPush", {"id": "p", "stream": {"name": "pattern"}, "protocol": "rtmp", "url": url,
                                          "streamKey": "copy"})  # fmt: skip
    assert made["state"] in ("ready", "started")
    ask(kiln, f"{APP}:startRecord", {"id": "later", "stream": {"name": "not-yet"}, "interval": 60000})

    def both_run() -> bool:
        record = ask(kiln, f"{APP}:records", {"id": "r"})[0]
        push = ask(kiln, f"{APP}:pushes", {"id": "p"})[0]
        return bool(record.get("recordBytes", 0) > 0 and push["state"] == "started" and push["sentBytes"] > 0)

    until(both_run)
    until(lambda: kiln.api("/v1/vhosts/default/apps/sink/streams") == ["copy"])
    kiln.kill()
    kiln.start()
    assert [each["id"] for each in ask(kiln, f"{APP}:records", {})] == ["later", "r"]
    until(both_run)
    until(lambda: kiln.api("/v1/vhosts/default/apps/sink/streams") == ["copy"])
    ask(kiln, f"{APP}:stopPush", {"id": "p"})
    stopped = ask(kiln, f"{APP}:stopRecord", {"id": "r"})
    assert (stopped["state"], "outputFilePath" in stopped) == ("stopping", False)
    until(lambda: [each["id"] for each in ask(kiln, f"{APP}:records", {})] == ["later"])
    until(lambda: ask(kiln, f"{APP}:pushes", {}) == [])
    files = until(lambda: sorted((kiln.state / "media" / "rec").glob("*.mp4")))
    # The number of the second one is 1, unless the kill came before that of the first was written down.
    assert [file.name for file in files] in (["0.mp4", "1.mp4"], ["0.mp4", "0_1.mp4"])
    for file in files:
        played = ffmpeg.run(["-i", str(file), "-f", "null", "-"])
        assert played.returncode == 0, played.stderr[-500:]


def test_a_pull_is_answered_when_it_is_on_and_survives_a_kill(kiln: KilnProcess) -> None:
    (port,) = free_ports(1)
    source = ffmpeg.source(ffmpeg.SMALL)
    url = f"rtmp://127.0.0.1:{port}/live/x"

    def serve() -> ffmpeg.Ffmpeg:
        return ffmpeg.Ffmpeg(["-stream_loop", "-1", "-re", "-i", str(source), "-c", "copy", "-f", "flv", "-listen", "1",
                              url])  # fmt: skip

    with serve():
        time.sleep(0.5)
        ask(kiln, f"{APP}/streams", {"name": "pulled", "urls": [url], "properties": {"persistent": True}}, 201)
        stream = kiln.api(f"{APP}/streams/pulled")
        assert stream["input"]["sourceType"] == "RtmpPull"
        assert kiln.call("POST", f"{APP}/streams", {"name": "pulled", "urls": [url]})[0] == 409
        kiln.kill()
    with serve():
        kiln.start()
        until(lambda: "pulled" in kiln.api(f"{APP}/streams"), within=25)
        metrics = until(lambda: _with_bytes(kiln.api("/v1/stats/current" + f"{APP[3:]}/streams/pulled")))
        assert metrics["lastRecvTime"] > metrics["createdTime"]
        assert kiln.call("DELETE", f"{APP}/streams/pulled")[0] == 200
        assert kiln.api(f"{APP}/streams") == ["pattern"]
        assert kiln.call("DELETE", f"{APP}/streams/pulled")[0] == 404


def _with_bytes(metrics: dict[str, Any]) -> dict[str, Any] | None:
    return metrics if metrics["totalBytesIn"] > 0 else None


def test_a_black_hole_is_given_up_on_time(kiln: KilnProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"rtmp://127.0.0.1:{hole.getsockname()[1]}/live/x"
        began = time.monotonic()
        status, told = kiln.call(
            "POST", f"{APP}/streams",
            {"name": "dark", "urls": [url], "properties": {"noInputFailoverTimeoutMs": 1000}}, timeout=15,
        )  # fmt: skip
        assert status == 502
        assert time.monotonic() - began < 4
    own = f"http://127.0.0.1:{kiln.ports.api}{APP}/streams"
    assert told["message"] == f"[HTTP] Could not pull the stream : {own} (502)"
    assert kiln.api(f"{APP}/streams") == ["pattern"]
    assert kiln.call("POST", f"{APP}/streams", {"name": "x", "urls": ["ovt://127.0.0.1:1/a/b"]})[0] in (501, 502)
    assert kiln.call("POST", f"{APP}/streams", {"name": "x", "urls": ["gopher://127.0.0.1:1/a/b"]})[0] == 502
