"""Small files below the media root, written and read in threads with a deadline: a disk that hangs holds up nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import trio

from appliance.errors import NameTaken, NotFound, Unavailable
from appliance.storage.media_root import open_file, open_folder, resolve

#: Seconds that one operation may take.
DEADLINE = 10.0
#: So many operations are under way at once; with a hung disk that many threads hang, and no more.
THREADS = 4

T = TypeVar("T")


class MediaFiles:
    """Paths are resolved ones (``resolve``). Raises Unavailable with the reason when the disk says no or nothing."""

    def __init__(self, root: Path, short: Callable[[], str] = lambda: "") -> None:
        """``short`` says why nothing large may be written now, "" when it may."""
        self.root = root
        self._short = short
        self._limiter: trio.CapacityLimiter | None = None

    def resolve(self, path: str) -> Path:
        """A path from outside as a place below the root. Raises BadRequest."""
        return resolve(self.root, path)

    async def write(self, path: Path, buffers: Sequence[bytes]) -> None:
        """The whole file, folders included; what was there is gone. Raises Unavailable when the disk is short of room
        too: what is left is for recordings."""
        if reason := self._short():
            raise Unavailable(f"the disk is {reason}, which is for recordings")
        await self._do(path, lambda: self._write(path, os.O_CREAT | os.O_TRUNC, 0, buffers))

    async def create(self, path: Path, data: bytes) -> None:
        """A file that is not there yet. Raises NameTaken when it is."""
        await self._do(path, lambda: self._write(path, os.O_CREAT | os.O_EXCL, 0, [data]))

    async def patch(self, path: Path, *pieces: tuple[int, bytes]) -> None:
        """Put each piece at its offset of a file that is there."""

        def patch() -> None:
            for offset, data in pieces:
                self._write(path, 0, offset, [data])

        await self._do(path, patch)

    async def read(self, path: Path) -> bytes:
        """Raises NotFound."""

        def read() -> bytes:
            with os.fdopen(open_file(self.root, path, os.O_RDONLY), "rb") as file:
                return file.read()

        return await self._do(path, read)

    async def exists(self, path: Path) -> bool:
        def exists() -> bool:
            try:
                folder = open_folder(self.root, path.parent)
            except NotFound:
                return False
            try:
                os.stat(path.name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return False
            finally:
                os.close(folder)
            return True

        return await self._do(path, exists)

    async def remove(self, *paths: Path) -> None:
        """What is not there is removed already."""

        def remove() -> None:
            for path in paths:
                with suppress(FileNotFoundError, NotFound):
                    folder = open_folder(self.root, path.parent)
                    try:
                        os.unlink(path.name, dir_fd=folder)
                    finally:
                        os.close(folder)

        if paths:
            await self._do(paths[0], remove)

    async def clear(self, folder: Path) -> None:
        """Remove the files of a folder, and the folder itself when nothing else is in it."""

        def clear() -> None:
            with suppress(FileNotFoundError, NotFound):
                handle = open_folder(self.root, folder)
                try:
                    for name in os.listdir(handle):
                        with suppress(IsADirectoryError, PermissionError):
                            os.unlink(name, dir_fd=handle)
                finally:
                    os.close(handle)
                with suppress(OSError):
                    folder.rmdir()

        await self._do(folder, clear)

    def _write(self, path: Path, flags: int, offset: int, buffers: Sequence[bytes]) -> None:
        handle = open_file(self.root, path, os.O_WRONLY | flags, create_folders=bool(flags))
        try:
            for buffer in buffers:
                view = memoryview(buffer)
                while view:
                    written = os.pwrite(handle, view, offset)
                    offset += written
                    view = view[written:]
            os.fdatasync(handle)
        finally:
            os.close(handle)

    async def _do(self, path: Path, act: Callable[[], T]) -> T:
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(THREADS)
        try:
            with trio.fail_after(DEADLINE):
                return await trio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            raise Unavailable(f"{path}: the disk gave no answer within {DEADLINE:g} s") from None
        except FileExistsError:
            raise NameTaken(f"{path} exists already") from None
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror or error}") from error
