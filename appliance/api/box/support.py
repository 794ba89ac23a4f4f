"""``/box/v1/support-bundle``: what somebody who helps needs to see, in one zip without secrets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import trio

from appliance.access.roles import Role
from appliance.api.box.alarms import shown
from appliance.api.box.query import PRIVATE
from appliance.api.envelope import Answer
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.watch import State
from appliance.errors import Unavailable
from appliance.logs import LogRing
from appliance.media.tasks import Push, Task
from appliance.transcoder.pool import worker_environment

if TYPE_CHECKING:
    from appliance.api.box.system import System
    from appliance.api.metrics import Metrics
    from appliance.engine.engine import Engine

#: Seconds that the doctor may take, and the whole.
DOCTOR_WITHIN = 60.0
MADE_WITHIN = 75.0
#: Log lines that are gathered before others run.
BATCH = 500
SLICE = 0.001
_SECRET = re.compile(r"token|secret|pass|credential|key$|auth$", re.IGNORECASE)
_KEY_IN_PATH = ("rtmp", "rtmps")


class SupportBundle:
    """One at a time: it makes encoders prove themselves."""

    def __init__(self, engine: Engine, state: State, system: System, metrics: Metrics, ring: LogRing) -> None:
        self._engine = engine
        self._state = state
        self._system = system
        self._metrics = metrics
        self._ring = ring
        self._one_at_a_time = trio.Lock()

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/support-bundle", self.bundle, Role.OPERATOR)

    async def bundle(self, request: Request) -> Answer:
        """A zip: system, settings, state, tasks, alarms, logs, metrics, and what ``kiln doctor`` says."""
        headers = [*PRIVATE, (b"content-disposition", b'attachment; filename="kiln-support.zip"')]
        if request.method == "HEAD":
            return Answer(200, b"", headers, b"application/zip")
        async with self._one_at_a_time:
            job = await self._job(request)
            command = [sys.executable, "-P", "-m", "appliance.api.box.bundle"]
            with trio.move_on_after(MADE_WITHIN):
                done = await trio.run_process(
                    command, stdin=job, capture_stdout=True, capture_stderr=True, check=False,
                    env=worker_environment(os.environ),
                )  # fmt: skip
                if done.returncode:
                    told = done.stderr.decode("utf-8", "replace").strip().splitlines()
                    raise Unavailable(f"The support bundle can't be made: {told[-1] if told else done.returncode}")
                return Answer(200, done.stdout, headers, b"application/zip")
        raise Unavailable(f"The support bundle was not made within {MADE_WITHIN:g} s")

    async def _job(self, request: Request) -> bytes:
        """Everything, gathered and packed step by step."""
        engine = self._engine
        system = await self._system.system(request)
        metrics = await self._metrics.scrape(request)
        await self._state.refresh()
        breath = _Breath()
        state: dict[str, dict[str, msgspec.Raw]] = {}
        for section, key, item in self._state.items():
            state.setdefault(section, {})[key] = _packed(item)
            await breath.take()
        logs = []
        number = 0
        while lines := self._ring.after(number, BATCH):
            logs.append(_packed([(line.time, line.level, line.logger, line.text) for line in lines]))
            number = lines[-1].number
            await breath.take()
        server = msgspec.to_builtins(msgspec.structs.replace(engine.settings, virtual_hosts=()))
        secrets = [engine.token.plain or "", *found_secrets(server)]
        vhosts = []
        for vhost in list(engine.directory.vhosts.values()):
            secrets += found_secrets(vhost.raw)
            applications = []
            for application in list(vhost.applications.values()):
                secrets += found_secrets(application.raw)
                for stream in application.inputs.values():
                    secrets += url_secrets(stream.source.url)
                applications.append(_packed(application.raw))
                await breath.take()
            vhosts.append({**vhost.raw, "applications": applications})
        for entry in list(engine.tasks.all()):
            secrets += task_secrets(entry.task)
        documents = {
            "system": msgspec.json.decode(system.body).get("response"),
            "state": state,
            "server": server,
            "virtual-hosts": vhosts,
            "alarms": [shown(alarm) for alarm in [*engine.alarms.open, *engine.alarms.closed]],
        }
        job = {
            "documents": documents,
            "texts": {"metrics": metrics.body.decode(), "children": engine.supervisor.tree()},
            "logs": logs,
            "secrets": [secret for secret in secrets if secret],
            "doctor": [sys.executable, "-P", "-m", "appliance.cli", "doctor", "--state", str(engine.state)],
            "seconds": DOCTOR_WITHIN,
        }
        return msgspec.msgpack.encode(job)


def _packed(value: Any) -> msgspec.Raw:
    """In the form in which it goes to the other process: the whole is only put together then."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


class _Breath:
    """Lets others run once a millisecond."""

    def __init__(self) -> None:
        self._until = trio.current_time() + SLICE

    async def take(self) -> None:
        if trio.current_time() > self._until:
            await trio.lowlevel.checkpoint()
            self._until = trio.current_time() + SLICE


def found_secrets(value: Any, name: str = "") -> Iterator[str]:
    """Values under names of secrets, and those in URLs."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from found_secrets(each, str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from found_secrets(each, name)
    elif isinstance(value, str) and value:
        if _SECRET.search(name):
            yield value
        if "://" in value:
            yield from url_secrets(value)


def task_secrets(task: Task) -> Iterator[str]:
    """What a push logs in with."""
    if isinstance(task, Push):
        yield task.stream_key
        for url in task.urls:
            yield from url_secrets(url)
            if url.partition("://")[0].lower() in _KEY_IN_PATH:
                yield url.rstrip("/").rpartition("/")[2]


def url_secrets(url: str) -> Iterator[str]:
    """The password in a URL, and values of its query whose name says that they are secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.password:
        yield parts.password
        yield unquote(parts.password)
    for name, value in parse_qsl(parts.query):
        if _SECRET.search(name) or name == "streamid":
            yield value

