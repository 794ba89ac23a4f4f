"""Carries out dumps: one task each, for one life of its output stream."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import trio

from appliance.errors import BadRequest, KilnError, NameTaken, NotFound, Unavailable
from appliance.media.contracts import Context, OutputStream, Progress
from appliance.media.tasks import Dump, TaskChanged, TaskState
from appliance.publishers.dump.info_file import InfoFile
from appliance.publishers.dump.track_dump import TrackDump
from appliance.publishers.llhls import LlhlsPublisher
from appliance.publishers.llhls.live import Live
from appliance.publishers.llhls.playlists import master_text
from appliance.publishers.media_files import MediaFiles

log = logging.getLogger("kiln.dump")

#: How long a dump waits for its stream to be playable, and how often it looks (seconds).
LOOK_EVERY = 1.0
#: A disk that says no is asked again after so long.
RETRY_AFTER = 2.0
#: Lives of a stream that one dump may have.
MOST_LIVES = 1000
#: File names listed with a task at most.
MOST_FILES = 1000


class DumpRunner:
    """``llhls`` has the streams; ``short`` says why nothing may be written below the media root now, "" when it may."""

    def __init__(
        self, context: Context, llhls: LlhlsPublisher, changed: TaskChanged = lambda task: None,
        short: Callable[[], str] = lambda: "",
    ) -> None:  # fmt: skip
        self._clock = context.clock
        self._files = MediaFiles(context.media_root, short)
        self._llhls = llhls
        self._changed = changed

    def check(self, task: Dump, output: OutputStream | None) -> None:
        """Raises BadRequest for paths that lead out of the media root, NotFound for a playlist that is not there."""
        self._files.resolve(task.output_path)
        if task.info_file:
            self._files.resolve(task.info_file)
        if output is None:
            return
        live = self._llhls.live(output.vhost, output.app, output.name)
        for name in task.playlist:
            if live is not None and name.removesuffix(".m3u8") not in live.playlists:
                raise NotFound(f"Could not dump master playlist: there is no {name}")

    async def check_disk(self, task: Dump) -> None:
        """Raises NameTaken when the info file is there already, Unavailable when the disk can't say."""
        if task.info_file and await self._files.exists(self._files.resolve(task.info_file)):
            raise NameTaken("Duplicate info file")

    async def run(self, task: Dump, output: OutputStream, stop: trio.Event, progress: Progress) -> None:
        """See ``TaskRunner``. Raises BadRequest when the info file is there already."""
        live = await self._until_playable(output, stop, progress)
        if live is None:
            return
        name = f"/{output.vhost}/{output.app}/{output.name}"
        folder = self._files.resolve(task.output_path)
        info_path = self._files.resolve(task.info_file) if task.info_file else None
        try:
            if task.started:
                await InfoFile(self._files, info_path, name, task.user_data).close_earlier()
                folder, info_path = await self._beside(folder, info_path)
            info = InfoFile(self._files, info_path, name, task.user_data)
            await info.create()
        except NameTaken:
            raise BadRequest("Duplicate info file") from None
        except Unavailable as fault:
            raise BadRequest(f"Could not dump init segment: {fault}") from fault
        task.state = TaskState.RECORDING
        task.started = self._clock.wall()
        self._changed(task)
        log.info("dump begins task=%s folder=%s", task.label, folder)
        tracks = _tracks(self._files, folder, live)
        await self._copy(task, folder, live, tracks, info, stop, progress)
        await self._finish(task, folder, live, tracks, info)

    async def _until_playable(self, output: OutputStream, stop: trio.Event, progress: Progress) -> Live | None:
        while not (stop.is_set() or output.stream.closed):
            live = self._llhls.live(output.vhost, output.app, output.name)
            if live is not None and live.output is output and live.ready and any(one.listed for one in live.playable()):
                return live
            progress()
            with trio.move_on_after(LOOK_EVERY):
                await stop.wait()
        return None

    async def _beside(self, folder: Path, info_path: Path | None) -> tuple[Path, Path | None]:
        """Places for the next life of the stream: what the one before gave stays as it is. Raises Unavailable."""
        for life in range(2, MOST_LIVES):
            places = [path.with_name(f"{path.name}.{life}") for path in (folder, info_path) if path is not None]
            if not any([await self._files.exists(place) for place in places]):
                return places[0], places[1] if info_path is not None else None
        raise Unavailable(f"{folder}: there are {MOST_LIVES} of them already")

    async def _copy(
        self, task: Dump, folder: Path, live: Live, tracks: list[TrackDump], info: InfoFile, stop: trio.Event,
        progress: Progress,
    ) -> None:  # fmt: skip
        """Until the dump is stopped or the stream ends."""
        masters_due = True
        while True:
            over = stop.is_set() or live.finished
            grown = live.grown
            for track in tracks:
                track.gather()
            progress()
            try:
                if masters_due and all(track.window.listed for track in tracks):
                    await self._note(task, info, await self._write_masters(task, folder, live))
                    masters_due = False
                await self._write_all(task, tracks, info)
            except Unavailable as fault:
                self._fault(task, str(fault))
                if over:
                    return
                with trio.move_on_after(RETRY_AFTER):
                    await stop.wait()
                continue
            self._fault(task, "")
            if over:
                return
            with trio.move_on_after(LOOK_EVERY):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_then_cancel, stop, nursery.cancel_scope)
                    await grown.wait()
                    nursery.cancel_scope.cancel()

    async def _write_all(self, task: Dump, tracks: list[TrackDump], info: InfoFile) -> None:
        while any(track.pending for track in tracks):
            for track in tracks:
                if track.pending:
                    await self._note(task, info, await track.write_next())
            for track in tracks:
                track.gather()

    async def _write_masters(self, task: Dump, folder: Path, live: Live) -> list[Path]:
        names = [name.removesuffix(".m3u8") for name in task.playlist] or list(live.playlists)
        written = []
        for name in names:
            playlist = live.playlists.get(name)
            text = "" if playlist is None else master_text(live, playlist, prefix="")
            if not text:
                log.error("no such playlist to dump task=%s playlist=%s", task.label, name)
                continue
            await self._files.write(folder / f"{name}.m3u8", [text.encode()])
            written.append(folder / f"{name}.m3u8")
        return written

    async def _note(self, task: Dump, info: InfoFile, written: list[Path]) -> None:
        if written:
            task.files.extend(map(str, written))
            del task.files[:-MOST_FILES]
            task.sequence += len(written)
            await info.add(*written)

    def _fault(self, task: Dump, reason: str) -> None:
        if task.error != reason:
            task.error = reason
            self._changed(task)
            if reason:
                log.error("dump can't write, tried again task=%s reason=%s", task.label, reason)

    async def _finish(self, task: Dump, folder: Path, live: Live, tracks: list[TrackDump], info: InfoFile) -> None:
        whole = not task.error and not any(track.dropped for track in tracks)
        task.finished = self._clock.wall()
        try:
            # What was measured by now is truer than what the first master playlist could tell.
            if whole:
                await self._write_masters(task, folder, live)
            await info.say("Completed" if whole else "Error")
        except KilnError as fault:
            self._fault(task, str(fault))
        log.info("dump ends task=%s files=%d whole=%s", task.label, task.sequence, whole)
        self._changed(task)


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _tracks(files: MediaFiles, folder: Path, live: Live) -> list[TrackDump]:
    """All tracks begin with the same segment: the newest that every one has."""
    windows = live.playable()
    begin = min(window.last_complete for window in windows if window.listed)
    return [TrackDump(files, folder, window, begin, live.target_duration) for window in windows]
