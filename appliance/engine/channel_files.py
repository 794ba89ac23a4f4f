"""The files of channels: small ones in folders of the media root, written whole or not at all. All of it blocks."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import NotFound
from appliance.storage.media_root import FILE_MODE, open_folder

#: Bytes of one file, and files of one folder.
LARGEST = 4 * 1024 * 1024
MOST_FILES = 2000

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """``data`` None: it is as it was. ``fault``: why it can't be read."""

    signature: Signature
    data: bytes | None = None
    fault: str = ""


def scan(root: Path, folder: Path, extension: str, known: dict[str, Signature]) -> dict[str, FoundFile]:
    """The files of ``folder`` by name without extension, with what is in those whose signature is not ``known``.

    Raises Forbidden (a link in the way) and OSError.
    """
    try:
        handle = open_folder(root, folder)
    except NotFound:
        return {}
    try:
        names = [name for name in os.listdir(handle) if name.endswith(extension) and not name.startswith(".")]
        return {
            name.removesuffix(extension): _look(handle, name, known.get(name.removesuffix(extension)))
            for name in sorted(names)[:MOST_FILES]
        }
    finally:
        os.close(handle)


def _look(folder: int, name: str, known: Signature | None) -> FoundFile:
    signature: Signature = (0, 0, 0)
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        signature = (found.st_mtime_ns, found.st_size, found.st_ino)
        if signature == known:
            return FoundFile(signature)
        if not stat.S_ISREG(found.st_mode):
            return FoundFile(signature, fault="it is no file")
        if found.st_size > LARGEST:
            return FoundFile(signature, fault=f"it has more than {LARGEST} bytes")
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        with os.fdopen(handle, "rb") as file:
            return FoundFile(signature, file.read(LARGEST))
    except OSError as error:
        return FoundFile(signature, fault=error.strerror or str(error))


def write(root: Path, folder: Path, name: str, data: bytes) -> Signature:
    """``data`` as the file ``name``, in place of what was there, on the disk. Raises Forbidden, OSError."""
    handle = open_folder(root, folder, create=True)
    beside = f".{name}.new"
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE,
                       dir_fd=handle)  # fmt: skip
        try:
            with os.fdopen(file, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            os.replace(beside, name, src_dir_fd=handle, dst_dir_fd=handle)
            os.fsync(handle)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=handle)
            raise
        found = os.stat(name, dir_fd=handle, follow_symlinks=False)
        return found.st_mtime_ns, found.st_size, found.st_ino
    finally:
        os.close(handle)


def remove(root: Path, folder: Path, name: str) -> None:
    """Raises Forbidden, OSError; a file that is not there is fine."""
    try:
        handle = open_folder(root, folder)
    except NotFound:
        return
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=handle)
        os.fsync(handle)
    finally:
        os.close(handle)

