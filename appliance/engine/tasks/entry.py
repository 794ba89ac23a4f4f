"""A task on the board: what is wanted, what carries it out, and how it is kept in the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from appliance.engine.tasks.agenda import Agenda
from appliance.engine.tasks.kinds import Kind
from appliance.errors import KilnError
from appliance.media.contracts import OutputStream
from appliance.media.tasks import Task, TaskState
from appliance.supervisor import Child


@dataclass(slots=True, eq=False)
class Entry:
    """``child`` carries the task out on ``output``; None while it waits. ``changed`` is replaced with each change of
    the task; ``ended`` is set when it has left the board."""

    kind: Kind
    task: Task
    agenda: Agenda | None = None
    child: Child | None = None
    output: OutputStream | None = None
    stop: trio.Event = field(default_factory=trio.Event)
    leaving: bool = False
    stored: bool = False
    unsaved: bool = False
    changed: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    def due(self, now: int) -> bool:
        """Whether the task is to run when its stream is there."""
        if self.leaving or not getattr(self.task, "enabled", True):
            return False
        return self.agenda is None or self.agenda.window(now) is not None

    def note_change(self) -> None:
        self.unsaved = self.stored
        self.changed.set()
        self.changed = trio.Event()

    def pack(self) -> bytes:
        return msgspec.json.encode({"task": self.task, "agenda": self.agenda.store() if self.agenda else None})


def unpack(kind: Kind, blob: bytes) -> Entry:
    """What ``Entry.pack`` made, waiting for its stream. Raises KilnError."""
    try:
        stored: dict[str, Any] = msgspec.json.decode(blob)
        task = msgspec.convert(stored["task"], kind.task)
        agenda = Agenda.restore(stored["agenda"]) if stored.get("agenda") else None
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise KilnError(f"not a {kind.name}: {error}") from error
    if task.state is TaskState.RECORDING:
        # The box went down with a file under way: it is repaired under its number, and the next one has its own.
        task.sequence += 1
    if task.state not in (TaskState.STOPPED, TaskState.ERROR):
        task.state = TaskState.READY
    return Entry(kind, task, agenda, stored=True)
