"""The task board: records, pushes and dumps that somebody asked for.

A task is reserved before its stream exists, stored before the answer goes out, and there again after a restart. With
each life of its output stream a supervised child carries it out, through the runner of its kind.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from appliance.child_spec import State
from appliance.engine.services import Services
from appliance.engine.tasks.agenda import Agenda, Missed
from appliance.engine.tasks.entry import Entry, unpack
from appliance.engine.tasks.kinds import KINDS, Kind, task_key
from appliance.errors import BadRequest, KilnError, NameTaken, NotBuilt, NotFound, Unavailable
from appliance.media.clock import Clock
from appliance.media.contracts import OutputStream, Progress
from appliance.media.tasks import Dump, Record, Task, TaskRunner, TaskState
from appliance.settings.store import Store, Transaction
from appliance.supervisor import ChildSpec, Restart, Supervisor

log = logging.getLogger("kiln.tasks")

Runners = Mapping[str, TaskRunner[Any]]
Alarms = MutableMapping[str, str]

#: Tasks stop after the providers and before the publishers.
ORDER = 45
#: Those that keep the board end after all tasks.
KEEPER_ORDER = 42
#: A task that was told to stop gets so long to finish its files (s); when the box stops, less.
FINISH_WITHIN = 30.0
SHUT_DOWN_WITHIN = 4.0
#: How long an answer waits for a task to begin (s).
BEGIN_WITHIN = 0.5
#: Calendars are looked at this often at least, for the wall clock may step (s).
LOOK_EVERY = 5.0
#: Between two writes of what has changed (s).
SAVE_EVERY = 0.25
_NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Life:
    """An output stream on which tasks of ``kind`` may run; ``made`` are those that end with it."""

    kind: Kind
    output: OutputStream
    made: list[Entry]


class TaskBoard:
    """``runners``: by the name of their kind, of those that are built. ``alarms`` gets one for each missed window."""

    def __init__(
        self, store: Store, clock: Clock, supervisor: Supervisor, runners: Runners, alarms: Alarms | None = None
    ) -> None:
        self.runners = runners
        self._store = store
        self._clock = clock
        self._supervisor = supervisor
        self._alarms: Alarms = {} if alarms is None else alarms
        self._entries: dict[str, dict[str, Entry]] = {kind.name: {} for kind in KINDS}
        self._lives: dict[tuple[str, str, str, str], Life] = {}
        self._by_task: dict[int, Entry] = {}
        self._since = clock.wall()
        self._wake = trio.Event()

    # What the API asks

    def entries(self, kind: Kind, vhost: str, app: str) -> list[Entry]:
        """Those of an application, by id."""
        found = [
            entry for entry in self._entries[kind.name].values() if (entry.task.vhost, entry.task.app) == (vhost, app)
        ]
        return sorted(found, key=lambda entry: (entry.task.id, entry.task.stream))

    def all(self) -> Iterator[Entry]:
        for entries in self._entries.values():
            yield from entries.values()

    def find(self, kind: Kind, vhost: str, app: str, task_id: str, stream: str = "") -> Entry | None:
        """One that is not told to stop yet; ``stream`` for dumps, whose ids are those of their output stream."""
        key = task_key(kind, Task(id=task_id, vhost=vhost, app=app, stream=stream))
        entry = self._entries[kind.name].get(key)
        return None if entry is None or entry.leaving else entry

    def running(self, output: OutputStream) -> list[Task]:
        """Those that are being carried out on ``output``."""
        return [entry.task for entry in self.all() if entry.output is output and entry.child is not None]

    def require(self, kind: Kind) -> TaskRunner[Any]:
        """Raises NotBuilt."""
        runner = self.runners.get(kind.name)
        if runner is None:
            raise NotBuilt(f"{kind.work} is not built in this version")
        return runner

    async def start(self, kind: Kind, task: Task, agenda: Agenda | None = None) -> Entry:
        """Take ``task`` on: checked, stored, then begun when its stream is there. ``created`` is set here.

        Raises NotBuilt, NameTaken for an id in use, what the runner's check raises, and what the store raises; nothing
        is left behind then.
        """
        runner = self.require(kind)
        key = task_key(kind, task)
        entries = self._entries[kind.name]
        if key in entries:
            raise NameTaken("Duplicate ID")
        runner.check(task, self._output_of(kind, task))
        task.created = self._clock.wall()
        entry = Entry(kind, task, agenda)
        self._put(key, entry)
        try:
            with trio.CancelScope(shield=True):
                await self._store.put(_stored(kind), key, entry.pack())
        except BaseException:
            self._leave(entry)
            raise
        entry.stored = True
        log.info("task taken kind=%s task=%s", kind.name, task.label)
        self._wake.set()
        if self._begin_if_due(entry):
            await self._begun(entry)
        return entry

    async def stop(self, entry: Entry) -> None:
        """Take a task off: out of the store at once, off the board when it has finished what it does."""
        await self._unstore(entry)
        self._leave(entry)

    async def disable(self, entry: Entry) -> None:
        """End a dump that stays listed."""
        assert isinstance(entry.task, Dump)
        await self._unstore(entry)
        entry.task.enabled = False
        if entry.child is None:
            entry.task.state = TaskState.STOPPED
        else:
            self._see_off(entry)

    async def forget_application(self, vhost: str, app: str) -> None:
        """The application is deleted, and its tasks with it."""
        for entry in [each for each in self.all() if (each.task.vhost, each.task.app) == (vhost, app)]:
            await self.stop(entry)

    def changed(self, task: Task) -> None:
        """See ``TaskChanged``: runners tell of what is worth keeping."""
        entry = self._by_task.get(id(task))
        if entry is not None:
            entry.note_change()
            self._wake.set()

    # What the engine tells

    async def restore(self) -> None:
        """Take up what the store has. What it can't read is left there and told."""
        for kind in KINDS:
            for key, blob in (await self._store.list(_stored(kind))).items():
                if key in self._entries[kind.name]:
                    continue
                try:
                    entry = unpack(kind, blob)
                except KilnError as error:
                    log.error("stored task can't be read kind=%s key=%s reason=%s", kind.name, key, error)
                    self._alarms[f"task:{kind.name}:{key}"] = f"stored, and can't be read: {error}"
                    continue
                self._put(key, entry)
                self._begin_if_due(entry)

    def output_on(self, kind: Kind, output: OutputStream, wanted: list[Task]) -> Life:
        """An output stream is on the air. ``wanted`` are tasks of the configuration, for this life."""
        made = []
        for task in wanted:
            key = task_key(kind, task)
            if key not in self._entries[kind.name]:
                task.from_config = True
                task.created = self._clock.wall()
                made.append(Entry(kind, task))
                self._put(key, made[-1])
        life = self._lives[_place(kind, output)] = Life(kind, output, made)
        for entry in list(self._entries[kind.name].values()):
            self._begin_if_due(entry)
        return life

    def output_off(self, life: Life) -> None:
        """It is over, or its publisher is; another life of the same output may be there already."""
        kind, output = life.kind, life.output
        for entry in life.made:
            self._leave(entry)
        place = _place(kind, output)
        if self._lives.get(place) is not life:
            return
        del self._lives[place]
        switched_off = getattr(getattr(output.application, "publishers", None), kind.publisher, None) is None
        for entry in list(self._entries[kind.name].values()):
            task = entry.task
            if (task.vhost, task.app, task.stream) != place[1:]:
                continue
            if not getattr(task, "enabled", True):
                self._leave(entry)
            elif switched_off and entry.output is output and not entry.stop.is_set():
                self._see_off(entry)

    async def run(self, progress: Progress) -> None:
        """Follow the calendars, and write down what has changed."""
        try:
            while True:
                progress()
                self._wake = trio.Event()
                self._follow_calendars()
                await self._save()
                with trio.move_on_after(SAVE_EVERY):
                    await trio.sleep_forever()
                with trio.move_on_after(self._until_next_change()):
                    await self._wake.wait()
        finally:
            with trio.move_on_after(2, shield=True):
                await self._save()

    async def _unstore(self, entry: Entry) -> None:
        """From here on nothing of ``entry`` is written any more."""
        was, entry.stored, entry.unsaved = entry.stored, False, False
        if not was:
            return
        try:
            with trio.CancelScope(shield=True):
                await self._store.delete(_stored(entry.kind), task_key(entry.kind, entry.task))
        except BaseException:
            entry.stored = True
            raise

    # Carrying out

    def _output_of(self, kind: Kind, task: Task) -> OutputStream | None:
        life = self._lives.get((kind.name, task.vhost, task.app, task.stream))
        return None if life is None or life.output.stream.closed else life.output

    def _begin_if_due(self, entry: Entry) -> bool:
        if entry.child is not None or not entry.due(self._clock.wall()):
            return False
        output = self._output_of(entry.kind, entry.task)
        if output is None or entry.kind.name not in self.runners:
            return False
        stop = trio.Event()
        spec = ChildSpec(
            name=Services.child_name(entry.kind.name, entry.task.label),
            start=partial(self._carry_out, entry, output, stop),
            restart=Restart.TRANSIENT, ask_to_stop=stop.set, stop_after=SHUT_DOWN_WITHIN, order=ORDER,
        )  # fmt: skip
        try:
            entry.child = self._supervisor.add(spec)
        except Unavailable:
            return False  # the box stops
        entry.stop = stop
        entry.output = output
        entry.task.state = TaskState.READY
        entry.task.error = ""
        if entry.agenda is not None:
            entry.agenda.note_run(self._clock.wall())
            self._alarms.pop(_alarm(entry), None)
        entry.note_change()
        return True

    async def _carry_out(self, entry: Entry, output: OutputStream, stop: trio.Event, progress: Progress) -> None:
        runner = self.runners[entry.kind.name]
        try:
            await runner.run(entry.task, output, stop, progress)
        except (NotFound, BadRequest) as error:
            entry.task.state = TaskState.ERROR
            entry.task.error = str(error)
            entry.task.finished = self._clock.wall()
            log.error("task failed for good kind=%s task=%s reason=%s", entry.kind.name, entry.task.label, error)
        except trio.Cancelled:
            self._ended(entry)
            raise
        except Exception as error:
            # The supervisor logs it and gives the task another life.
            entry.task.error = f"internal fault: {error}"
            entry.note_change()
            raise
        self._ended(entry)

    async def _begun(self, entry: Entry) -> None:
        """Until a record that has just been given to its runner has its file, for the answer to name it."""
        task = entry.task
        with trio.move_on_after(BEGIN_WITHIN):
            while isinstance(task, Record) and not (task.output_file or task.error) and entry.child is not None:
                await entry.changed.wait()

    def _ended(self, entry: Entry) -> None:
        """The child is done with this life of the stream."""
        entry.child = entry.output = None
        task = entry.task
        if entry.leaving:
            self._remove(entry)
            return
        agenda = entry.agenda
        if task.state is not TaskState.ERROR:
            enabled = getattr(task, "enabled", True)
            over = agenda is not None and agenda.over(self._clock.wall())
            task.state = TaskState.STOPPED if over or not enabled else TaskState.READY
        entry.note_change()
        if task.state is not TaskState.ERROR:
            # The stream may be back already.
            self._begin_if_due(entry)

    def _leave(self, entry: Entry) -> None:
        if entry.leaving:
            return
        entry.leaving = True
        self._alarms.pop(_alarm(entry), None)
        if entry.child is None:
            self._remove(entry)
            return
        entry.task.state = TaskState.STOPPING
        self._see_off(entry)

    def _see_off(self, entry: Entry) -> None:
        """Let the child of ``entry`` finish, and end it when it does not."""
        child = entry.child
        assert child is not None

        async def wait(progress: Progress) -> None:
            entry.stop.set()
            if child.state not in (State.BACKING_OFF, State.PARKED):
                with trio.move_on_after(FINISH_WITHIN):
                    await child.wait_ended()
                    return
                log.error("task does not end kind=%s task=%s", entry.kind.name, entry.task.label)
            if child.name in self._supervisor.children:
                await self._supervisor.stop(child.name)
            if entry.child is child:
                self._ended(entry)

        entry.stop.set()
        name = Services.child_name("stopping", entry.task.label)
        with suppress(Unavailable):  # the box stops, and the task with it
            self._supervisor.add(ChildSpec(name=name, start=wait, restart=Restart.TEMPORARY, order=ORDER))

    def _put(self, key: str, entry: Entry) -> None:
        self._entries[entry.kind.name][key] = entry
        self._by_task[id(entry.task)] = entry

    def _remove(self, entry: Entry) -> None:
        key = task_key(entry.kind, entry.task)
        entries = self._entries[entry.kind.name]
        if entries.get(key) is entry:
            del entries[key]
            log.info("task gone kind=%s task=%s", entry.kind.name, entry.task.label)
        self._by_task.pop(id(entry.task), None)
        entry.task.state = TaskState.STOPPED
        entry.changed.set()
        entry.ended.set()

    # Calendars and the store

    def _follow_calendars(self) -> None:
        now = self._clock.wall()
        for entry in list(self.all()):
            agenda = entry.agenda
            if agenda is None or entry.leaving:
                continue
            for missed in agenda.settle(now, self._since):
                self._tell_missed(entry, missed)
            if entry.child is not None:
                if agenda.window(now) is None and not entry.stop.is_set():
                    self._see_off(entry)
            elif agenda.over(now):
                if entry.task.state is TaskState.READY:
                    entry.task.state = TaskState.ERROR if entry.task.error else TaskState.STOPPED
                    entry.task.finished = now
                    entry.note_change()
            else:
                window = agenda.window(now)
                if entry.task.state is not TaskState.ERROR or (window is not None and window.start != agenda.ran):
                    self._begin_if_due(entry)

    def _tell_missed(self, entry: Entry, missed: Missed) -> None:
        when = _local_time(missed.window.start)
        entry.task.error = f"missed {when}: {missed.reason}"
        log.error("task missed kind=%s task=%s begin=%s reason=%r", entry.kind.name, entry.task.label, when,
                  missed.reason)  # fmt: skip
        self._alarms[_alarm(entry)] = f"{entry.kind.name} {entry.task.label} {entry.task.error}"
        entry.note_change()

    def _until_next_change(self) -> float:
        """Seconds."""
        now = self._clock.wall()
        changes = [
            entry.agenda.change_after(now) for entry in self.all() if entry.agenda is not None and not entry.leaving
        ]
        due = [change for change in changes if change is not None]
        return min(LOOK_EVERY, max(0.0, (min(due) - now) / 1e9)) if due else _NEVER

    async def _save(self) -> None:
        entries = [entry for entry in self.all() if entry.unsaved]
        blobs = [(_stored(entry.kind), task_key(entry.kind, entry.task), entry.pack()) for entry in entries]
        if not blobs:
            return
        for entry in entries:
            entry.unsaved = False
        try:
            await self._store.transaction(partial(_put_all, blobs))
        except KilnError as error:
            log.error("progress of tasks is not kept tasks=%d reason=%s", len(blobs), error)
            for entry in entries:
                entry.unsaved = entry.stored


def _put_all(blobs: list[tuple[str, str, bytes]], transaction: Transaction) -> None:
    for blob in blobs:
        transaction.put(*blob)


def _place(kind: Kind, output: OutputStream) -> tuple[str, str, str, str]:
    return kind.name, output.vhost, output.app, output.name


def _stored(kind: Kind) -> str:
    """The store's name for a kind."""
    return f"task:{kind.name}"


def _alarm(entry: Entry) -> str:
    return f"task:{entry.kind.name}:{entry.task.label}"


def _local_time(moment: int) -> str:
    return datetime.fromtimestamp(moment // 1_000_000_000, UTC).astimezone().isoformat()
