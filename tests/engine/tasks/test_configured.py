"""Tasks that files and settings want on an output stream."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from appliance.engine.tasks.configured import configured_tasks, matches
from appliance.engine.tasks.kinds import DUMP, PUSH, RECORD
from appliance.media.contracts import OutputStream, Source
from appliance.media.stream import Stream
from appliance.media.tasks import Dump, Push, Record
from appliance.settings import models
from tests.engine.tasks.stage import VIDEO, Stage, send, settings, settled, stage

RECORDS = """<?xml version="1.0" encoding="utf-8"?>
<RecordInfo>
  <Record><Enable>true</Enable><StreamName>cam*</StreamName><VariantNames>v1, a1</VariantNames>
    <FilePath>/${SourceStream}/${Sequence}.ts</FilePath><InfoPath>/x.xml</InfoPath>
    <SegmentInterval>60000</SegmentInterval><SegmentRule>continuity</SegmentRule><Metadata>m</Metadata></Record>
  <Record><Enable>false</Enable><StreamName>*</StreamName></Record>
  <Record><StreamName>${SourceStream}_?</StreamName><SegmentSchedule>0 0 */1</SegmentSchedule></Record>
  <Record><Enable>true</Enable><StreamName>other</StreamName></Record>
</RecordInfo>"""
PUSHES = """<PushInfo>
  <Push><Enable>true</Enable><StreamName>*</StreamName><Protocol>RTMP</Protocol>
    <Url>rtmp://h/${Application}/</Url><StreamKey>${SourceStream}-${Stream}</StreamKey></Push>
</PushInfo>"""


def application(**publishers: object) -> models.Application:
    return models.Application(name="app", type="live", publishers=models.Publishers(**publishers))  # type: ignore[arg-type]


def mapped(path: Path) -> models.StreamMap:
    return models.StreamMap(enable=True, path=str(path))


def output(name: str, application: models.Application) -> OutputStream:
    stream = Stream(f"default/app/{name}", [VIDEO])
    return OutputStream("default", "app", name, stream, application, [], Source("Rtmp"))


async def test_records_of_a_map(tmp_path: Path) -> None:
    (tmp_path / "map.xml").write_text(RECORDS)
    app = application(file=models.FilePublisher(stream_map=mapped(tmp_path / "map.xml")))
    first, second = await configured_tasks(RECORD, output("cam_1", app), "cam")
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert len({first.id, second.id}) == 2
    assert len(first.id) == 16
    assert (first.file_path, first.info_path, first.interval) == ("/cam/${Sequence}.ts", "/x.xml", 60000)
    assert (first.variant_names, first.segmentation_rule, first.metadata) == (("v1", "a1"), "continuity", "m")
    assert (second.schedule, second.stream) == ("0 0 */1", "cam_1")
    assert await configured_tasks(RECORD, output("none", app), "none") == []
    assert await configured_tasks(PUSH, output("cam_1", app), "cam") == []


async def test_pushes_of_a_map(tmp_path: Path) -> None:
    (tmp_path / "map.xml").write_text(PUSHES)
    app = application(push=models.PushPublisher(stream_map=mapped(tmp_path / "map.xml")))
    (push,) = await configured_tasks(PUSH, output("cam_1", app), "cam")
    assert isinstance(push, Push)
    assert (push.protocol, push.urls, push.stream_key) == ("rtmp", ("rtmp://h/app",), "cam-cam_1")


async def test_dumps_of_the_settings() -> None:
    path = "/${VHostName}/${StreamName}/${YYYY}"
    dump = models.Dump(id="d", enable=True, target_stream_name="cam*", output_path=path, playlists=("llhls.m3u8",))
    app = application(llhls=models.LLHlsPublisher(dumps=(dump, models.Dump(target_stream_name="*"))))
    (made,) = await configured_tasks(DUMP, output("cam", app), "cam")
    assert isinstance(made, Dump)
    assert made.output_path.startswith("/default/cam/20")
    assert made.playlist == ("llhls.m3u8",)
    assert await configured_tasks(DUMP, output("x", app), "x") == []


@pytest.mark.parametrize(
    "text",
    ["", "<RecordInfo>", "\0",
     "<R><Record><StreamName>*</StreamName><SegmentInterval>soon</SegmentInterval></Record></R>",
     "<R><Record><StreamName>*</StreamName><SegmentRule>x</SegmentRule></Record></R>",
     "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><RecordInfo><Record><StreamName>&e;", None],
)  # fmt: skip
async def test_a_map_that_is_wrong_is_told(text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if text is not None:
        (tmp_path / "map.xml").write_text(text)
    app = application(file=models.FilePublisher(stream_map=mapped(tmp_path / "map.xml")))
    with caplog.at_level(logging.ERROR):
        assert await configured_tasks(RECORD, output("cam", app), "cam") == []
    assert "stream map has no effect" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [("*", "x", True), ("a?c", "abc", True), ("a?c", "abbc", False), ("a.c", "abc", False), ("", "x", False),
     ("cam*", "cam", True), ("*_o", "x_o", True), ("[a]", "a", False)],
)  # fmt: skip
def test_wildcards(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


async def test_they_run_for_a_life_of_the_stream_and_are_not_stored(tmp_path: Path) -> None:
    (tmp_path / "map.xml").write_text(RECORDS)
    file = models.FilePublisher(stream_map=mapped(tmp_path / "map.xml"))
    async with stage(tmp_path, settings(file=file)) as on:
        stream = on.open()
        await trio_settled(on, 1)
        (entry,) = on.board.entries(RECORD, "default", "app")
        assert entry.task.from_config
        send(stream, b"kept")
        stream.close("left")
        await settled()
        assert on.content(f"{entry.task.id}-0") == b"kept"
        assert list(on.board.all()) == []
        on.open()
        await trio_settled(on, 2)
        (again,) = on.board.entries(RECORD, "default", "app")
        assert again.task.id != entry.task.id
        assert await on.board._store.list("task:record") == {}


async def trio_settled(on: Stage, lives: int) -> None:
    """The file is read in a thread."""
    for _ in range(200):
        await settled()
        if len(on.runner.lives) >= lives:
            return
    raise AssertionError("the task did not begin")
