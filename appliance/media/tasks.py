"""Tasks: a record, a push or a dump that somebody asked for, and that outlives the stream it waits for.

The engine keeps them (``appliance/engine/tasks``: reserved before the stream exists, stored, started with each life of
the output stream); a runner of ``appliance/publishers`` carries one out on one life of that stream. The runner writes
the ``actual`` half of a task as it goes; nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

from appliance.media.contracts import OutputStream, Progress
from appliance.media.track import Track

if TYPE_CHECKING:
    import trio


class TaskState(StrEnum):
    """As the API spells them (catalogue 3.5, 3.6; which of RECORDING and STARTED: by the kind of the task)."""

    READY = "ready"
    RECORDING = "recording"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ERROR = "error"


@dataclass(slots=True)
class Task:
    """What all kinds share. ``id`` is unique in its application and kind; ``from_config`` is true for one that a
    StreamMap file or a setting made (it is not stored and ends with its stream).

    Wanted: ``stream``, ``track_ids`` and ``variant_names`` choose an output stream and which of its tracks (none listed
    is all). Actual: ``state``, ``error`` ("" or the reason, for people), times in nanoseconds since 1970 (0: not yet),
    ``sequence`` counts files or connections.
    """

    id: str
    vhost: str
    app: str
    stream: str
    track_ids: tuple[int, ...] = ()
    variant_names: tuple[str, ...] = ()
    from_config: bool = False
    created: int = 0

    state: TaskState = TaskState.READY
    error: str = ""
    sequence: int = 0
    started: int = 0
    finished: int = 0

    @property
    def label(self) -> str:
        """``vhost/app/stream#id``."""
        return f"{self.vhost}/{self.app}/{self.stream}#{self.id}"

    def chosen(self, tracks: Iterable[Track]) -> list[Track]:
        """Those of ``tracks`` that the task asks for, in their order."""
        return [
            track
            for track in tracks
            if (not self.track_ids or track.id in self.track_ids)
            and (not self.variant_names or track.variant in self.variant_names)
        ]


@dataclass(slots=True)
class Record(Task):
    """Wanted: catalogue 3.5; ``interval`` in ms (0: off). Actual: bytes and ms of the current file and of all;
    ``output_file`` and ``output_info`` are the resolved paths as the API shows them."""

    file_path: str = ""
    info_path: str = ""
    interval: int = 0
    schedule: str = ""
    segmentation_rule: str = "discontinuity"
    metadata: str = ""

    output_file: str = ""
    output_info: str = ""
    bytes: int = 0
    time: int = 0
    total_bytes: int = 0
    total_time: int = 0


@dataclass(slots=True)
class Push(Task):
    """Wanted: catalogue 3.6; ``urls`` in order of preference (the API's ``url`` is the first). Actual: bytes and
    milliseconds sent over the current connection and over all; ``url_in_use`` the one that is or was last connected;
    ``dropped`` frames that a slow target did not get; ``retry_at`` monotonic ns of the next try (0: none is due)."""

    protocol: str = ""
    urls: tuple[str, ...] = ()
    stream_key: str = ""

    url_in_use: str = ""
    sent_bytes: int = 0
    sent_time: int = 0
    total_sent_bytes: int = 0
    total_sent_time: int = 0
    dropped: int = 0
    retry_at: int = 0


@dataclass(slots=True)
class Dump(Task):
    """Wanted: catalogue 3.7. ``enabled`` turns False when it is stopped; a stopped dump stays listed."""

    output_path: str = ""
    playlist: tuple[str, ...] = ()
    info_file: str = ""
    user_data: str = ""

    enabled: bool = True
    files: list[str] = field(default_factory=list)


AnyTask = TypeVar("AnyTask", bound=Task, contravariant=True)


class TaskRunner(Protocol[AnyTask]):
    """Carries out one kind of task. Made once by the engine, of a ``contracts.Context``."""

    def check(self, task: AnyTask, output: OutputStream | None) -> None:
        """Raises the errors of ``appliance.errors`` in the catalogue's words for what can't be done, before the task is
        stored: a wrong URL, a path outside the media root, a codec that the container can't hold (``output`` is the
        live output stream, None when there is none yet)."""

    async def run(self, task: AnyTask, output: OutputStream, stop: trio.Event, progress: Progress) -> None:
        """Carry the task out until ``stop`` is set or the hub of ``output`` closes, then finish (files closed, targets
        told) and return. Faults of disks and targets are the task's own affair: written to ``task.error``, tried again
        with back-off. Raises NotFound or BadRequest only for what no retry mends; then the task's state is ERROR."""


#: Told on each change of a task worth an event (state, error, a new file); never blocks.
TaskChanged = Callable[[Task], None]
