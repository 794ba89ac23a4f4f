"""Virtual hosts, applications and output profiles change while streams are on: only what is touched notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import LONG, SMALL
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.server_xml import ServerXml
from tests.kit.witness import witness

BYPASS = {"videos": [{"name": "video", "bypass": True}], "audios": [{"name": "audio", "bypass": True}]}
LLHLS = {"chunkDuration": 0.5, "segmentDuration": 1, "segmentCount": 10}
APP = "/v1/vhosts/default/apps/app"


def profile(name: str, output: str, encodes: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "outputStreamName": output, "encodes": encodes}


def encoded(height: int) -> dict[str, Any]:
    """One rendition, cheap enough for any machine."""
    video = {"name": "small", "codec": "h264", "bitrate": 100000, "height": height, "framerate": 10,
             "keyFrameInterval": 10, "preset": "faster"}  # fmt: skip
    return {"videos": [video], "audios": [{"name": "audio", "bypass": True}]}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    """Everything that exists in it is made over the API."""
    with KilnProcess(tmp_path_factory.mktemp("box"), ServerXml(applications=())) as kiln:
        assert kiln.call("POST", "/v1/vhosts", [{"name": "default", "host": {"names": ["*"]}}])[0] == 200
        application = {
            "name": "app",
            "type": "live",
            "providers": {"rtmp": {}},
            "publishers": {"llhls": LLHLS},
            "outputProfiles": {"outputProfile": [
                profile("A", "${OriginStreamName}", BYPASS),
                profile("A2", "${OriginStreamName}_small", encoded(180)),
                profile("B", "${OriginStreamName}_b", encoded(180)),
            ]},
        }  # fmt: skip
        status, answer = kiln.call("POST", "/v1/vhosts/default/apps", [application])
        assert (status, answer[0]["message"]) == (200, "OK")
        yield kiln


async def call(kiln: KilnProcess, method: str, path: str, body: Any = None) -> Any:
    status, answer = await trio.to_thread.run_sync(lambda: kiln.call(method, path, body))
    assert status == 200, answer
    return answer


async def size_of(kiln: KilnProcess, stream: str, app: str = "app") -> tuple[str, str]:
    """RESOLUTION of what a new viewer of the stream gets; a second of it is delivered."""
    viewer = LlhlsClient(kiln.hls(stream, app=app))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(viewer.run)
        await viewer.wait(lambda: bool(viewer.tracks) and viewer.video.delivered_seconds > 1, 20)
        nursery.cancel_scope.cancel()
    assert viewer.master is not None
    width, _, height = viewer.master.variants[0].attributes["RESOLUTION"].partition("x")
    return width, height


async def test_viewers_of_a_profile_see_every_part_while_others_come_change_and_go(box: KilnProcess) -> None:
    """Bypassed (the witness) and encoded by the transcoder that the changed profiles share."""
    async with witness(box, "cam") as seen:
        before = (await call(box, "GET", f"{APP}/streams/cam"))["response"]["input"]["createdTime"]
        viewer = LlhlsClient(box.hls("cam_small"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(viewer.run)
            await viewer.wait(lambda: bool(viewer.tracks) and viewer.video.delivered_seconds > 1, 20)
            assert (await size_of(box, "cam_b"))[1] == "180"
            # B shares its encode with A2 until it changes.
            await call(box, "PATCH", f"{APP}/outputProfiles/B",
                       {"outputStreamName": "${OriginStreamName}_b", "encodes": encoded(120)})  # fmt: skip
            assert (await size_of(box, "cam_b"))[1] == "120"
            added = profile("C", "${OriginStreamName}_c", encoded(180))
            await call(box, "POST", f"{APP}/outputProfiles", [added])
            assert (await size_of(box, "cam_c"))[1] == "180"
            await call(box, "DELETE", f"{APP}/outputProfiles/B")
            outputs = (await call(box, "GET", f"{APP}/streams/cam"))["response"]["outputs"]
            assert [each["name"] for each in outputs] == ["cam", "cam_small", "cam_c"]
            await call(box, "DELETE", f"{APP}/outputProfiles/C")
            await viewer.wait_seconds(3, within=10)
            nursery.cancel_scope.cancel()
        got = viewer.video.frames()
        assert viewer.video.missed == viewer.video.gaps == viewer.video.held_back == 0
        assert frames.longest_step(got) <= 0.101, "ten frames a second, none missing"
        assert not any(chunk.discontinuity for chunk in viewer.video.chunks[1:])
        after = (await call(box, "GET", f"{APP}/streams/cam"))["response"]["input"]["createdTime"]
        assert after == before
        assert seen.publisher.running


async def test_a_publisher_is_switched_off_and_on_under_a_live_stream(box: KilnProcess) -> None:
    with ffmpeg.publish(ffmpeg.source(LONG), box.rtmp("switched")) as publisher:
        assert await size_of(box, "switched")
        await call(box, "PATCH", APP, {"publishers": {"llhls": None}})
        status, answer = await trio.to_thread.run_sync(lambda: box.call("GET", f"{APP}/streams/switched"))
        assert (status, answer["response"]["outputs"][0]["playlists"]) == (200, [])
        await call(box, "PATCH", APP, {"publishers": {"llhls": LLHLS}})
        assert await size_of(box, "switched")
        # Other settings of the same publisher begin its work anew, and the viewers go on.
        await call(box, "PATCH", APP, {"publishers": {"llhls": {"segmentCount": 6}}})
        assert await size_of(box, "switched")
        assert publisher.running


async def test_a_provider_that_changes_ends_its_streams_and_no_others(box: KilnProcess) -> None:
    pattern = {"streams": [{"name": "bars", "url": "pattern://?size=320x180&fps=10"}]}
    await call(box, "PATCH", APP, {"providers": {"capture": pattern}})
    assert await size_of(box, "bars")
    began = (await call(box, "GET", f"{APP}/streams/bars"))["response"]["input"]["createdTime"]
    with ffmpeg.publish(ffmpeg.source(SMALL), box.rtmp("guest")):
        await trio.to_thread.run_sync(lambda: box.wait_stream("guest"))
        await call(box, "PATCH", APP, {"providers": {"rtmp": {"maxConnection": 9}}})
        await trio.to_thread.run_sync(lambda: box.wait_no_stream("guest"))
    assert (await call(box, "GET", f"{APP}/streams/bars"))["response"]["input"]["createdTime"] == began
    await call(box, "PATCH", APP, {"providers": {"capture": None}})
    await trio.to_thread.run_sync(lambda: box.wait_no_stream("bars"))


async def test_a_new_application_and_a_new_virtual_host_hold_at_once_and_go_at_once(box: KilnProcess) -> None:
    fresh = {
        "name": "fresh",
        "type": "live",
        "providers": {"capture": {"streams": [{"name": "bars", "url": "pattern://?size=320x180&fps=10"}]}},
        "publishers": {"llhls": LLHLS},
        "outputProfiles": {"outputProfile": [profile("p", "${OriginStreamName}", encoded(120))]},
    }
    await call(box, "POST", "/v1/vhosts/default/apps", [fresh])
    assert (await size_of(box, "bars", "fresh"))[1] == "120"
    await call(box, "DELETE", "/v1/vhosts/default/apps/fresh")
    assert (await trio.to_thread.run_sync(lambda: box.call("GET", "/v1/vhosts/default/apps/fresh")))[0] == 404
    other = {"name": "other", "host": {"names": ["other.local"]}, "applications": [{**fresh, "name": "app"}]}
    await call(box, "POST", "/v1/vhosts", [other])
    await trio.to_thread.run_sync(
        lambda: box._until(lambda: box.api("/v1/vhosts/other/apps/app/streams") == ["bars"], "no stream", 10)
    )
    await call(box, "DELETE", "/v1/vhosts/other")
    assert await call(box, "GET", "/v1/vhosts") == {"message": "OK", "response": ["default"], "statusCode": 200}


async def test_tasks_go_with_their_application(box: KilnProcess) -> None:
    worked = {"name": "worked", "type": "live", "publishers": {"push": {}}}
    await call(box, "POST", "/v1/vhosts/default/apps", [worked])
    push = {"id": "p", "stream": {"name": "nobody"}, "protocol": "rtmp", "url": "rtmp://192.0.2.1/live",
            "streamKey": "k"}  # fmt: skip
    await call(box, "POST", "/v1/vhosts/default/apps/worked:startPush", push)
    assert len((await call(box, "POST", "/v1/vhosts/default/apps/worked:pushes"))["response"]) == 1
    await call(box, "DELETE", "/v1/vhosts/default/apps/worked")
    await call(box, "POST", "/v1/vhosts/default/apps", [worked])
    assert (await call(box, "POST", "/v1/vhosts/default/apps/worked:pushes"))["response"] == []


def test_all_of_it_is_there_after_sigkill(box: KilnProcess) -> None:
    before = box.call("GET", APP)
    box.kill()
    box.start()
    assert box.call("GET", APP) == before
    with ffmpeg.publish(ffmpeg.source(SMALL), box.rtmp("again")):
        box.wait_stream("again")
