"""What the disk worker does to a volume, one call each: the only place that writes to it. Everything blocks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.errors import Forbidden, NotFound
from appliance.storage.media_root import FILE_MODE, open_file, open_folder

_RENAME_NOREPLACE = 1
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
#: A hanging or slow disk shows after so many bytes.
SLICE = 1 << 20


class Disk:
    """``root`` is the folder of a volume; paths are relative to it. Raises OSError, and Forbidden for links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)

    @contextmanager
    def _folder(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        folder, _, name = path.rpartition("/")
        handle = open_folder(self.root, self.root / folder, create=create)
        try:
            yield handle, name
        finally:
            os.close(handle)

    # Files

    def create(self, path: str) -> int:
        """A new file, locked for this process, its folder synced. Raises FileExistsError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        handle = open_file(self.root, self.root / path, flags, create_folders=True)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.sync_folder(path)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def open(self, path: str) -> int:
        """A file that is there, locked for this process. Raises NotFound, and BlockingIOError when another has it."""
        handle = open_file(self.root, self.root / path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def write(self, handle: int, data: bytes | memoryview, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view[:SLICE], offset)
            offset += written
            view = view[written:]

    def allocate(self, handle: int, offset: int, size: int) -> bool:
        """Have the file system set room aside behind the end; False where it can't. Raises OSError when it is full."""
        fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
        if fallocate is None:
            return False
        keep_size = 1
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        if fallocate(handle, keep_size, offset, size) == 0:
            return True
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        raise OSError(code, os.strerror(code))

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def cut(self, handle: int, size: int) -> None:
        """End the file there, and give back what was set aside behind it."""
        os.ftruncate(handle, size)
        os.fsync(handle)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return os.pread(handle, size, offset)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def close(self, handle: int) -> None:
        os.close(handle)

    # Names

    def publish(self, path: str, target: str) -> None:
        """Give the file ``path`` the name ``target`` and sync the folders. Raises FileExistsError, never overwrites."""
        with self._folder(path) as (old, name), self._folder(target, create=True) as (new, final):
            self._rename(old, name, new, final)
            os.fsync(new)
            os.fsync(old)

    def _rename(self, old: int, name: str, new: int, final: str) -> None:
        if self._renameat2 is not None:
            ctypes.set_errno(0)
            if self._renameat2(old, os.fsencode(name), new, os.fsencode(final), _RENAME_NOREPLACE) == 0:
                return
            code = ctypes.get_errno()
            if code not in _UNSUPPORTED:
                raise OSError(code, os.strerror(code), final)
        try:
            os.stat(final, dir_fd=new, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, final, src_dir_fd=old, dst_dir_fd=new)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final)

    def replace(self, path: str, data: bytes) -> None:
        """A small file whole or not at all, whatever happens meanwhile."""
        with self._folder(path, create=True) as (folder, name):
            draft = f"{name[:200]}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(draft, flags, FILE_MODE, dir_fd=folder)
            try:
                self.write(handle, data, 0)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def remove(self, path: str) -> None:
        """What is not there is removed already."""
        with suppress(FileNotFoundError, NotFound), self._folder(path) as (folder, name):
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def sync_folder(self, path: str) -> None:
        with self._folder(path) as (folder, _):
            os.fsync(folder)

    def load(self, path: str, limit: int = 16 << 20) -> bytes | None:
        """A small file, None when it is not there."""
        try:
            handle = open_file(self.root, self.root / path, os.O_RDONLY)
        except (NotFound, FileNotFoundError):
            return None
        with os.fdopen(handle, "rb") as file:
            return file.read(limit)

    def exists(self, path: str) -> bool:
        try:
            with self._folder(path) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotFound, Forbidden):
            return False
        return True

    def names(self, folder: str) -> list[str]:
        """The names in ``folder``; none when it is not there."""
        try:
            handle = open_folder(self.root, self.root / folder)
        except NotFound:
            return []
        try:
            return os.listdir(handle)
        finally:
            os.close(handle)

    def space(self) -> tuple[int, int]:
        """(free, all) bytes of the volume."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


_libc = ctypes.CDLL(None, use_errno=True)
