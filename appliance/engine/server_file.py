"""The Server.xml that the box runs with: read at the start, rewritten whole or not at all."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from appliance.errors import Forbidden, KilnError
from appliance.settings.schema import Raw
from appliance.settings.store import StorageFull

NAME = "Server.xml"
"""In the state folder: the box's own settings, where it runs without a file of the user's."""


class ServerFile:
    """``data`` is what is in force, ``raw`` what it says. ``path`` is where a change is written: the file itself, or
    one in the state folder when ``data`` is the built-in default. ``declared``: its virtual hosts are in force too."""

    def __init__(self, path: Path, data: bytes, raw: Raw, *, declared: bool) -> None:
        self.path = Path(os.path.realpath(path))
        self.data = data
        self.raw = raw
        self.declared = declared

    @property
    def folder(self) -> Path:
        return self.path.parent

    def check_unchanged(self) -> None:
        """Raises Changed when somebody else has written the file since it was read."""
        found = read(self.path)
        if found is not None and found != self.data:
            raise Changed(f"{self.path} was changed by somebody else since it was read: restart Kiln, or put it back")

    def check_writable(self) -> None:
        """Raises Forbidden."""
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise Forbidden(f"{self.path} can't be written: it is read-only. Nothing was changed")
        if not os.access(self.folder, os.W_OK) or _is_mount(self.path):
            raise Forbidden(f"{self.path} can't be replaced: {self.folder} is read-only. Nothing was changed")


class Changed(KilnError):
    """The file is not what it was."""

    status = 409


def read(path: Path) -> bytes | None:
    """None where there is no such file, or it can't be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def write(path: Path, data: bytes | None) -> None:
    """Replace the file, durably; None takes it away. What it held before is beside it as ``.bak``.

    Raises Forbidden or StorageFull, and then nothing has changed.
    """
    try:
        if data is None:
            path.unlink(missing_ok=True)
        else:
            _replace(path, data)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise StorageFull(f"There is no room to write {path}. Nothing was changed") from error
        raise Forbidden(f"{path} can't be written: {error.strerror}. Nothing was changed") from error


def _replace(path: Path, data: bytes) -> None:
    mode = 0o600
    before = read(path)
    if before is not None:
        mode = stat.S_IMODE(path.stat().st_mode)
        _write_new(path.with_name(f"{path.name}.bak"), before, mode)
    new = path.with_name(f"{path.name}.new")
    try:
        _write_new(new, data, mode)
        if before is not None:
            with suppress(PermissionError):
                status = path.stat()
                os.chown(new, status.st_uid, status.st_gid)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _write_new(path: Path, data: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(opened, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _is_mount(path: Path) -> bool:
    """A file that is mounted by itself (into a container) can't be replaced."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except OSError:
        return False
