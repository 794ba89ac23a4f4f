"""Channels: those whose files lie in the folders of the applications, and what the API does to them.

The file is the channel. A folder is looked at twice a second; a broken file is an alarm, and the last good one stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from appliance.engine import channel_files
from appliance.engine.channel_files import FoundFile, Signature
from appliance.engine.directory import Directory
from appliance.engine.services import Services
from appliance.errors import BadRequest, ConfigError, KilnError, NameTaken, NotFound, Unavailable
from appliance.media.contracts import Context, Progress
from appliance.providers import multiplex, schedule
from appliance.settings import models
from appliance.settings.names import check_name
from appliance.storage.media_root import resolve
from appliance.supervisor import Child, ChildSpec, Supervisor
from appliance.transcoder.playout.model import Schedule

log = logging.getLogger("kiln.channel")

LOOK_EVERY = 0.5
#: A file that is missing for so many looks is gone; one that an editor writes anew is missing for a moment.
LOOKS_MISSING = 3
#: How long the disk may take (s).
DISK_WITHIN = 5.0
#: Like the providers.
ORDER = 50
DEFAULT_FOLDER = "channels"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """``provider`` is the attribute of ``models.Providers``, ``folder`` its setting; ``read`` takes a file apart."""

    name: str
    provider: str
    folder: str
    extension: str
    read: Callable[[bytes, str], Any]


SCHEDULED = ChannelKind("scheduled", "schedule", "schedule_files_dir", ".sch", schedule.from_xml)
MULTIPLEX = ChannelKind("multiplex", "multiplex", "mux_files_dir", ".mux", multiplex.from_xml)
KINDS = (SCHEDULED, MULTIPLEX)

Key = tuple[str, str, str, str]


@dataclass(slots=True)
class LiveChannel:
    """``model`` is what it plays (a Schedule or a Multiplex), ``provider`` who does, in ``child``."""

    kind: ChannelKind
    vhost: str
    app: str
    name: str
    model: Any
    provider: Any
    child: Child
    missing: int = 0

    @property
    def label(self) -> str:
        return f"{self.vhost}/{self.app}/{self.name}"


class Channels:
    """``run`` looks at the folders; ``create``, ``change`` and ``delete`` write files and take effect at once."""

    def __init__(
        self, directory: Directory, supervisor: Supervisor, alarms: MutableMapping[str, str], media_root: Path
    ) -> None:
        self._directory = directory
        self._supervisor = supervisor
        self._alarms = alarms
        self._root = media_root
        self._context: Context | None = None
        self._live: dict[Key, LiveChannel] = {}
        self._known: dict[tuple[str, str, str], dict[str, Signature]] = {}
        self._turn = trio.Lock()

    def open(self, context: Context) -> None:
        """From now on channels go on the air."""
        self._context = context
        self._supervisor.add(ChildSpec(name="channels", start=self.run, order=ORDER))

    async def run(self, progress: Progress) -> None:
        while True:
            progress()
            async with self._turn:
                await self._look()
            await trio.sleep(LOOK_EVERY)

    # For the API

    def all(self, kind: ChannelKind, vhost: str, app: str) -> list[LiveChannel]:
        """Those of one application by name."""
        found = [each for each in self._live.values() if (each.kind, each.vhost, each.app) == (kind, vhost, app)]
        return sorted(found, key=lambda each: each.name)

    def find(self, kind: ChannelKind, vhost: str, app: str, name: str) -> LiveChannel | None:
        return self._live.get((kind.name, vhost, app, name))

    async def files(self) -> dict[Key, bytes]:
        """What is in the files of all channels, by (kind, vhost, application, name). Raises Unavailable (the disk)."""
        found: dict[Key, bytes] = {}
        for kind, vhost, application in list(self._applications()):
            folder = self._folder(kind, vhost, application.name)
            files = await self._on_disk(partial(channel_files.scan, self._root, folder, kind.extension, {}))
            for name, file in files.items():
                if file.data is not None:
                    found[kind.name, vhost, application.name, name] = file.data
        return found

    async def create(self, kind: ChannelKind, vhost: str, app: str, name: str, data: bytes) -> None:
        """Raises NameTaken, Unavailable (the disk)."""
        async with self._turn:
            application = self._directory.find_application(vhost, app)
            if application is None:
                raise NotFound(f"Could not find the application: [{vhost}/{app}]")
            if any((each.name, vhost, app, name) in self._live for each in KINDS) or name in application.inputs:
                raise NameTaken(f"Stream '{name}' already exists")
            await self._write(kind, vhost, app, name, data)

    async def change(self, kind: ChannelKind, vhost: str, app: str, name: str, data: bytes) -> None:
        """Raises Unavailable (the disk)."""
        async with self._turn:
            await self._write(kind, vhost, app, name, data)

    async def delete(self, kind: ChannelKind, vhost: str, app: str, name: str) -> None:
        """Raises Unavailable (the disk)."""
        async with self._turn:
            with trio.CancelScope(shield=True):
                folder = self._folder(kind, vhost, app)
                await self._on_disk(partial(channel_files.remove, self._root, folder, name + kind.extension))
                self._known.get((kind.name, vhost, app), {}).pop(name, None)
                live = self.find(kind, vhost, app, name)
                if live is not None:
                    await self._end(live, "deleted over the API")

    async def _write(self, kind: ChannelKind, vhost: str, app: str, name: str, data: bytes) -> None:
        with trio.CancelScope(shield=True):
            folder = self._folder(kind, vhost, app)
            signature = await self._on_disk(
                partial(channel_files.write, self._root, folder, name + kind.extension, data)
            )
            self._known.setdefault((kind.name, vhost, app), {})[name] = signature
            await self._take_up(kind, vhost, app, name, FoundFile(signature, data))

    # Folders

    def _folder(self, kind: ChannelKind, vhost: str, app: str) -> Path:
        """Below the media root, wherever the setting leads. Raises BadRequest, NotFound."""
        application = self._directory.find_application(vhost, app)
        provider = getattr(application.settings.providers, kind.provider) if application is not None else None
        if provider is None:
            raise NotFound(f"application {vhost}/{app} has no {kind.name} channels")
        setting: str = getattr(provider, kind.folder)
        if not setting.strip("/."):
            setting = f"{DEFAULT_FOLDER}/{vhost}/{app}"
        if Path(setting) == self._root:
            return self._root
        return resolve(self._root, setting)

    def _applications(self) -> Iterator[tuple[ChannelKind, str, models.Application]]:
        for vhost in list(self._directory.vhosts.values()):
            for application in list(vhost.applications.values()):
                for kind in KINDS:
                    if getattr(application.settings.providers, kind.provider) is not None:
                        yield kind, vhost.name, application.settings

    async def _look(self) -> None:
        """See what has changed in all folders, and who is gone."""
        wanted = set()
        for kind, vhost, application in self._applications():
            wanted.add((kind.name, vhost, application.name))
            try:
                await self._look_into(kind, vhost, application.name)
            except (KilnError, OSError) as error:
                self._alarms[f"channels:{kind.name}:{vhost}/{application.name}"] = (
                    f"the {kind.name} channels of {vhost}/{application.name} can't be read: {error}"
                )
            else:
                self._alarms.pop(f"channels:{kind.name}:{vhost}/{application.name}", None)
        for live in list(self._live.values()):
            if (live.kind.name, live.vhost, live.app) not in wanted:
                self._known.pop((live.kind.name, live.vhost, live.app), None)
                await self._end(live, "its provider is off")

    async def _look_into(self, kind: ChannelKind, vhost: str, app: str) -> None:
        known = self._known.setdefault((kind.name, vhost, app), {})
        folder = self._folder(kind, vhost, app)
        found = await self._on_disk(partial(channel_files.scan, self._root, folder, kind.extension, dict(known)))
        for name, file in found.items():
            known[name] = file.signature
            live = self.find(kind, vhost, app, name)
            if live is not None:
                live.missing = 0
            if file.data is not None or file.fault:
                await self._take_up(kind, vhost, app, name, file)
        for name in [name for name in known if name not in found]:
            self._alarms.pop(_alarm(kind, vhost, app, name), None)
            live = self.find(kind, vhost, app, name)
            if live is None:
                del known[name]
                continue
            live.missing += 1
            if live.missing >= LOOKS_MISSING:
                del known[name]
                await self._end(live, "its file is gone")

    async def _take_up(self, kind: ChannelKind, vhost: str, app: str, name: str, file: FoundFile) -> None:
        """A file is new or has changed."""
        alarm = _alarm(kind, vhost, app, name)
        try:
            if file.data is None:
                raise BadRequest(file.fault)
            check_name("channel", name)
            model = kind.read(file.data, name)
            live = self.find(kind, vhost, app, name)
            if live is None:
                self._begin(kind, vhost, app, name, model)
            elif model != live.model:
                await self._change(live, model)
        except (BadRequest, ConfigError) as error:
            self._alarms[alarm] = f"{name}{kind.extension} of {vhost}/{app} is not used: {error}"
            log.error("channel file refused app=%s/%s file=%s%s reason=%s", vhost, app, name, kind.extension, error)
        else:
            self._alarms.pop(alarm, None)

    # Channels

    def _begin(self, kind: ChannelKind, vhost: str, app: str, name: str, model: Any) -> None:
        if self._context is None:
            raise Unavailable("the box is not on the air yet")
        provider: schedule.ScheduledChannel | multiplex.MultiplexChannel
        if kind is SCHEDULED:
            provider = schedule.ScheduledChannel(
                self._context, vhost, app, model, self._media(vhost, app), self._alarms
            )
        else:
            provider = multiplex.MultiplexChannel(self._context, vhost, app, model)
        child = self._supervisor.add(
            ChildSpec(
                name=Services.child_name("channel", f"{vhost}/{app}/{name}"), start=provider.run, order=ORDER
            )
        )
        self._live[kind.name, vhost, app, name] = LiveChannel(kind, vhost, app, name, model, provider, child)
        log.info("channel made channel=%s/%s/%s kind=%s", vhost, app, name, kind.name)

    def _media(self, vhost: str, app: str) -> Path:
        """The folder that the files of its channels lie in."""
        application = self._directory.find_application(vhost, app)
        provider = application.settings.providers.schedule if application is not None else None
        setting = provider.media_root_dir if provider is not None else ""
        if not setting.strip("/.") or Path(setting) == self._root:
            return self._root
        return resolve(self._root, setting)

    async def _change(self, live: LiveChannel, model: Any) -> None:
        if live.kind is SCHEDULED:
            before: Schedule = live.model
            if model.stream != before.stream:
                raise BadRequest("<Stream> of a channel that is on can't be changed: delete the channel first")
            live.model = model
            live.provider.change(model)
            log.info("channel changed channel=%s", live.label)
            return
        kind, vhost, app, name = live.kind, live.vhost, live.app, live.name
        await self._end(live, "its file has changed")
        self._begin(kind, vhost, app, name, model)

    async def _end(self, live: LiveChannel, reason: str) -> None:
        self._live.pop((live.kind.name, live.vhost, live.app, live.name), None)
        self._alarms.pop(_alarm(live.kind, live.vhost, live.app, live.name), None)
        log.info("channel off channel=%s reason=%s", live.label, reason)
        await self._supervisor.stop(live.child.name)

    async def _on_disk(self, work: Callable[[], Result]) -> Result:
        """Raises Unavailable when the disk fails or takes too long."""
        with trio.move_on_after(DISK_WITHIN):
            try:
                return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
            except OSError as error:
                raise Unavailable(error.strerror or str(error)) from None
        raise Unavailable(f"the disk does not answer within {DISK_WITHIN:g} s")


def _alarm(kind: ChannelKind, vhost: str, app: str, name: str) -> str:
    return f"channel-file:{vhost}/{app}/{name}{kind.extension}"
