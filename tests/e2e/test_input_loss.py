"""A publisher goes and comes back, and nobody who watches loses the stream."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import av
import pytest
import trio

from tests.kit import ffmpeg
from tests.kit.ffmpeg import B_FRAMES, HD, LONG, SMALL, publish
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient, Track
from tests.kit.server_xml import LADDER, Application, ServerXml

#: Longest time between two parts for a viewer: a part, and what it may be late.
LONGEST_WAIT = 1.0


@dataclass(frozen=True)
class Held(Application):
    """An application that keeps its streams."""

    rules: str = "<OnInputLoss>hold</OnInputLoss><StallMs>1500</StallMs>"

    def xml(self) -> str:
        return super().xml().replace("<Type>live</Type>", f"<Type>live</Type>{self.rules}")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    applications = (
        Held("app", segment=1, count=20, publishers="<FILE/>"),
        Held("ladder", profiles=LADDER, segment=1, count=20, publishers="<FILE/>"),
        Held("brief", segment=1, rules="<OnInputLoss>hold</OnInputLoss><HoldMs>1000</HoldMs>"),
    )
    with KilnProcess(tmp_path_factory.mktemp("held"), ServerXml(applications)) as process:
        yield process


def is_slate(picture: av.VideoFrame) -> bool:
    """Grey, with nothing moving in its upper corners: the source is a loud pattern with noise."""
    luma = picture.reformat(format="gray8").planes[0]
    stride, view = luma.line_size, bytes(luma)
    corner = [view[line * stride + column] for line in range(16) for column in range(16)]
    return max(corner) - min(corner) < 12 and 36 <= sum(corner) / len(corner) <= 60


def pictures(data: bytes) -> list[bool]:
    """Of an MP4: whether each picture is the slate."""
    with av.open(io.BytesIO(data), mode="r") as container:
        return [is_slate(frame) for frame in container.decode(video=0)]


def waits(track: Track) -> float:
    """The longest time between two parts."""
    # Those of the start are there already.
    got = [chunk.got for chunk in track.chunks][2:]
    return max(after - before for before, after in pairwise(got))


def discontinuities(track: Track) -> int:
    """Changes of init section or EXT-X-DISCONTINUITY tags that the reader passed."""
    return sum(
        after.init != before.init or after.discontinuity for before, after in pairwise(track.chunks)
        if after.init != before.init or (after.discontinuity and after.msn != before.msn)
    )


async def watch_a_loss(box: KilnProcess, app: str, name: str, master: str) -> LlhlsClient:
    """Publish, kill, wait, publish again."""
    client = LlhlsClient(box.hls(name, master, app))
    source = ffmpeg.source(SMALL)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            first = publish(source, box.rtmp(name, app))
            nursery.start_soon(client.run)
            await trio.sleep(6)
            first.kill()
            await trio.sleep(4)
            with publish(source, box.rtmp(name, app)):
                await trio.sleep(5)
            nursery.cancel_scope.cancel()
    return client


@pytest.mark.long
@pytest.mark.parametrize(("app", "master", "changes"), [("app", "llhls.m3u8", 2), ("ladder", "ladder.m3u8", 0)])
def test_viewers_see_the_slate_and_then_the_source_again(
    box: KilnProcess, app: str, master: str, changes: int
) -> None:
    client = trio.run(watch_a_loss, box, app, "gone", master)
    assert waits(client.video) <= LONGEST_WAIT
    assert waits(client.audio) <= LONGEST_WAIT
    assert discontinuities(client.video) == changes
    assert client.video.missed == client.audio.missed == 0
    shown = [slate for run in client.video.runs() for slate in pictures(run)]
    assert not any(shown[:60])
    assert not any(shown[-60:])
    first, last = shown.index(True), len(shown) - shown[::-1].index(True)
    assert all(shown[first:last])
    assert 90 <= last - first <= 200, "four seconds of slate, and what the new publisher took to come"


@pytest.mark.long
def test_another_picture_after_the_loss(box: KilnProcess) -> None:
    """Other size, B-frames, other clock: one stream, in sync, its times growing."""

    async def watch() -> LlhlsClient:
        client = LlhlsClient(box.hls("other"))
        with trio.fail_after(40):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                for spec in (LONG, B_FRAMES, HD):
                    with publish(ffmpeg.source(spec), box.rtmp("other")):
                        await trio.sleep(4)
                    await trio.sleep(1.5)
                nursery.cancel_scope.cancel()
        return client

    client = trio.run(watch)
    runs = [(run, pictures(run)) for run in client.video.runs()]
    assert [all(shown) if any(shown) else False for _, shown in runs] == [False, True] * 3, box.said()
    for track, shortest in ((client.video, 0.0), (client.audio, 0.005)):
        times = [frame.dts for frame in track.frames()]
        assert all(other - one > shortest for one, other in pairwise(times))
    video, audio = client.video.frames(), client.audio.frames()
    assert abs(video[-1].pts - audio[-1].pts) <= 0.6, "no further apart than a part"
    path = "/box/v1/vhosts/default/apps/app/streams/other"
    assert box.api(path)["loss"]["losses"] >= 2


def test_a_source_that_falls_silent_is_replaced_by_the_slate_after_the_time_set(box: KilnProcess) -> None:
    path = "/box/v1/vhosts/default/apps/app/streams/quiet"
    with publish(ffmpeg.source(LONG), box.rtmp("quiet")) as publisher:
        box.wait_stream("quiet")
        time.sleep(2)
        until(lambda: not box.api(path)["loss"]["fault"], "the source is not on")
        losses = box.api(path)["loss"]["losses"]
        publisher.pause()
        began = time.monotonic()
        # Sound may end a little later than the picture.
        until(lambda: box.api(path)["loss"]["fault"] == "no input", "no slate")
        # What was on its way still came; a busy machine looks late.
        assert 0.9 <= time.monotonic() - began <= 4
        told = box.api(path)["loss"]
        assert (told["fault"], told["losses"]) == ("no input", losses + 1)
        assert "input:default/app/quiet" in [alarm["path"] for alarm in box.api("/box/v1/system")["alarms"]]
        publisher.resume()
        began = time.monotonic()
        until(lambda: not box.api(path)["loss"]["fault"], "the source is not back")
        assert time.monotonic() - began <= 4, "a key frame each second, and what it may take to catch up"
        assert box.api(path)["loss"]["late"] > 0
        assert "input:default/app/quiet" not in [alarm["path"] for alarm in box.api("/box/v1/system")["alarms"]]
        before = box.api(path)["packets"]
        time.sleep(1)
        assert box.api(path)["packets"] - before >= 40, "pictures and sound"
    assert box.call("DELETE", "/v1/vhosts/default/apps/app/streams/quiet")[0] == 200
    assert "quiet" not in box.streams()


def test_a_publisher_is_back_within_a_second_of_its_first_key_frame(box: KilnProcess) -> None:
    source = ffmpeg.source(SMALL)
    for _ in range(3):
        with publish(source, box.rtmp("back")):
            box.wait_stream("back")
            until(lambda: not box.api("/box/v1/vhosts/default/apps/app/streams/back")["loss"]["fault"], "no source")
            time.sleep(2)
    times = dict.fromkeys(("publisher on", "publisher off", "input lost", "input back"), 0.0)
    lost, back = [], []
    for line in box.said(1_000_000).splitlines():
        match = re.match(r"time=(\S+)Z .*?((?:publisher|input) (?:on|off|lost|back)) stream=default/app/back", line)
        if match:
            times[match[2]] = datetime.fromisoformat(match[1]).timestamp()
            if match[2] == "publisher off":
                lost.append(times["publisher off"] - times["input lost"])
            if match[2] == "input back":
                back.append(times["input back"] - times["publisher on"])
    assert len(lost) >= 2
    assert len(back) == 2
    assert max(map(abs, lost)) <= 0.5
    assert max(back) <= 1.0
    assert box.call("DELETE", "/v1/vhosts/default/apps/app/streams/back")[0] == 200


def test_a_stream_is_kept_no_longer_than_it_is_to_be(box: KilnProcess) -> None:
    with publish(ffmpeg.source(SMALL), box.rtmp("short", "brief")):
        box.wait_stream("short", app="brief")
        time.sleep(0.5)
    assert "short" in box.streams("brief")
    box.wait_no_stream("short", app="brief", timeout=4)
    assert "input:default/brief/short" not in [alarm["path"] for alarm in box.api("/box/v1/system")["alarms"]]


@pytest.mark.long
@pytest.mark.parametrize(("app", "extension", "count"), [("ladder", "mp4", 1), ("app", "mp4", 3), ("app", "ts", 3)])
def test_a_recording_goes_on_through_a_loss(box: KilnProcess, app: str, extension: str, count: int) -> None:
    """One file of what is encoded; what is passed on needs a new one for each codec configuration. No frame is lost."""
    name, tasks = f"{app}{extension}", f"/v1/vhosts/default/apps/{app}"
    with publish(ffmpeg.source(SMALL), box.rtmp(name, app)):
        box.wait_stream(name, app=app)
        time.sleep(1)
        wanted = {"id": name, "stream": {"name": name}, "filePath": f"{name}.{extension}"}
        assert box.call("POST", f"{tasks}:startRecord", wanted)[0] == 200
        time.sleep(4)
    time.sleep(3)
    with publish(ffmpeg.source(SMALL), box.rtmp(name, app)):
        time.sleep(4)
        assert box.call("POST", f"{tasks}:stopRecord", {"id": name})[0] == 200
        until(lambda: not box.call("POST", f"{tasks}:records", {})[1]["response"], "still recorded")
    assert box.call("DELETE", f"{tasks}/streams/{name}")[0] == 200
    paths = sorted((box.state / "media").rglob(f"{name}*.{extension}"), key=lambda path: path.stat().st_mtime)
    assert len(paths) == count
    shown = [slate for path in paths for slate in pictures(path.read_bytes())]
    assert 9.5 * 30 <= len(shown) <= 13 * 30
    first, last = shown.index(True), len(shown) - shown[::-1].index(True)
    assert first >= 60
    assert last <= len(shown) - 60
    assert 60 <= sum(shown[first:last]) == last - first


def until(condition: Callable[[], object], why: str, timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.02)
