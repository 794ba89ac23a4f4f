"""Rewinding: whole segments that the window has left behind lie on disk and can be asked for as before.

Wire catalogue 4.3 (``_HLS_rewind``), 7.6 (where the files lie). What the disk did not take in time can't be rewound to.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.errors import KilnError
from appliance.media.contracts import OutputStream
from appliance.net.direct import Reply
from appliance.net.parking import ParkingLot
from appliance.publishers.media_files import MediaFiles
from appliance.settings.models import DVR

if TYPE_CHECKING:
    from appliance.publishers.llhls.live import Live
    from appliance.publishers.llhls.window import Segment, TrackWindow

log = logging.getLogger("kiln.llhls")

#: Bytes of segments read back that are kept for the next who asks.
MOST_CACHED = 16 * 1024 * 1024
#: A disk that says no is asked again after so many seconds.
RETRY_AFTER = 2.0
LOOK_EVERY = 1.0
#: What expires can be fetched for so many seconds of media more: players have it in their playlists still.
GRACE = 30.0


class Stored:
    """A segment on disk. ``reply`` while it is kept in memory; ``arrived`` is released when it has been read."""

    __slots__ = ("arrived", "content_type", "failed", "loading", "path", "reply", "size")

    def __init__(self, path: Path, size: int, content_type: bytes) -> None:
        self.path = path
        self.size = size
        self.content_type = content_type
        self.reply: Reply | None = None
        self.arrived = ParkingLot()
        self.loading = False
        self.failed = ""


class Archive:
    """The segments of one track before those that its window lists, oldest first. ``max_duration`` in seconds."""

    def __init__(self, folder: Path, files: dict[str, object], max_duration: float) -> None:
        self.folder = folder
        self.segments: deque[Segment] = deque()
        self.expired = 0
        #: Files that nobody can ask for any more.
        self.trash: list[Path] = []
        self._files = files
        self._max_duration = max_duration
        self._duration = 0.0
        self._saved: set[int] = set()
        #: Not listed any more, and still to be had.
        self._leaving: deque[Segment] = deque()
        self._leaving_for = 0.0

    def path(self, segment: Segment) -> Path:
        return self.folder / f"{segment.msn}.{segment.name.rpartition('.')[2]}"

    def note_saved(self, segment: Segment) -> None:
        self._saved.add(segment.msn)

    def is_saved(self, segment: Segment) -> bool:
        return segment.gap or segment.msn in self._saved

    def append(self, segment: Segment, listed: float) -> None:
        """The window lists ``segment`` no more; ``listed`` seconds are in it."""
        self.segments.append(segment)
        self._duration += segment.duration
        while self.segments and self._duration + listed > self._max_duration:
            self._drop_oldest()

    def retire(self, segment: Segment) -> bool:
        """The window needs the bytes of ``segment`` no more. False when they were not kept here either."""
        if not self.segments or segment.msn < self.segments[0].msn:
            return False
        if not self.is_saved(segment):
            # Playlists have no holes: everything up to it is gone.
            while self.segments and self.segments[0].msn <= segment.msn:
                self._drop_oldest()
            return False
        self._files[segment.name] = Stored(self.path(segment), segment.size, segment.content_type)
        segment.parts = []
        segment.body = None
        segment.reply = None
        segment.parts_text = ""
        return True

    def _drop_oldest(self) -> None:
        segment = self.segments.popleft()
        self.expired += 1
        self._duration -= segment.duration
        if isinstance(self._files.get(segment.name), Stored):
            self._leaving.append(segment)
            self._leaving_for += segment.duration
        else:
            # It may be in memory yet: then that is no place to keep it.
            self._forget(segment)
        while self._leaving_for > GRACE:
            oldest = self._leaving.popleft()
            self._leaving_for -= oldest.duration
            self._forget(oldest)

    def _forget(self, segment: Segment) -> None:
        if isinstance(self._files.get(segment.name), Stored):
            del self._files[segment.name]
        if segment.msn in self._saved:
            self._saved.discard(segment.msn)
            self.trash.append(self.path(segment))
        if not self.segments or segment.init is self.segments[0].init:
            return
        left_behind = all(each.init is not segment.init for each in self._leaving)
        if left_behind and self._files.get(segment.init.name) is segment.init:
            del self._files[segment.init.name]


class Dvr:
    """Keeps the segments of one stream on disk. Raises BadRequest when its path leads out of the media root."""

    def __init__(self, output: OutputStream, settings: DVR, disk: MediaFiles) -> None:
        self.label = output.label
        self._disk = disk
        self._max_duration = settings.max_duration
        place = f"{settings.temp_storage_path}/#{output.vhost}#{output.app}/{output.name}"
        self.folder = disk.resolve(place)
        self._archives: list[Archive] = []
        self._cache: OrderedDict[Path, Stored] = OrderedDict()
        self._cached = 0
        self._told = ""

    def archive(self, track_id: int, files: dict[str, object]) -> Archive:
        made = Archive(self.folder / str(track_id), files, self._max_duration)
        self._archives.append(made)
        return made

    async def run(self, live: Live) -> None:
        """Write what becomes whole, remove what expires, for ever."""
        await self.clear()
        while True:
            grown = live.grown
            try:
                for window in list(live.windows.values()):
                    await self._save(window)
                await self._empty_trash()
                self._tell("")
            except KilnError as fault:
                self._tell(str(fault))
                await trio.sleep(RETRY_AFTER)
                continue
            with trio.move_on_after(LOOK_EVERY):
                await grown.wait()

    async def _save(self, window: TrackWindow) -> None:
        archive = window.archive
        if archive is None:
            return
        for segment in _unsaved(archive, [*archive.segments, *window.listed]):
            buffers = segment.buffers
            if buffers:
                await self._disk.write(archive.path(segment), buffers)
                archive.note_saved(segment)

    async def _empty_trash(self) -> None:
        for archive in self._archives:
            trash, archive.trash = archive.trash, []
            await self._disk.remove(*trash)

    async def clear(self) -> None:
        """Nothing of an earlier life is on the disk."""
        try:
            for archive in self._archives:
                await self._disk.clear(archive.folder)
        except KilnError as fault:
            self._tell(str(fault))

    async def load(self, stored: Stored) -> None:
        """Read a segment back for those that wait for it."""
        try:
            payload = await self._disk.read(stored.path)
        except KilnError as fault:
            stored.failed = str(fault)
            log.error("can't read back stream=%s file=%s reason=%s", self.label, stored.path, fault)
        else:
            stored.failed = ""
            self.keep(stored, Reply(200, [], [payload]))
        stored.loading = False
        stored.arrived.release_all()

    def keep(self, stored: Stored, reply: Reply) -> None:
        """``reply`` holds the bytes of ``stored``: for a while, as long as there is room."""
        stored.reply = reply
        cache = self._cache
        if stored.path not in cache:
            self._cached += stored.size
        cache[stored.path] = stored
        cache.move_to_end(stored.path)
        while self._cached > MOST_CACHED and len(cache) > 1:
            _, oldest = cache.popitem(last=False)
            oldest.reply = None
            self._cached -= oldest.size

    def _tell(self, reason: str) -> None:
        if reason and reason != self._told:
            log.error("rewinding ends where the disk says no stream=%s reason=%s", self.label, reason)
        self._told = reason


def _unsaved(archive: Archive, segments: Iterable[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.complete and not archive.is_saved(segment)]
