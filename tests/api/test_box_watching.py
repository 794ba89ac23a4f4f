"""A running box, watched: events, logs, system, metrics, pictures, alarms, the support bundle, and `kiln api`."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from appliance.console.client import Client, NotReachable, Refused
from appliance.console.server_events import merge
from tests.kit import ffmpeg
from tests.kit.ffmpeg import SMALL
from tests.kit.kiln import AUTHORIZATION, COMMAND, TOKEN, KilnProcess
from tests.kit.server_xml import PATTERN, Application, ServerXml

STREAM = "/box/v1/vhosts/default/apps/app/streams/pattern"


@pytest.fixture(scope="module")
def kiln(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    server = ServerXml((Application("app", captures=(PATTERN,)),))
    with KilnProcess(tmp_path_factory.mktemp("watched"), server) as process:
        process.wait_stream("pattern")
        yield process


def client(kiln: KilnProcess, token: str = TOKEN) -> Client:
    return Client(url=kiln.api_url, token=token)


async def test_a_stream_comes_and_goes_in_the_events(kiln: KilnProcess) -> None:
    state: Any = {}
    names: list[str] = []
    async with client(kiln) as box:
        with trio.fail_after(20):
            async with aclosing(box.events()) as events, trio.open_nursery() as nursery:
                async for event in events:
                    names.append(event.name)
                    state = merge(state, json.loads(event.data))
                    if event.name == "snapshot":
                        nursery.start_soon(publish_for, kiln, 2.0)
                    if event.name == "stream-off":
                        break
    assert names[0] == "snapshot"
    assert {"stream-on", "figures", "stream-off"} <= set(names)
    assert state["inputs"]["default/app/pattern"]["on"] is True
    pattern = state["streams"]["default/app/pattern"]
    assert pattern["source"]["kind"] == "Capture"
    video = pattern["outputs"]["pattern"]["tracks"]["0"]
    assert (video["codec"], video["width"]) == ("H264", 640)
    assert pattern["outputs"]["pattern"]["figures"]["viewers"]["llhls"] >= 0
    assert state["workers"]["default/app/pattern"]["pid"] in kiln.workers
    assert list(state["streams"]) == ["default/app/pattern"]
    assert state["system"]["box"]["figures"]["disks"]["state"]["free"] > 0


async def publish_for(kiln: KilnProcess, seconds: float) -> None:
    """An RTMP publisher that stays for so long, and is looked at meanwhile."""
    with ffmpeg.publish(ffmpeg.source(SMALL), kiln.rtmp("guest")):
        await trio.sleep(seconds)
        async with client(kiln) as box:
            reply = await box.ask("GET", "/box/v1/vhosts/default/apps/app/streams/guest/preview?size=32x18&format=rgb")
        assert (reply.status, len(reply.body)) == (200, 32 * 18 * 3), reply.reason


async def test_heads_of_streams(kiln: KilnProcess) -> None:
    async with httpx.AsyncClient(base_url=kiln.api_url, headers={"Authorization": AUTHORIZATION}) as http:
        for path in ("/box/v1/events", "/box/v1/logs?follow=yes"):
            answer = await http.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.headers["cache-control"] == "no-store"
            assert (await http.get(path, headers={"Authorization": "Basic eA=="})).status_code == 401


async def test_who_leaves_is_forgotten(kiln: KilnProcess) -> None:
    async def followers(box: Client) -> str:
        text = (await box.ask("GET", "/metrics")).body.decode()
        return next(line for line in text.splitlines() if line.startswith("kiln_event_followers ")).partition(" ")[2]

    async with client(kiln) as box, client(kiln) as other:
        async with aclosing(other.events()) as events:
            await anext(events)
            assert float(await followers(box)) >= 1
        with trio.fail_after(10):
            left = await followers(box)
            while float(left) > 0:
                await trio.sleep(0.05)
                left = await followers(box)


async def test_logs_are_filtered_and_followed(kiln: KilnProcess) -> None:
    async with client(kiln) as box:
        lines = await box.get("/box/v1/logs?part=output&stream=pattern&lines=5")
        assert lines
        assert {line["logger"] for line in lines} == {"kiln.output"}
        assert {line["stream"] for line in lines} == {"default/app/pattern"}
        assert await box.get("/box/v1/logs?level=critical") == []
        assert await box.get("/box/v1/logs?since=2099-01-01T00:00:00Z") == []
        assert len(await box.get("/box/v1/logs?lines=1")) == 1
        for wrong in ("level=loud", "lines=x", "lines=99999", "since=yesterday", "follow=maybe", "what=1"):
            with pytest.raises(Refused, match=wrong.partition("=")[0]):
                await box.get(f"/box/v1/logs?{wrong}")
        seen: list[dict[str, Any]] = []
        with trio.fail_after(10):
            async with aclosing(box.events("/box/v1/logs?follow=yes&lines=1")) as events:
                async for event in events:
                    seen.append(json.loads(event.data))
                    if len(seen) == 1:
                        await box.ask("GET", "/v1/version")
                        kiln.signal(signal.SIGHUP)
                    elif "certificates read again" in seen[-1]["text"]:
                        break
        assert [line["id"] for line in seen] == list(range(seen[0]["id"], seen[0]["id"] + len(seen)))


async def test_metrics_are_prometheus_text(kiln: KilnProcess) -> None:
    async with client(kiln) as box:
        reply = await box.ask("GET", "/metrics")
    assert (reply.status, reply.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
    assert families["kiln_track_bytes"].type == "counter"
    sent = [
        sample.value
        for sample in families["kiln_track_bytes"].samples
        if sample.labels["side"] == "output" and sample.labels["media"] == "Video"
    ]
    assert len(sent) == 1
    assert sent[0] > 0
    for name in (
        "kiln_info", "kiln_uptime_seconds", "kiln_stream_up", "kiln_output_up", "kiln_viewers", "kiln_worker_up",
        "kiln_worker_restarts", "kiln_worker_cpu_seconds", "kiln_child_restarts", "kiln_loop_lag_seconds",
        "kiln_disk_free_bytes", "kiln_process_cpu_seconds", "kiln_process_resident_bytes", "kiln_process_open_fds",
    ):  # fmt: skip
        assert families[name].samples, name
    assert {sample.labels["protocol"] for sample in families["kiln_viewers"].samples} >= {"llhls"}


async def test_the_system(kiln: KilnProcess) -> None:
    async with client(kiln) as box:
        system = await box.get("/box/v1/system")
    assert system["process"]["pid"] == kiln.pid
    assert system["process"]["memory"] == pytest.approx(kiln.rss(), rel=0.3)
    assert system["machine"]["cores"] == os.cpu_count()
    assert 0 <= system["machine"]["cpu"] <= system["machine"]["cores"]
    assert system["machine"]["memory"]["total"] > 1 << 28
    assert system["disks"]["state"]["total"] > system["disks"]["state"]["free"] > 0
    assert system["versions"]["av"]
    assert [worker["stream"] for worker in system["workers"]] == ["default/app/pattern"]
    assert {child["name"] for child in system["children"]} >= {"events", "loop-lag", "rtmp"}


async def test_pictures(kiln: KilnProcess) -> None:
    async with client(kiln) as box, trio.open_nursery() as nursery:
        pictures: list[bytes] = []

        async def look() -> None:
            reply = await box.ask("GET", f"{STREAM}/preview?size=64x36&format=rgb")
            assert reply.status == 200, reply.reason
            pictures.append(reply.body)

        for _ in range(4):
            nursery.start_soon(look)
    assert len(pictures) == 4
    assert len(pictures[0]) == 64 * 36 * 3
    assert len(set(pictures[0])) > 32, "a test pattern has many colours"
    async with client(kiln) as box:
        jpeg = await box.ask("GET", f"{STREAM}/preview?size=320x180")
        assert (jpeg.status, jpeg.content_type) == (200, "image/jpeg")
        assert (jpeg.body[:3], jpeg.body[-2:]) == (b"\xff\xd8\xff", b"\xff\xd9")
        for wrong in ("size=1x1", "size=64", "size=9999x9999", "format=png", "x=y"):
            assert (await box.ask("GET", f"{STREAM}/preview?{wrong}")).status == 400
        assert (await box.ask("GET", STREAM.replace("pattern", "nobody") + "/preview")).status == 404


async def test_a_client_goes_on_after_the_engine_was_killed(tmp_path: Path) -> None:
    kiln = KilnProcess(tmp_path, ServerXml((Application("app", captures=(PATTERN,)),)))
    connected: list[str] = []
    kiln.start()
    try:
        async with client(kiln) as box:
            snapshots = 0
            with trio.fail_after(40):
                async with aclosing(box.events(connected=connected.append)) as events:
                    async for event in events:
                        if event.name != "snapshot":
                            continue
                        snapshots += 1
                        if snapshots == 2:
                            break
                        await trio.to_thread.run_sync(kiln.kill)
                        await trio.to_thread.run_sync(kiln.start)
        assert connected[0] == ""
        assert any(connected), "it says that the connection was lost"
        assert connected[-1] == ""
    finally:
        kiln.stop()


async def test_the_client_says_what_is_wrong(kiln: KilnProcess, tmp_path: Path) -> None:
    async with client(kiln, "wrong") as box:
        with pytest.raises(Refused, match="Invalid credential") as refused:
            await box.get("/v1/vhosts")
        assert refused.value.status == 401
    async with Client(socket=kiln.state / "kiln.sock") as box:
        assert await box.get("/v1/vhosts") == ["default"]
        assert isinstance(await box.get("/box/v1/alarms"), list)
        with pytest.raises(Refused, match="no open alarm"):
            await box.post("/box/v1/alarms/kiln%2Fx:acknowledge")
    async with Client(socket=tmp_path / "none.sock") as box:
        with pytest.raises(NotReachable, match=r"none\.sock"):
            await box.get("/v1/vhosts")


def command(*arguments: str, data: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), "api", *arguments], input=data, capture_output=True, text=True, timeout=20, check=False,
        env={**os.environ, "KILN_URL": "", "KILN_ACCESS_TOKEN": "", **environment},
    )  # fmt: skip


def test_the_command(kiln: KilnProcess, tmp_path: Path) -> None:
    state = str(kiln.state)
    good = command("get", "/v1/vhosts", "--state", state)
    assert (good.returncode, json.loads(good.stdout)["response"]) == (0, ["default"])
    assert good.stdout.count("\n") > 3, "indented"
    missing = command("GET", "/v1/vhosts/none", "--state", state)
    assert (missing.returncode, json.loads(missing.stdout)["statusCode"]) == (1, 404)
    remote = command("GET", "/v1/version", KILN_URL=kiln.api_url, KILN_ACCESS_TOKEN=TOKEN)
    assert remote.returncode == 0
    denied = command("GET", "/v1/version", "--url", kiln.api_url, "--token", "wrong")
    assert (denied.returncode, json.loads(denied.stdout)["statusCode"]) == (1, 401)
    alone = command("GET", "/v1/version", "--state", str(tmp_path))
    assert alone.returncode == 1
    assert "nothing answers at" in alone.stderr
    assert "kiln run" in alone.stderr
    assert command("BREW", "/v1/version", "--state", state).returncode == 2
    assert command("GET", "v1/version", "--state", state).returncode == 2
    bad = command("POST", "/box/v1/tokens", "--data", "-", "--state", state, data="{")
    assert (bad.returncode, json.loads(bad.stdout)["statusCode"]) == (1, 400)
    assert command("HEAD", "/v1/version", "--state", state).stdout == "200\n"


def test_the_command_prints_events_as_they_come(kiln: KilnProcess) -> None:
    with subprocess.Popen(
        [str(COMMAND), "api", "GET", "/box/v1/events", "--state", str(kiln.state)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "KILN_URL": ""},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        names = []
        for line in process.stdout:
            if line.startswith("event: "):
                names.append(line[7:].strip())
            if len(names) == 2:
                break
        process.terminate()
    assert names[0] == "snapshot"


@pytest.mark.long
async def test_the_support_bundle_of_a_running_box(kiln: KilnProcess) -> None:
    async with client(kiln) as box:
        answer = await box._http.get("/box/v1/support-bundle", timeout=90)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        files = {name.partition("/")[2]: bundle.read(name).decode() for name in bundle.namelist()}
    assert "libx264" in files["doctor.txt"]
    assert "default/app/pattern" in json.loads(files["state.json"])["streams"]
    assert "kiln_stream_up" in files["metrics.txt"]
    assert "on stream=default/app/pattern" in files["logs.txt"]
    assert not any(TOKEN in text for text in files.values())
