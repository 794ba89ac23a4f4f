"""A file that an application plays from its start on, as its settings list it."""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from appliance.errors import KilnError
from appliance.media.contracts import Context, Input, Progress, Source
from appliance.providers.file.pull import FilePullSource, file_root, looped
from appliance.transcoder.demux import Demuxers
from appliance.transcoder.playout.player import Player

log = logging.getLogger("kiln.file")

RETRY = 1.0


class FileStream:
    """``path`` is below the provider's RootPath. What can't be played is tried again each second."""

    def __init__(self, context: Context, vhost: str, app: str, name: str, path: str) -> None:
        self._context = context
        self._vhost = vhost
        self._app = app
        self._name = name
        self._path = path
        self._label = f"{vhost}/{app}/{name}"

    async def run(self, progress: Progress) -> None:
        reported = ""
        while True:
            demuxers = Demuxers()
            try:
                root: Path = file_root(self._context, self._vhost, self._app)
                player = Player(
                    await looped(demuxers, root, self._name, self._path), label=self._label, root=root,
                    demuxers=demuxers, find=lambda *_: None, clock=self._context.clock, open_input=self._open_input,
                    gives_up=True,
                )  # fmt: skip
                await player.run(progress)
            except KilnError as error:
                if str(error) != reported:
                    reported = str(error)
                    log.error("file not played stream=%s path=%s reason=%s", self._label, self._path, reported)
            finally:
                with trio.CancelScope(shield=True):
                    await demuxers.close()
            progress()
            await trio.sleep(RETRY)

    def _open_input(self) -> Input:
        source = Source(FilePullSource.kind, f"file://{self._path}")
        return self._context.directory.open_input(self._vhost, self._app, self._name, source)
