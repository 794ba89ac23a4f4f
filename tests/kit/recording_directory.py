"""A directory that takes whatever providers bring and remembers it: the engine's place in provider tests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import trio

from appliance.errors import BadRequest, NameTaken, NotFound
from appliance.media.clock import Clock
from appliance.media.contracts import Context, Source
from appliance.media.stream import Stream
from appliance.media.track import Track
from appliance.net.egress import Egress
from appliance.settings.models import Application
from appliance.settings.models.providers import Providers, RtmpProvider

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Sent:
    """One ``Input.send``."""

    track: Track
    pts: int
    dts: int
    keyframe: bool
    payload: bytes
    duration: int


@dataclass(eq=False)
class RecordedInput:
    """An Input that keeps what it is given. ``changed`` wakes whoever waits in ``wait``."""

    label: str
    source: Source
    directory: RecordingDirectory
    prepared: list[Track] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    closed: str | None = None
    prepared_at: float = 0.0
    keep_payloads: bool = True
    _callbacks: list[Callable[[str], None]] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    @property
    def stream(self) -> Stream:
        raise AssertionError("a provider needs no hub")

    def prepare(self, tracks: Sequence[Track]) -> None:
        assert not self.prepared, "prepare comes once"
        assert tracks
        self.prepared = list(tracks)
        self.prepared_at = trio.current_time()
        self._wake()

    def send(self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int = 0) -> None:
        if self.closed is not None:
            return
        assert self.prepared, "prepare comes first"
        assert type(payload) is bytes
        self.sent.append(Sent(track, pts, dts, keyframe, payload if self.keep_payloads else b"", duration))
        self._wake()

    def close(self, reason: str) -> None:
        if self.closed is None:
            self.closed = reason
            self.directory.release(self)
            self._wake()

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def cancel(self, reason: str) -> None:
        """What the engine does to end an input."""
        for callback in self._callbacks:
            callback(reason)
        self.close(reason)

    def of(self, media: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.track.media == media]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self, condition: Callable[[RecordedInput], bool], seconds: float = 10) -> None:
        """Until ``condition`` holds. Fails after ``seconds``."""
        with trio.fail_after(seconds):
            while not condition(self):
                await self._changed.wait()

    async def wait_closed(self, seconds: float = 20) -> str:
        await self.wait(lambda this: this.closed is not None, seconds)
        assert self.closed is not None
        return self.closed


class RecordingDirectory:
    """``hosts``: virtual host by host pattern. ``applications``: settings by (virtual host, application)."""

    def __init__(
        self,
        applications: Mapping[tuple[str, str], Application] | None = None,
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        self.applications = dict(applications or {("default", "app"): application()})
        self.hosts = dict(hosts or {"*": "default"})
        self.inputs: list[RecordedInput] = []
        self.live: dict[tuple[str, str, str], RecordedInput] = {}
        self._opened = trio.Event()

    def vhost_for_host(self, host: str) -> str | None:
        return next((vhost for pattern, vhost in self.hosts.items() if fnmatchcase(host, pattern)), None)

    def application(self, vhost: str, app: str) -> object | None:
        return self.applications.get((vhost, app))

    def check_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> None:
        if (vhost, app) not in self.applications:
            raise NotFound(f"there is no application {vhost}/{app}")
        if not _NAME.fullmatch(name):
            raise BadRequest(f"{name!r} is no name for a stream")
        if (vhost, app, name) in self.live and not replace:
            raise NameTaken(f"{vhost}/{app}/{name} is live")

    def open_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> RecordedInput:
        self.check_input(vhost, app, name, source, replace=replace)
        existing = self.live.get((vhost, app, name))
        if existing is not None:
            existing.cancel("replaced")
        opened = RecordedInput(f"{vhost}/{app}/{name}", source, self)
        self.live[vhost, app, name] = opened
        self.inputs.append(opened)
        self._opened.set()
        self._opened = trio.Event()
        return opened

    def release(self, gone: RecordedInput) -> None:
        self.live = {key: value for key, value in self.live.items() if value is not gone}

    def output(self, vhost: str, app: str, name: str) -> Stream | None:
        return None

    def input(self, vhost: str, app: str, name: str) -> Stream | None:
        return None

    def arriving(self, vhost: str, app: str) -> object | None:
        return self.application(vhost, app)

    def wanted(self, vhost: str, app: str, name: str, query: str = "") -> bool:
        return False

    async def opened(self, count: int = 1, seconds: float = 20) -> RecordedInput:
        """The ``count``-th input that was ever opened."""
        with trio.fail_after(seconds):
            while len(self.inputs) < count:
                await self._opened.wait()
        return self.inputs[count - 1]


def application(name: str = "app", /, **rtmp: object) -> Application:
    """An application that takes RTMP, with these settings of its provider."""
    return Application(name=name, type="live", providers=Providers(rtmp=RtmpProvider(**rtmp)))  # type: ignore[arg-type]


@asynccontextmanager
async def provider_context(directory: RecordingDirectory) -> AsyncIterator[Context]:
    """A Context around ``directory``, with a nursery that is cancelled at the end."""

    async def reserve(key: str, count: int) -> int:
        raise AssertionError("no numbers are reserved here")

    async with trio.open_nursery() as nursery:
        egress = Egress(["127.0.0.0/8"])
        yield Context(directory=directory, clock=Clock(), nursery=nursery, reserve=reserve, egress=egress)
        nursery.cancel_scope.cancel()
