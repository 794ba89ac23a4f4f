"""The life of tasks: reserved, begun with each life of their stream, ended, restored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from appliance.engine.tasks.kinds import DUMP, PUSH, RECORD
from appliance.errors import BadRequest, NameTaken, NotBuilt, Unavailable
from appliance.media.tasks import Dump, Push, TaskState
from appliance.settings import models
from tests.engine.tasks.stage import record, send, settings, settled, stage, state


async def test_a_task_waits_for_its_stream_and_goes_on_with_the_next_life(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        entry = await on.board.start(RECORD, record())
        assert (entry.task.state, entry.child) == (TaskState.READY, None)
        for life, text in enumerate((b"one", b"two")):
            stream = on.open()
            await settled()
            assert state(entry) is TaskState.RECORDING
            send(stream, text)
            stream.close("the encoder left")
            await settled()
            assert (entry.task.state, entry.task.sequence) == (TaskState.READY, life)
        assert (on.content("r1-0"), on.content("r1-1")) == (b"one", b"two")


async def test_a_task_on_a_live_stream_is_under_way_in_the_answer(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        assert state(entry) is TaskState.RECORDING


async def test_other_streams_are_left_alone(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        entry = await on.board.start(RECORD, record(stream="other"))
        on.open()
        await settled()
        assert entry.child is None
        assert on.runner.lives == []


async def test_a_stop_finishes_the_file_and_takes_the_task_off(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        stream = on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        send(stream, b"kept")
        await settled()
        await on.board.stop(entry)
        with trio.fail_after(5):
            await entry.ended.wait()
        assert on.content("r1-0") == b"kept"
        assert on.board.entries(RECORD, "default", "app") == []
        assert not stream.closed
        again = await on.board.start(RECORD, record())
        assert again is not entry


async def test_one_that_waits_is_gone_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        entry = await on.board.start(RECORD, record())
        await on.board.stop(entry)
        assert entry.ended.is_set()
    async with stage(tmp_path) as on:
        assert list(on.board.all()) == []


async def test_an_id_is_taken_once_in_an_application_and_kind(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.board.start(RECORD, record())
        with pytest.raises(NameTaken):
            await on.board.start(RECORD, record(stream="other"))
        await on.board.start(DUMP, Dump("r1", "default", "app", "cam"))
        await on.board.start(DUMP, Dump("r1", "default", "app", "cam2"))
        with pytest.raises(NameTaken):
            await on.board.start(DUMP, Dump("r1", "default", "app", "cam2"))


async def test_what_cannot_be_done_is_not_stored(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        with pytest.raises(BadRequest, match="leads out"):
            await on.board.start(RECORD, record(file_path="../x"))
        with pytest.raises(NotBuilt, match="Pushing is not built"):
            await on.board.start(PUSH, Push("p", "default", "app", "cam"))
        assert list(on.board.all()) == []
    async with stage(tmp_path) as on:
        assert list(on.board.all()) == []


async def test_what_cannot_be_stored_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object) -> None:
        raise Unavailable("the disk is gone")

    async with stage(tmp_path) as on:
        monkeypatch.setattr(on.board._store, "put", refuse)
        with pytest.raises(Unavailable):
            await on.board.start(RECORD, record())
        await settled()
        assert list(on.board.all()) == []


async def test_a_restart_brings_tasks_back_with_their_sequence(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.board.start(RECORD, record(metadata="m", variant_names=("v",), track_ids=()))
        await on.board.start(RECORD, record("gone"))
        stream = on.open()
        await settled()
        send(stream, b"one")
        await settled()
        found = on.board.find(RECORD, "default", "app", "gone")
        assert found is not None
        await on.board.stop(found)
    async with stage(tmp_path) as on:
        (entry,) = on.board.entries(RECORD, "default", "app")
        assert (entry.task.id, entry.task.state, entry.task.variant_names) == ("r1", TaskState.READY, ("v",))
        stream = on.open()
        await settled()
        send(stream, b"two")
    assert (tmp_path / "r1-0").read_bytes() == b"one"
    assert (tmp_path / "r1-1").read_bytes() == b"two"


async def test_a_runner_that_breaks_is_started_again(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.runner.breaks = 1
        on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        assert entry.task.error == "internal fault: the disk caught fire"
        with trio.fail_after(5):
            while state(entry) is not TaskState.RECORDING:
                await entry.changed.wait()


async def test_one_that_pauses_after_a_fault_stops_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.runner.breaks = 100
        on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        await on.board.stop(entry)
        with trio.fail_after(2):
            await entry.ended.wait()


async def test_what_no_retry_mends_is_an_error_until_the_next_life(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.runner.hopeless = "no such codec in mp4"
        stream = on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        await settled()
        assert (entry.task.state, entry.task.error) == (TaskState.ERROR, "no such codec in mp4")
        on.runner.hopeless = ""
        stream.close("left")
        on.open()
        await settled()
        assert (entry.task.state, entry.task.error) == (TaskState.RECORDING, "")


async def test_one_that_never_finishes_is_ended(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        on.runner.finish_takes = 1e6
        on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        await on.board.stop(entry)
        began = trio.current_time()
        await entry.ended.wait()
        assert trio.current_time() - began < 40
        assert list(on.board.all()) == []


async def test_a_new_life_waits_for_the_old_one_to_finish(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.runner.finish_takes = 0.04
        stream = on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        send(stream, b"one")
        await settled()
        stream.close("left")
        send(on.open(), b"two")
        with trio.fail_after(5):
            while len(on.runner.lives) < 2:
                await entry.changed.wait()
        await settled()
        assert on.content("r1-0") == b"one"
        assert on.content("r1-1") in (b"", b"two")
    assert (tmp_path / "r1-1").read_bytes() == b"two"


async def test_a_stopped_dump_stays_listed_while_its_stream_lives(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        stream = on.open()
        await settled()
        entry = await on.board.start(DUMP, Dump("d1", "default", "app", "cam", output_path="/x"))
        await on.board.disable(entry)
        await settled()
        assert (entry.child, entry.task.state) == (None, TaskState.STOPPED)
        with pytest.raises(NameTaken):
            await on.board.start(DUMP, Dump("d1", "default", "app", "cam"))
        stream.close("left")
        await settled()
        assert list(on.board.all()) == []
    async with stage(tmp_path) as on:
        assert list(on.board.all()) == []


async def test_with_its_application_a_task_goes(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.open()
        await settled()
        await on.board.start(RECORD, record())
        await on.board.start(DUMP, Dump("d1", "default", "app", "cam"))
        await on.board.forget_application("default", "app")
        await settled()
        assert list(on.board.all()) == []
    async with stage(tmp_path) as on:
        assert list(on.board.all()) == []


async def test_a_publisher_that_is_switched_off_ends_its_tasks(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        application = on.directory.find_application("default", "app")
        assert application is not None
        application.change(settings(llhls=models.LLHlsPublisher()), {})
        await settled()
        assert (entry.child, entry.task.state) == (None, TaskState.READY)
        application.change(settings(), {})
        await settled()
        assert state(entry) is TaskState.RECORDING


async def test_other_settings_of_a_publisher_let_its_tasks_go_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        stream = on.open()
        await settled()
        entry = await on.board.start(RECORD, record())
        application = on.directory.find_application("default", "app")
        assert application is not None
        application.change(settings(file=models.FilePublisher(root_path="/elsewhere")), {})
        await settled()
        send(stream, b"through")
        await settled()
        assert on.runner.lives == ["r1"]
        assert state(entry) is TaskState.RECORDING


async def test_a_record_that_the_store_holds_and_nobody_can_read_is_told(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.board._store.put("task:record", "default/app/x", b"{}")
        await on.board.start(RECORD, record())
    async with stage(tmp_path) as on:
        assert [entry.task.id for entry in on.board.all()] == ["r1"]
        assert "task:record:default/app/x" in on.alarms


_KILLED = """
import sys, trio
from pathlib import Path
from appliance.engine.tasks.kinds import RECORD
from tests.engine.tasks.stage import record, send, settled, stage
async def main():
    async with stage(Path(sys.argv[1])) as on:
        stream = on.open()
        await on.board.start(RECORD, record("live"))
        await on.board.start(RECORD, record("later", stream="later", interval=5000))
        entry = await on.board.start(RECORD, record("gone"))
        await on.board.stop(entry)
        print("stored", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def _run_and_kill(state: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(state)], stdout=subprocess.PIPE, cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"stored\n"
        process.send_signal(signal.SIGKILL)


async def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    await trio.to_thread.run_sync(_run_and_kill, tmp_path)
    async with stage(tmp_path) as on:
        entries = on.board.entries(RECORD, "default", "app")
        assert [(entry.task.id, entry.task.state) for entry in entries] == [
            ("later", TaskState.READY), ("live", TaskState.READY),
        ]  # fmt: skip
        assert entries[0].task.interval == 5000  # type: ignore[attr-defined]
        on.open()
        await settled()
        assert entries[1].task.state is TaskState.RECORDING


