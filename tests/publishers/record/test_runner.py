"""Recordings, from the hub to files that a demuxer reads."""

from __future__ import annotations

import itertools
import os
import signal
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from appliance.errors import BadRequest, NotFound
from appliance.media.events import Cue, CueType, TimedMetadata, event_packet
from appliance.media.tasks import TaskState
from appliance.media.track import Codec
from appliance.protocols.id3 import Frame, build_tag
from appliance.settings import models
from tests.publishers.record.kit import (
    Studio,
    Wall,
    clip,
    decoded,
    demuxed,
    found,
    record,
    repeated,
    studio,
    until,
)

YEAR = 365 * 86400 * 1_000_000_000


@pytest.mark.parametrize("extension", ["mp4", "ts", "mkv"])
async def test_a_recording_holds_every_frame(tmp_path: Path, extension: str) -> None:
    tracks, packets = clip()
    async with studio(tmp_path, tracks) as box:
        task = box.start(file_path=f"/out/a.{extension}", info_path="/out/a.xml")
        await box.feed(repeated(packets, 3))
        await box.finish()
    assert [str(path.relative_to(tmp_path)) for path in box.files] == [f"out/a.{extension}", "out/a.xml"]
    assert task.error == ""
    assert [len(samples) for samples in demuxed(box.files[0])] == [180, 279]
    assert decoded(box.files[0]) == 180
    assert task.output_file == f"out/a.{extension}"
    assert task.total_bytes == box.files[0].stat().st_size
    assert abs(task.total_time - 6000) < 100


async def test_timed_metadata_is_recorded_where_it_has_a_place(tmp_path: Path) -> None:
    tracks, packets = clip()
    tag = build_tag([Frame("TXXX", "who", "me")])
    async with studio(tmp_path, tracks) as box:
        box.start(file_path="/${Sequence}.ts", info_path="/a.xml", interval=3000)
        for number, packet in enumerate(repeated(packets, 3)):
            box.stream.publish(packet)
            if number % 20 == 0:
                await trio.lowlevel.checkpoint()
            if packet.keyframe and packet.track.is_video:
                box.stream.inject(event_packet(TimedMetadata(tag), packet.dts * 1000 // packet.track.timescale))
                box.stream.inject(event_packet(Cue(CueType.IN), 0))
        await box.finish()
    events = [event for name in ("0.ts", "1.ts") for event in demuxed(tmp_path / name)[2]]
    keys = [packet for packet in repeated(packets, 3) if packet.keyframe and packet.track.is_video]
    assert [data for _, data in events] == [tag] * len(keys)


@pytest.mark.parametrize(("video", "extension"), [
    (Codec.H265, "mp4"), (Codec.AV1, "mp4"), (Codec.VP9, "mp4"), (Codec.VP9, "webm"), (Codec.AV1, "webm"),
    (Codec.H265, "ts"), (Codec.H265, "mkv"), (Codec.AV1, "mkv"),
])  # fmt: skip
async def test_codecs_in_containers(tmp_path: Path, video: Codec, extension: str) -> None:
    tracks, packets = clip(video, Codec.OPUS)
    async with studio(tmp_path, tracks) as box:
        box.start(file_path=f"/a.{extension}", info_path="/a.xml")
        await box.feed(packets)
        await box.finish()
    assert decoded(tmp_path / f"a.{extension}") == 60


@pytest.mark.parametrize("extension", ["mp4", "ts", "mkv"])
@pytest.mark.parametrize("rule", ["discontinuity", "continuity"])
async def test_no_frame_is_missing_or_doubled_between_files(tmp_path: Path, extension: str, rule: str) -> None:
    """Split at key frames; sound and picture keep their offset, and continuous times go on."""
    tracks, packets = clip()
    async with studio(tmp_path, tracks) as box:
        task = box.start(
            file_path=f"/${{Sequence}}.{extension}", info_path="/a.xml", interval=1500, segmentation_rule=rule
        )
        await box.feed(repeated(packets, 4))
        await box.finish()
    parts = [demuxed(tmp_path / f"{number}.{extension}") for number in range(task.sequence)]
    assert task.sequence == 5
    source = list(repeated(packets, 4))
    base = Fraction(0)
    # Files of MPEG-TS count from somewhere else, and Matroska counts milliseconds.
    slack = Fraction(1, 1000) if extension == "mkv" else Fraction(1, 20_000)
    for number, track in enumerate(tracks):
        wanted = [Fraction(packet.pts, track.timescale) for packet in source if packet.track is track]
        assert sum(len(part[number]) for part in parts) == len(wanted)
        payloads = [packet.payload[-40:] for packet in source if packet.track is track]
        if extension != "ts":
            assert [sample[1][-40:] for part in parts for sample in part[number]] == payloads
    for index, part in enumerate(parts):
        begin = Fraction(8, 5) * index
        first = part[0][0][0]
        if extension != "ts":
            base = begin if rule == "continuity" else Fraction(0)
            assert abs(first - base) <= slack
        for number, track in enumerate(tracks):
            inside = [
                Fraction(packet.pts, track.timescale) for packet in source
                if packet.track is track and begin <= Fraction(packet.pts, track.timescale) < begin + Fraction(8, 5)
            ]  # fmt: skip
            shown = [sample[0] - first + begin for sample in part[number]]
            assert len(shown) == len(inside)
            assert all(abs(got - want) <= slack for got, want in zip(sorted(shown), sorted(inside), strict=True))


async def test_only_the_tracks_that_are_asked_for(tmp_path: Path) -> None:
    tracks, packets = clip()
    async with studio(tmp_path, tracks) as box:
        box.start(file_path="/sound.mp4", info_path="/a.xml", variant_names=("audio",))
        await box.feed(packets)
        await box.finish()
    (sound,) = demuxed(tmp_path / "sound.mp4")
    assert len(sound) == 93


async def test_a_changed_codec_begins_a_new_file(tmp_path: Path) -> None:
    """At the key frame that brings it; a generation that changes nothing does not."""
    tracks, packets = clip()
    other, later = clip(Codec.H265)
    same = msgspec.structs.replace(tracks[0], generation=1)
    changed = msgspec.structs.replace(other[0], id=tracks[0].id, generation=2)
    replaced = [
        msgspec.structs.replace(packet, track=same) if packet.track is tracks[0] else packet for packet in packets
    ]
    moved = [
        msgspec.structs.replace(packet, track=changed if packet.track is other[0] else tracks[1]) for packet in later
    ]
    async with studio(tmp_path, tracks) as box:
        box.start(file_path="/${Sequence}.mp4", info_path="/a.xml")
        turns = [packets, replaced, moved]
        for turn, each in enumerate(turns):
            await box.feed(list(repeated(each, turn + 1))[turn * len(each) :])
        await box.finish()
    assert [decoded(tmp_path / f"{number}.mp4") for number in range(2)] == [120, 60]
    assert sum(len(demuxed(tmp_path / f"{number}.mp4")[1]) for number in range(2)) == 3 * 93


async def test_a_schedule_splits_by_the_wall_clock(tmp_path: Path) -> None:
    tracks, packets = clip()
    wall = Wall()
    async with studio(tmp_path, tracks, clock=wall.clock) as box:
        box.start(file_path="/${Sequence}.mp4", info_path="/a.xml", schedule="0 */1 *")
        await box.feed(packets)
        await until(lambda: box.disk.usage.total)
        wall.offset += 60 * 1_000_000_000
        await box.feed(list(repeated(packets, 2))[len(packets) :])
        await box.finish()
    assert len(found(tmp_path, "*.mp4")) == 2


async def test_clock_steps_lose_nothing(tmp_path: Path) -> None:
    """A year back and ten forward: names stay unique, durations true, the offset is told."""
    tracks, packets = clip()
    wall = Wall()
    async with studio(tmp_path, tracks, clock=wall.clock) as box:
        for turn, offset in enumerate((0, -YEAR, 0, 10 * YEAR, 0)):
            wall.offset = offset
            # The minute only: the same name comes again and again.
            task = box.start(file_path="/${Stream}_${StartTime:YYYYMMDDhhmm}.mp4", info_path="/a.xml")
            await box.feed(list(repeated(packets, turn + 1))[turn * len(packets) :])
            await until(partial(getattr, task, "bytes"))
            wall.offset = offset + YEAR
            await box.finish()
            assert abs(task.time - 2000) < 100
    assert sorted(decoded(path) for path in found(tmp_path, "*.mp4")) == [60] * 5
    told = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert len(told) == 5
    assert all(abs(int(each.findtext("wallOffset") or 0) - YEAR // 1_000_000) < 5000 for each in told)


async def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    tracks, packets = clip()
    (tmp_path / "a.mp4").write_bytes(b"somebody's")
    async with studio(tmp_path, tracks) as box:
        for _ in range(2):
            box.start(file_path="/a.mp4", info_path="/a.xml")
            await box.feed(packets)
            await box.finish()
    assert (tmp_path / "a.mp4").read_bytes() == b"somebody's"
    assert [decoded(tmp_path / name) for name in ("a_1.mp4", "a_2.mp4")] == [60, 60]


async def test_a_broken_info_file_is_put_aside(tmp_path: Path) -> None:
    tracks, packets = clip()
    (tmp_path / "a.xml").write_text("<other>")
    async with studio(tmp_path, tracks) as box:
        box.start(file_path="/a.mp4", info_path="/a.xml")
        await box.feed(packets)
        await box.finish()
    assert len(ElementTree.parse(tmp_path / "a.xml").getroot()) == 1
    (aside,) = found(tmp_path, "a.xml.damaged-*")
    assert aside.read_text() == "<other>"


async def kill_worker(box: Studio, number: signal.Signals) -> None:
    assert box.disk.pid is not None
    os.kill(box.disk.pid, number)


async def test_a_worker_that_dies_costs_nothing(tmp_path: Path) -> None:
    """Its file is repaired by the next worker, and the recording goes on in a new one, from the last key frame."""
    tracks, packets = clip()
    source = list(repeated(packets, 6))
    async with studio(tmp_path, tracks) as box:
        task = box.start(file_path="/a.mp4", info_path="/a.xml")
        await box.feed(source[: len(packets) * 2])
        await until(lambda: task.time > 3900 and not box.disk.in_flight)
        await kill_worker(box, signal.SIGKILL)
        await until(lambda: box.disk.restarts)
        for packet in source[len(packets) * 2 :]:
            box.stream.publish(packet)
            await trio.sleep(0.002)
        await until(lambda: not task.error)
        await until(lambda: not found(tmp_path, "tmp_*") or task.bytes)
        await box.finish()
        await until(lambda: not found(tmp_path, "tmp_*"))
        counts = [decoded(path) for path in found(tmp_path, "*.mp4")]
        assert len(counts) == 2
        assert sum(counts) >= 360
        assert [entry.state for entry in await box.disk.entries()].count("recovered") == 1
        assert any("repaired" in text for text in box.told)


async def test_a_disk_that_hangs_is_told_and_survived(tmp_path: Path) -> None:
    """A stopped worker looks as one whose write hangs: told within 2 s, replaced after 5, and the hub never waits."""
    tracks, packets = clip()
    async with studio(tmp_path, tracks) as box:
        task = box.start(file_path="/a.mp4", info_path="/a.xml")
        await box.feed(repeated(packets, 1))
        await until(lambda: task.time > 1900 and not box.disk.in_flight)
        await kill_worker(box, signal.SIGSTOP)
        began = trio.current_time()
        turn = 1
        slowest = 0.0
        while not box.disk.restarts:
            for packet in list(repeated(packets, turn + 1))[turn * len(packets) :]:
                before = trio.current_time()
                box.stream.publish(packet)
                slowest = max(slowest, trio.current_time() - before)
            turn += 1
            await trio.sleep(0.5)
            if trio.current_time() - began > 3:
                assert task.error.startswith("the disk")
        assert trio.current_time() - began < 8
        assert slowest < 0.1
        await box.feed(list(repeated(packets, turn + 2))[turn * len(packets) :])
        await until(lambda: not task.error)
        await box.finish()
        await until(lambda: not found(tmp_path, "tmp_*"))
    assert all(decoded(path) > 0 for path in found(tmp_path, "*.mp4"))
    assert len(found(tmp_path, "*.mp4")) == 2


async def test_the_end_of_the_client_finishes_files(tmp_path: Path) -> None:
    tracks, packets = clip()
    async with studio(tmp_path, tracks) as box:
        task = box.start(file_path="/a.mp4", info_path="/a.xml")
        await box.feed(packets)
        await until(lambda: task.bytes > 3000)
    assert decoded(tmp_path / "a.mp4") > 20
    assert "<recovered>" not in (tmp_path / "a.xml").read_text()


@pytest.mark.parametrize(("wanted", "reason"), [
    ({"file_path": "/../a.mp4"}, "'..'"),
    ({"file_path": "/a.avi"}, "must end in"),
    ({"file_path": "/a\0.mp4"}, "control"),
    ({"info_path": "/../a.xml"}, "'..'"),
    ({"schedule": "1 2"}, "schedule"),
    ({"schedule": "60 * *"}, "schedule"),
    ({"schedule": "* * *", "interval": 5}, "same time"),
    ({"variant_names": ("none",)}, "no track"),
    ({"file_path": "/a.webm", "variant_names": ("video",)}, "can't hold"),
    ({"file_path": "/.kiln/recordings/a.mp4"}, "Kiln's own"),
])  # fmt: skip
async def test_what_can_not_be_recorded_is_refused(tmp_path: Path, wanted: dict[str, object], reason: str) -> None:
    tracks, _ = clip()
    async with studio(tmp_path, tracks) as box:
        with pytest.raises(BadRequest, match=reason):
            box.runner.check(record(**wanted), box.output)
        with pytest.raises(NotFound):
            box.runner.check(record(app="other"), None)


async def test_a_recording_that_is_cancelled_is_finished(tmp_path: Path) -> None:
    """Also while the box goes on."""
    tracks, packets = clip()
    async with studio(tmp_path, tracks) as box:
        task = record(file_path="/a.mp4", info_path="/a.xml")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.record, task)
            await until(lambda: box.stream.readers)
            await box.feed(repeated(packets, 2))
            await until(lambda: task.bytes > 10_000)
            nursery.cancel_scope.cancel()
        await until(lambda: found(tmp_path, "a.mp4"))
    assert decoded(tmp_path / "a.mp4") > 60


async def test_a_codec_that_does_not_fit_ends_the_task_and_not_the_file(tmp_path: Path) -> None:
    tracks, packets = clip()
    other, later = clip(Codec.VP9)
    changed = msgspec.structs.replace(other[0], id=tracks[0].id, generation=2)
    moved = [
        msgspec.structs.replace(packet, track=changed if packet.track is other[0] else tracks[1]) for packet in later
    ]
    async with studio(tmp_path, tracks) as box:
        task = record(file_path="/a.ts", info_path="/a.xml")
        caught: list[Exception] = []

        async def run() -> None:
            try:
                await box.record(task)
            except* BadRequest as group:
                caught.extend(group.exceptions)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(lambda: box.stream.readers)
            await box.feed(packets)
            await box.feed(list(repeated(moved, 2))[len(moved) :])
        assert "VP9" in str(caught[0])
        await until(lambda: found(tmp_path, "a.ts"))
    assert decoded(tmp_path / "a.ts") == 60


async def test_names_of_the_settings(tmp_path: Path) -> None:
    """A root path is part of the real path alone; what a macro brings never leads to another folder."""
    tracks, packets = clip()
    settings = models.FilePublisher(root_path="/disk/one", file_path="/${Stream}/${Id}.mkv", info_path="/i.xml")
    async with studio(tmp_path, tracks, settings=settings) as box:
        task = box.start(id="../../x/y")
        await box.feed(packets)
        await box.finish()
    names = [str(path.relative_to(tmp_path)) for path in box.files]
    assert names == ["disk/one/i.xml", "disk/one/stream/_._.._x_y.mkv"]
    assert task.output_file == "stream/_._.._x_y.mkv"
    assert task.output_info == "i.xml"
    assert task.state is TaskState.RECORDING
    told = ElementTree.parse(tmp_path / "disk/one/i.xml").getroot()
    assert told.findtext("file/filePath") == "stream/_._.._x_y.mkv"


def test_every_pair_of_neighbours() -> None:
    """The clip itself has no seam: what follows in a second round is later than all of the first."""
    _, packets = clip()
    for track_id in (1, 2):
        times = [packet.dts for packet in repeated(packets, 3) if packet.track.id == track_id]
        assert all(later > earlier for earlier, later in itertools.pairwise(times))
