"""A dump of a live stream plays from disk, and its info file tells of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from lxml import etree

from appliance.errors import BadRequest, NameTaken, NotFound
from appliance.media.contracts import OutputStream
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.tasks import Dump, TaskState
from appliance.media.track import Codec
from appliance.publishers.dump import DumpRunner
from tests.kit.ffmpeg import FFMPEG
from tests.publishers.llhls.kit import Station, station
from tests.publishers.llhls.media import encoded

VIDEO, PICTURES = encoded(Codec.H264, 300)
AUDIO, SOUNDS = encoded(Codec.AAC, 470)


def media(seconds: float) -> list[Packet]:
    """Real pictures and sound, in the order of their times."""
    packets = sorted((*PICTURES, *SOUNDS), key=lambda one: one.dts / one.track.timescale)
    return [one for one in packets if one.dts / one.track.timescale < seconds]


def runner_of(box: Station, root: Path) -> DumpRunner:
    box.context.media_root = root
    return DumpRunner(box.context, box.publisher)


def output_of(box: Station, stream: Stream) -> OutputStream:
    live = box.live()
    assert live.output.stream is stream
    return live.output


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.02)


def publish(stream: Stream, packets: Sequence[Packet]) -> None:
    for packet in packets:
        stream.publish(packet)


def dump_task(**changes: object) -> Dump:
    values: dict[str, object] = {
        "id": "d1", "vhost": "default", "app": "app", "stream": "cam", "output_path": "/tmp/d/e",
        "info_file": "/tmp/d/dump.info", "user_data": "a<b",
    }  # fmt: skip
    return Dump(**values | changes)  # type: ignore[arg-type]


def played(path: Path) -> tuple[int, int]:
    """Frames of picture and sound that ffmpeg decodes, without a word."""
    counts = []
    for kind in ("v", "a"):
        command = [FFMPEG, "-v", "error", "-i", str(path), "-map", f"0:{kind}:0", "-f", "framecrc", "-"]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert done.returncode == 0
        assert done.stderr == b""
        counts.append(len(re.findall(rb"^\d,", done.stdout, re.M)))
    return counts[0], counts[1]


async def test_a_dump_plays_from_disk_whole(tmp_path: Path) -> None:
    async with station(segment_duration=1.0, segment_count=20) as box:
        runner = runner_of(box, tmp_path)
        stream = box.start([VIDEO, AUDIO])
        await until(lambda: box.publisher.live("default", "app", "cam"))
        packets = media(10)
        publish(stream, packets[: len(packets) // 3])
        task = dump_task()
        output = output_of(box, stream)
        runner.check(task, output)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run, task, output, trio.Event(), lambda: None)
            await until(lambda: task.state is TaskState.RECORDING and task.sequence >= 7)
            publish(stream, packets[len(packets) // 3 :])
            await trio.sleep(0.05)
            stream.close()
        folder = tmp_path / "tmp/d/e"
        names = {path.name for path in folder.iterdir()}
        assert {"llhls.m3u8", "master.m3u8"} <= names
        assert not any(name.startswith("part_") for name in names)
        text = next(folder.glob("chunklist_0_*")).read_text()
        assert "#EXT-X-MEDIA-SEQUENCE:0\n" in text
        assert text.endswith("#EXT-X-ENDLIST\n")
        assert text.count("#EXT-X-ENDLIST") == 1
        listed = re.findall(r"^(\w+\.m4s)$", text, re.M)
        first = int(listed[0].split("_")[2])
        pictures, sounds = played(folder / "llhls.m3u8")
        in_dump = sum(float(each) for each in re.findall(r"#EXTINF:([\d.]+)", text))
        assert pictures == round(in_dump * 30)
        assert pictures >= 300 - 30 * (first + 1)
        assert abs(sounds * 1024 / 48_000 - in_dump) < 0.1
        info = etree.fromstring((tmp_path / "tmp/d/dump.info").read_bytes())
        assert info.tag == "HLSDumpInfo"
        told = [info.findtext(name) for name in ("UserData", "Stream", "Status")]
        assert told == ["a<b", "/default/app/cam", "Completed"]
        items = [(int(item.findtext("Seq") or -1), Path(item.findtext("File") or "")) for item in info.iter("Item")]
        assert [number for number, _ in items] == list(range(len(items)))
        assert {path for _, path in items} == set(folder.iterdir())


async def test_a_dump_that_is_stopped_ends_there(tmp_path: Path) -> None:
    async with station(segment_duration=1.0) as box:
        runner = runner_of(box, tmp_path)
        stream = box.start([VIDEO, AUDIO])
        await until(lambda: box.publisher.live("default", "app", "cam"))
        publish(stream, media(4))
        task, stop = dump_task(playlist=("llhls.m3u8",)), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run, task, output_of(box, stream), stop, lambda: None)
            await until(lambda: task.sequence >= 6)
            stop.set()
        masters = {path.name for path in (tmp_path / "tmp/d/e").glob("*.m3u8")}
        assert {name for name in masters if not name.startswith("chunklist_")} == {"llhls.m3u8"}
        assert b"<Status>Completed</Status>" in (tmp_path / "tmp/d/dump.info").read_bytes()
        assert played(tmp_path / "tmp/d/e/llhls.m3u8")[0] > 0


async def test_an_info_file_that_is_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tmp/d").mkdir(parents=True)
    (tmp_path / "tmp/d/dump.info").write_text("mine")
    async with station(segment_duration=1.0) as box:
        runner = runner_of(box, tmp_path)
        stream = box.start([VIDEO, AUDIO])
        await until(lambda: box.publisher.live("default", "app", "cam"))
        publish(stream, media(4))
        with pytest.raises(NameTaken, match="Duplicate info file"):
            await runner.check_disk(dump_task())
        await runner.check_disk(dump_task(info_file="/tmp/other/dump.info"))
        with pytest.raises(BadRequest, match="Duplicate info file"):
            await runner.run(dump_task(), output_of(box, stream), trio.Event(), lambda: None)
    assert (tmp_path / "tmp/d/dump.info").read_text() == "mine"


async def test_the_next_life_of_a_stream_is_dumped_beside_the_one_before(tmp_path: Path) -> None:
    async with station(segment_duration=1.0) as box:
        runner = runner_of(box, tmp_path)
        stream = box.start([VIDEO, AUDIO])
        await until(lambda: box.publisher.live("default", "app", "cam"))
        publish(stream, media(4))
        task = dump_task()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run, task, output_of(box, stream), trio.Event(), lambda: None)
            await until(lambda: task.sequence >= 6)
            # As a crash would: nothing is finished.
            nursery.cancel_scope.cancel()
        before = {path: path.read_bytes() for path in (tmp_path / "tmp/d/e").iterdir()}
        async with trio.open_nursery() as nursery:
            stop = trio.Event()
            nursery.start_soon(runner.run, task, output_of(box, stream), stop, lambda: None)
            await until(lambda: (tmp_path / "tmp/d/e.2/llhls.m3u8").exists())
            stop.set()
        assert before == {path: path.read_bytes() for path in (tmp_path / "tmp/d/e").iterdir()}
        assert b"<Status>Error</Status>" in (tmp_path / "tmp/d/dump.info").read_bytes()
        assert b"<Status>Completed</Status>" in (tmp_path / "tmp/d/dump.info.2").read_bytes()
        assert played(tmp_path / "tmp/d/e.2/llhls.m3u8")[0] > 0


async def test_a_disk_that_says_no_is_tried_again(tmp_path: Path) -> None:
    async with station(segment_duration=1.0) as box:
        runner = runner_of(box, tmp_path)
        stream = box.start([VIDEO, AUDIO])
        await until(lambda: box.publisher.live("default", "app", "cam"))
        publish(stream, media(4))
        (tmp_path / "tmp").mkdir()
        (tmp_path / "tmp/d").mkdir()
        # A file where the folder should be.
        (tmp_path / "tmp/d/e").mkdir()
        (tmp_path / "tmp/d/e").chmod(0o500)
        (tmp_path / "tmp/d/e/master.m3u8").mkdir()
        task, stop = dump_task(info_file=""), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run, task, output_of(box, stream), stop, lambda: None)
            await until(lambda: "master.m3u8" in task.error)
            (tmp_path / "tmp/d/e/master.m3u8").rmdir()
            await until(lambda: not task.error and task.sequence >= 6)
            stop.set()


async def test_a_disk_that_is_short_of_room_is_told_and_waited_for(tmp_path: Path) -> None:
    async with station(segment_duration=1.0) as box:
        box.context.media_root = tmp_path
        reason = "nearly full: 1 MiB free"
        runner = DumpRunner(box.context, box.publisher, short=lambda: reason)
        stream = box.start([VIDEO, AUDIO])
        await until(lambda: box.publisher.live("default", "app", "cam"))
        publish(stream, media(4))
        task, stop = dump_task(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run, task, output_of(box, stream), stop, lambda: None)
            await until(lambda: task.error == "the disk is nearly full: 1 MiB free, which is for recordings")
            assert [path.name for path in (tmp_path / "tmp/d").iterdir()] == ["dump.info"]
            reason = ""
            await until(lambda: not task.error and task.sequence >= 6)
            stop.set()


async def test_what_leads_out_is_refused(tmp_path: Path) -> None:
    async with station() as box:
        runner = runner_of(box, tmp_path)
        with pytest.raises(BadRequest):
            runner.check(dump_task(output_path="/tmp/../../etc"), None)
        stream = box.start([VIDEO, AUDIO])
        await until(lambda: box.publisher.live("default", "app", "cam"))
        with pytest.raises(NotFound, match=r"other\.m3u8"):
            runner.check(dump_task(playlist=("other.m3u8",)), output_of(box, stream))
