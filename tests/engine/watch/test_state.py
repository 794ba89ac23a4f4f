"""The state that everybody sees: nothing secret in it, no None, and all of it JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.tasks.kinds import DUMP, PUSH, RECORD, Kind
from appliance.engine.watch import Machine, State
from appliance.engine.watch.measures import Measures, all_families
from appliance.engine.watch.state import target, task_item
from appliance.media.contracts import Source
from appliance.media.tasks import Dump, Push, Record, Task, TaskState
from tests.api.box import open_box


@dataclass
class Entry:
    kind: Kind
    task: Task


def values(item: Any) -> Iterator[Any]:
    yield item
    for each in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from values(each)


async def test_all_sections(tmp_path: Path) -> None:
    push = Push("p1", "default", "bypass", "cam", protocol="rtmp", urls=("rtmp://live.example:1936/app/swordfish",),
                stream_key="hunter22hunter", state=TaskState.STARTED, total_sent_bytes=7)  # fmt: skip
    entries = [
        Entry(RECORD, Record("r1", "default", "bypass", "cam", output_file="/x.mp4", total_bytes=5, error="disk full")),
        Entry(PUSH, push),
        Entry(DUMP, Dump("d1", "default", "bypass", "cam", files=["a", "b"])),
    ]
    async with open_box(tmp_path) as box:
        opened, video, audio = box.open("bypass", "cam")
        box.feed(opened, video, audio, frames=90)
        box.engine.directory.open_input(
            "default", "bypass", "soon", Source("RtspPull", "rtsp://me:swordfish@camera/1", "10.0.0.1")
        )
        state = State(box.engine, Machine(), lambda: entries)
        await state.refresh()
        found: dict[str, dict[str, Any]] = {}
        for section, key, item in state.items():
            assert key not in found.setdefault(section, {})
            found[section][key] = item
        families = all_families()
        for _ in Measures(box.engine, Machine(), lambda: entries, lambda: 3).fill(families, {}):
            pass
    text = json.dumps(found)
    assert "swordfish" not in text
    assert "hunter22" not in text
    assert not any(each is None for each in values(found))
    assert found["system"]["box"]["figures"]["disks"]["media"]["free"] > 0
    cam, soon = found["streams"]["default/bypass/cam"], found["streams"]["default/bypass/soon"]
    assert (cam["on"], soon["on"]) == (True, False)
    assert soon["source"]["url"] == "rtsp://me:***@camera/1"
    assert cam["tracks"]["0"]["figures"]["framerate"] == pytest.approx(30, abs=0.5)
    assert cam["outputs"]["cam"]["tracks"]["0"]["width"] == 640
    assert found["tasks"]["push:default/bypass/cam#p1"]["target"] == "rtmp://live.example:1936"
    assert found["tasks"]["push:default/bypass/cam#p1"]["state"] == "started"
    assert found["tasks"]["record:default/bypass/cam#r1"]["error"] == "disk full"
    assert found["tasks"]["dump:default/bypass/cam#d1"]["figures"]["files"] == 2
    sums = {family.name: sum(value for _, value in family.samples) for family in families}
    assert (sums["kiln_record_bytes"], sums["kiln_push_bytes"], sums["kiln_tasks"]) == (5, 7, 3)
    assert (sums["kiln_stream_up"], sums["kiln_output_up"], sums["kiln_event_followers"]) == (1, 1, 3)
    for family in families:
        assert all(len(labels) == len(family.labels) for labels, _ in family.samples), family.name
        assert len({labels for labels, _ in family.samples}) == len(family.samples), family.name


@given(st.text(min_size=6, alphabet="abcdefghijklmnop0123456789"), st.sampled_from(["rtmp", "srt", "rtmps"]))
def test_a_target_tells_no_key(key: str, scheme: str) -> None:
    key = f"K{key}K"
    task = Push("p", "v", "a", "s", urls=(f"{scheme}://u:{key}@Host.example/app/{key}?streamid={key}#{key}",),
                stream_key=key)  # fmt: skip
    text = json.dumps(task_item("push", task))
    assert key not in text
    assert f"{scheme}://host.example" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtmp://[fe80::1]:1935/app/key", "rtmp://[fe80::1]:1935"),
        ("srt://1.2.3.4:9999?streamid=x", "srt://1.2.3.4:9999"),
        ("rtmp://host:port/x", ""),
        ("nothing", ""),
        ("rtmp://[broken", ""),
        ("", ""),
    ],
)
def test_targets(url: str, shown: str) -> None:
    assert target(url) == shown
