"""What the front of the box shows of the engine, and what its keys and buttons do there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from appliance.engine.tasks.kinds import PUSH, RECORD, Kind
from appliance.errors import BadRequest, KilnError
from appliance.media.tasks import Push, Record, Task, TaskState
from appliance.settings.models import Box as BoxSettings

#: The id of the tasks that the front of the box makes.
TASK_ID = "front-panel"
_PROTOCOLS = {"rtmp": "rtmp", "rtmps": "rtmp", "srt": "srt"}


class Entry(Protocol):
    @property
    def kind(self) -> Any: ...
    @property
    def task(self) -> Task: ...


class Board(Protocol):
    """The task board, as far as the front of the box uses it."""

    def all(self) -> Iterator[Any]: ...
    def find(self, kind: Kind, vhost: str, app: str, task_id: str, stream: str = "") -> Any: ...
    async def start(self, kind: Kind, task: Task) -> Any: ...
    async def stop(self, entry: Any) -> None: ...


class Engine(Protocol):
    """What is on the air."""

    @property
    def directory(self) -> Any: ...
    @property
    def tasks(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Look:
    """``bitrate`` bit/s of all inputs; ``recording`` and ``pushing`` count tasks at work."""

    streams: int
    bitrate: int
    recording: int
    pushing: int

    @property
    def on_air(self) -> bool:
        return self.streams > 0


class Desk:
    """``clock`` gives monotonic seconds."""

    def __init__(self, engine: Engine, settings: BoxSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._board: Board = engine.tasks
        self._bytes: Mapping[str, int] = {}
        self._bytes_at = 0.0
        self._bitrate = 0

    def look(self) -> Look:
        """As it is now; the bit rate is that of the last second or more."""
        streams = [stream for stream in self._streams() if stream.prepared]
        self._measure({stream.label: _bytes(stream) for stream in streams})
        states = [(entry.kind.name, entry.task.state) for entry in self._board.all()]
        return Look(
            len(streams), self._bitrate, states.count(("record", TaskState.RECORDING)),
            states.count(("push", TaskState.STARTED)),
        )  # fmt: skip

    def records(self) -> bool:
        """Whether the record that the keys made is there."""
        return self._own(RECORD) is not None

    def pushes(self) -> bool:
        return self._own(PUSH) is not None

    async def toggle_record(self) -> bool:
        """Start it, or stop it; whether there is one now. Raises the errors of the API."""
        return await self._toggle(RECORD, self._record)

    async def toggle_push(self) -> bool:
        return await self._toggle(PUSH, self._push)

    async def _toggle(self, kind: Kind, make: Callable[[], Task]) -> bool:
        entry = self._own(kind)
        if entry is not None:
            await self._board.stop(entry)
            return False
        await self._board.start(kind, make())
        return True

    def _own(self, kind: Kind) -> Any:
        if not self._settings.stream:
            return None
        vhost, app, _ = self._place()
        return self._board.find(kind, vhost, app, TASK_ID)

    def _place(self) -> tuple[str, str, str]:
        if not self._settings.stream:
            raise BadRequest("no stream is set: Server/Box/Stream")
        vhost, app, stream = self._settings.stream.split("/")
        return vhost, app, stream

    def _record(self) -> Record:
        vhost, app, stream = self._place()
        self._check_application(vhost, app)
        return Record(id=TASK_ID, vhost=vhost, app=app, stream=stream)

    def _push(self) -> Push:
        vhost, app, stream = self._place()
        self._check_application(vhost, app)
        url = self._settings.push_url
        protocol = _PROTOCOLS.get(url.partition("://")[0].lower(), "")
        if not protocol:
            raise BadRequest("no target is set: Server/Box/PushURL")
        return Push(id=TASK_ID, vhost=vhost, app=app, stream=stream, protocol=protocol, urls=(url,))

    def _check_application(self, vhost: str, app: str) -> None:
        if self._engine.directory.find_application(vhost, app) is None:
            raise BadRequest(f"there is no application {vhost}/{app}")

    def _streams(self) -> Iterator[Any]:
        for vhost in list(self._engine.directory.vhosts.values()):
            for application in list(vhost.applications.values()):
                yield from list(application.inputs.values())

    def _measure(self, now: Mapping[str, int]) -> None:
        at = self._clock()
        span = at - self._bytes_at
        if span < 1:
            return
        grown = sum(max(0, count - self._bytes.get(name, count)) for name, count in now.items())
        self._bitrate = round(grown * 8 / span)
        self._bytes, self._bytes_at = now, at


def _bytes(stream: Any) -> int:
    """What came in; of a raw input, whose frames stay in a worker, what was made of it."""
    if stream.stream.bytes or stream.outputs is None:
        return int(stream.stream.bytes)
    return sum(each.output.stream.bytes for each in stream.outputs.by_name.values() if each.output is not None)


def reason(error: KilnError) -> str:
    """As it fits on a panel."""
    return str(error).replace("\n", " ")


def own_address() -> str:
    """The address by which the LAN reaches this box, "" without one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return ""
