"""The last steps of a recording, the same whether it ended or a crash ended it. Blocks.

Each step is on the disk before the next begins, so that whatever comes between them leaves a file that the same steps
make whole: tail, sync, patches, sync, entry with the final name, rename, sync of the folders, info file, entry.
"""

from __future__ import annotations

import contextlib
import errno

import msgspec

from appliance.errors import KilnError
from appliance.storage import info_file
from appliance.storage.catalogue import Catalogue
from appliance.storage.containers import Index, recover
from appliance.storage.disk import Disk
from appliance.storage.entry import Entry, numbered, with_end_time

#: So many files of one name: somebody's mistake, but no reason to lose the next one.
_MOST_NAMES = 100_000


def seal(disk: Disk, handle: int, index: Index) -> int:
    """Make a plain file of what `index` knows; returns its size. Raises OSError, and nothing is lost then."""
    tail = index.tail()
    disk.write(handle, tail, index.end)
    size = index.end + len(tail)
    disk.cut(handle, size)
    patches = index.patches()
    for offset, data in patches:
        disk.write(handle, data, offset)
    if patches:
        disk.sync(handle)
    return size


def publish(disk: Disk, catalogue: Catalogue, entry: Entry) -> Entry:
    """Give a sealed file its final name, its line in the info file, and the entry its last state.

    ``entry.finished``, ``bytes``, ``ms`` and the rest are set by the caller. Raises OSError and KilnError."""
    state = entry.state
    target = with_end_time(entry.target, entry.finished)
    number = 0
    while True:
        path = numbered(target, number)
        number += 1
        # In doubt the name is taken: an old file is never written over.
        if disk.exists(path) and number < _MOST_NAMES:
            continue
        entry = msgspec.structs.replace(entry, path=path, state="finishing")
        catalogue.save(entry)
        try:
            disk.publish(entry.temporary, path)
        except FileExistsError:
            if number >= _MOST_NAMES:
                raise
            continue
        break
    return complete(disk, catalogue, msgspec.structs.replace(entry, state=state))


def complete(disk: Disk, catalogue: Catalogue, entry: Entry) -> Entry:
    """The file stands under its final name: tell of it. ``entry.state`` is the last one."""
    if entry.info:
        # The recording is safe; a folder in the way of its description must not undo that.
        with contextlib.suppress(KilnError):
            info_file.append(disk, entry)
    catalogue.save(entry)
    return entry


class Nothing(Exception):
    """Nothing of the file can be saved: it holds no whole fragment."""


def mend(disk: Disk, catalogue: Catalogue, entry: Entry) -> Entry:
    """Make whole what a crash left. Raises BlockingIOError while another process still writes it, `Nothing`, OSError,
    KilnError."""
    if not disk.exists(entry.temporary):
        if entry.path and disk.exists(entry.path):
            return complete(disk, catalogue, msgspec.structs.replace(entry, state="recovered"))
        raise Nothing("its file is gone")
    handle = disk.open(entry.temporary)
    try:
        size = disk.size(handle)
        index, sealed = recover(entry.container, lambda offset, length: disk.read(handle, offset, length), size)
        ms = entry.ms
        lost = 0
        if index is not None:
            lost = max(0, size - index.end)
            ms = index.duration_ms or ms
            sealed = seal(disk, handle, index)
        elif sealed:
            if sealed < size:
                disk.cut(handle, sealed)
        else:
            raise Nothing(f"it holds no whole fragment ({size} bytes)")
    finally:
        disk.close(handle)
    finished = entry.finished or entry.started + ms * 1_000_000
    return publish(
        disk, catalogue,
        msgspec.structs.replace(entry, state="recovered", bytes=sealed, ms=ms, lost_bytes=lost, finished=finished),
    )  # fmt: skip


def full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
