"""One file that is being recorded, in the disk worker. Blocks."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from appliance.errors import KilnError
from appliance.storage.catalogue import Catalogue
from appliance.storage.containers import index
from appliance.storage.disk import Disk
from appliance.storage.entry import Entry
from appliance.storage.finish import full, publish, seal

#: Room is set aside in steps of so many bytes, so that what finishes a file always has its place.
STEP = 4 << 20
#: What the entries and the info file may need beside it.
SMALL_FILES = 64 * 1024


class Recording:
    """``entry`` and head are on the disk when this returns. Raises OSError, KilnError."""

    def __init__(self, disk: Disk, catalogue: Catalogue, entry: Entry, head: bytes) -> None:
        self._disk = disk
        self._catalogue = catalogue
        self.entry = entry
        self._index = index(entry.container, head)
        self._allocated = 0
        self._allocates = True
        self._elapsed_ms = 0
        catalogue.save(entry)
        try:
            self._handle = disk.create(entry.temporary)
        except BaseException:
            catalogue.forget(entry)
            raise
        try:
            self._set_aside(len(head))
            disk.write(self._handle, head, 0)
            disk.sync(self._handle)
        except BaseException:
            # Nothing is in it: nothing is lost, and there is nothing to repair.
            with suppress(OSError, KilnError):
                self.discard()
            raise

    def write(self, fragment: bytes, elapsed_ms: int) -> None:
        """Returns when the fragment is on the disk. After an OSError, what was written before it can be finished."""
        at = self._index.end
        self._set_aside(at + len(fragment))
        self._disk.write(self._handle, fragment, at)
        self._disk.sync(self._handle)
        self._index.add(fragment)
        self._elapsed_ms = elapsed_ms

    def finish(self, wall: int, last: bool, wall_offset_ms: int) -> Entry:
        """Raises OSError and KilnError; the file is closed then too, and waits for its repair."""
        try:
            size = seal(self._disk, self._handle, self._index)
        finally:
            self.abandon()
        self.entry = publish(
            self._disk, self._catalogue,
            msgspec.structs.replace(
                self.entry, state="finished", bytes=size, ms=self._index.duration_ms or self._elapsed_ms, finished=wall,
                last=last, wall_offset_ms=wall_offset_ms,
            ),
        )  # fmt: skip
        return self.entry

    @property
    def elapsed_ms(self) -> int:
        return self._index.duration_ms or self._elapsed_ms

    @property
    def empty(self) -> bool:
        return self._elapsed_ms == 0 and self._index.duration_ms == 0

    def abandon(self) -> None:
        """Close the file as it is."""
        self._disk.close(self._handle)

    def discard(self) -> None:
        """Close and remove a file in which nothing is."""
        self.abandon()
        self._disk.remove(self.entry.temporary)
        self._catalogue.forget(self.entry)

    def _set_aside(self, end: int) -> None:
        """Room for all up to ``end``, and behind it for what finishes the file. Raises OSError when there is none."""
        wanted = end + self._index.final_size + SMALL_FILES
        if not self._allocates or wanted <= self._allocated:
            return
        start = max(0, self._allocated)
        try:
            self._allocates = self._disk.allocate(self._handle, start, wanted + STEP - start)
            self._allocated = wanted + STEP
        except OSError as error:
            if not full(error):
                raise
            self._disk.allocate(self._handle, start, wanted - start)
            self._allocated = wanted
