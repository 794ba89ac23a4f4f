"""A whole Kiln that pushes: asked over the API, received by ffmpeg."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kit.ffmpeg import SMALL, publish, source
from tests.kit.frames import of_file
from tests.kit.kiln import KilnProcess
from tests.kit.ports import free_port
from tests.kit.server_xml import BYPASS, Application, ServerXml
from tests.publishers.push.far_end import receiver

APP = "/v1/vhosts/default/apps/app"


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.05)


def test_a_push_waits_for_its_stream_and_for_its_server(tmp_path: Path) -> None:
    port = free_port()
    server = ServerXml((Application(profiles=BYPASS, publishers="<Push/>"),))
    with KilnProcess(tmp_path, server, environment={"KILN_EGRESS_ALLOW": "127.0.0.0/8"}) as kiln:
        asked = {
            "id": "p1", "stream": {"name": "cam"}, "protocol": "rtmp", "url": f"rtmp://127.0.0.1:{port}/live",
            "streamKey": "abc",
        }  # fmt: skip
        status, answer = kiln.call("POST", f"{APP}:startPush", asked)
        assert status == 200, answer
        assert answer["response"]["state"] == "ready"

        def task() -> dict[str, Any]:
            (one,) = kiln.api(f"{APP}:pushes")
            assert isinstance(one, dict)
            return one

        with publish(source(SMALL), kiln.rtmp("cam"), loop=True):
            until(lambda: "refuses" in task().get("error", "refuses"), 10)
            with receiver(f"rtmp://127.0.0.1:{port}/live/abc", tmp_path / "got.flv", "-listen", "1") as far_end:
                until(lambda: task()["state"] == "started", 8)
                until(lambda: task()["sentTime"] > 2000, 10)
                assert task()["sentBytes"] > 100_000
                assert task()["sequence"] == 1
                status, answer = kiln.call("POST", f"{APP}:stopPush", {"id": "p1"})
                assert status == 200, answer
                until(lambda: not far_end.running, 5)
        until(lambda: kiln.api(f"{APP}:pushes") == [], 5)
    assert len(of_file(tmp_path / "got.flv", "video")) >= 60


def test_the_api_pushes_to_no_address_of_the_box_itself(tmp_path: Path) -> None:
    server = ServerXml((Application(profiles=BYPASS, publishers="<Push/>"),))
    with KilnProcess(tmp_path, server, environment={"KILN_EGRESS_ALLOW": ""}) as kiln:
        for url in ("rtmp://127.0.0.1:1935/app", "rtmp://2130706433/app", "rtmps://[::ffff:127.0.0.1]/app"):
            asked = {"id": "p1", "stream": {"name": "cam"}, "protocol": "rtmp", "url": url, "streamKey": "k"}
            status, answer = kiln.call("POST", f"{APP}:startPush", asked)
            assert status == 400
            assert "may not be reached: it is this machine" in answer["message"]
        assert kiln.api(f"{APP}:pushes") == []
