"""The kinds of tasks."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.media.tasks import Dump, Push, Record, Task


@dataclass(frozen=True, slots=True)
class Kind:
    """``publisher`` is the attribute of ``models.Publishers`` that must be there, ``work`` how it is spoken of."""

    name: str
    publisher: str
    task: type[Task]
    work: str


RECORD = Kind("record", "file", Record, "Recording")
PUSH = Kind("push", "push", Push, "Pushing")
DUMP = Kind("dump", "llhls", Dump, "Dumping")
KINDS = (RECORD, PUSH, DUMP)


def task_key(kind: Kind, task: Task) -> str:
    """Unique among the tasks of a kind. Ids of dumps are those of their output stream alone."""
    stream = f"{task.stream}/" if kind is DUMP else ""
    return f"{task.vhost}/{task.app}/{stream}{task.id}"
