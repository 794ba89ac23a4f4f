"""A real store, supervisor, directory and board, with a runner that writes what it gets to files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing

from appliance.engine.configuration import ApplicationEntry, VhostEntry
from appliance.engine.directory import Directory
from appliance.engine.input_stream import InputStream
from appliance.engine.services import Services
from appliance.engine.statistics import Statistics
from appliance.engine.tasks.board import KEEPER_ORDER, TaskBoard
from appliance.engine.tasks.entry import Entry
from appliance.engine.tasks.kinds import KINDS
from appliance.engine.tasks.publisher import TaskPublisher
from appliance.errors import BadRequest
from appliance.media.clock import Clock
from appliance.media.contracts import OutputStream, Progress, Source
from appliance.media.tasks import Record, Task, TaskChanged, TaskState
from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models
from appliance.settings.store import Store
from appliance.supervisor import ChildSpec, Supervisor
from appliance.transcoder.pool import WorkerPool

VIDEO = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=b"one", width=640)
RTMP = Source("Rtmp", "TCP://127.0.0.1:5", "127.0.0.1")


@dataclass
class WritingRunner:
    """Writes payloads to ``<id>-<sequence>``, one file a life, under ``folder``. ``breaks`` lives end in a fault."""

    folder: Path
    changed: TaskChanged
    lives: list[str] = field(default_factory=list)
    breaks: int = 0
    hopeless: str = ""
    finish_takes: float = 0.0

    def check(self, task: Task, output: OutputStream | None) -> None:
        if isinstance(task, Record) and ".." in task.file_path:
            raise BadRequest("the path leads out")

    async def run(self, task: Task, output: OutputStream, stop: trio.Event, progress: Progress) -> None:
        if self.hopeless:
            raise BadRequest(self.hopeless)
        if self.breaks:
            self.breaks -= 1
            raise RuntimeError("the disk caught fire")
        if task.started:
            task.sequence += 1
        task.started = output.stream.clock.wall()
        task.state = TaskState.RECORDING
        self.lives.append(task.id)
        path = self.folder / f"{task.id}-{task.sequence}"
        if isinstance(task, Record):
            task.output_file = str(path)
        self.changed(task)
        reader = output.stream.reader(f"record {task.id}")
        with path.open("wb") as file:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_when_set, stop, reader.close)
                async for packets in reader:
                    for packet in packets:
                        file.write(packet.payload)
                        if isinstance(task, Record):
                            task.total_bytes += len(packet.payload)
                nursery.cancel_scope.cancel()
        await trio.sleep(self.finish_takes)
        task.finished = output.stream.clock.wall()


async def _close_when_set(stop: trio.Event, close: Callable[[], None]) -> None:
    await stop.wait()
    close()


@dataclass
class Stage:
    board: TaskBoard
    directory: Directory
    runner: WritingRunner
    folder: Path
    alarms: dict[str, str]
    statistics: Statistics
    supervisor: Supervisor

    def open(self, name: str = "cam") -> InputStream:
        opened = self.directory.open_input("default", "app", name, RTMP)
        opened.prepare([VIDEO])
        return opened

    def content(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def send(stream: InputStream, text: bytes, frame: int = 0) -> None:
    stream.send(VIDEO, frame * 3000, frame * 3000, True, text)


def settings(**publishers: object) -> models.Application:
    """All three publishers that carry out tasks, unless some are given."""
    every = {"file": models.FilePublisher(), "push": models.PushPublisher(), "llhls": models.LLHlsPublisher()}
    made = models.Publishers(**(publishers or every))
    return models.Application(
        name="app", type="live", providers=models.Providers(rtmp=models.RtmpProvider()), publishers=made
    )


@asynccontextmanager
async def stage(
    folder: Path, application: models.Application | None = None, clock: Clock | None = None
) -> AsyncIterator[Stage]:
    """Everything anew in the same ``folder``: its store, and the files of its runner."""
    clock = clock or Clock()
    store = await Store.open(folder / "kiln.sqlite")
    try:
        async with Supervisor("test") as supervisor:
            publishers: list[TaskPublisher] = []
            vhost = models.VirtualHost(name="default", host=models.Host(names=("*",)))
            entry = VhostEntry(vhost, {}, [ApplicationEntry(application or settings(), {})])
            directory = Directory([entry], Services(clock, supervisor, WorkerPool(0), publishers))
            runners: dict[str, WritingRunner] = {}
            alarms: dict[str, str] = {}
            board = TaskBoard(store, clock, supervisor, runners, alarms)
            runner = runners["record"] = runners["dump"] = WritingRunner(folder, board.changed)
            publishers += [TaskPublisher(kind, board, directory.source_of) for kind in KINDS]
            await board.restore()
            supervisor.add(ChildSpec(name="tasks", start=board.run, order=KEEPER_ORDER))
            statistics = Statistics(clock, directory, board, publishers)
            yield Stage(board, directory, runner, folder, alarms, statistics, supervisor)
            directory.close("test over")
            await supervisor.shut_down()
    finally:
        await store.close()


def record(task_id: str = "r1", stream: str = "cam", **more: object) -> Record:
    return Record(id=task_id, vhost="default", app="app", stream=stream, **more)  # type: ignore[arg-type]


def state(entry: Entry) -> TaskState:
    return entry.task.state


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)
