"""The media root: the one folder that paths from the API may lead into.

`resolve` is pure text and touches no disk, so that the engine may call it while the disk hangs. What lies on the disk
is judged where files are opened: `open_folder` and `open_file` walk from the root with O_NOFOLLOW, one folder
descriptor after the other, so that no link leads out, whoever changes folders meanwhile. They block: call them in a
worker process or in a thread with a deadline.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from appliance.errors import BadRequest, Forbidden, NotFound

#: Bytes of one name, as file systems allow, and of a whole path.
NAME_BYTES = 255
PATH_BYTES = 4095
#: Where Kiln keeps what it knows of the recordings.
OWN_FOLDER = ".kiln"
FOLDER_MODE = 0o750
FILE_MODE = 0o640
_UNSAFE_IN_NAME = re.compile(r"[^\w.,=@+ -]")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def resolve(root: Path, path: str) -> Path:
    """``path`` as a place below ``root``: an absolute one is re-rooted, one that is below ``root`` already stays.

    Raises BadRequest for ``..``, Kiln's own folder, control characters, names over 255 bytes, a path over 4095 bytes,
    one that can't be written in UTF-8 and one that names nothing.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise BadRequest("A path may not hold control characters")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise BadRequest("A path must be UTF-8") from None
    base = Path(os.path.abspath(root))
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadRequest(f"A path may not hold '..': {path}")
    if path.startswith("/") and tuple(parts[: len(base.parts) - 1]) == base.parts[1:]:
        parts = parts[len(base.parts) - 1 :]
    if not parts:
        raise BadRequest(f"The path names no file: '{path}'")
    if parts[0] == OWN_FOLDER:
        raise BadRequest(f"{OWN_FOLDER} is Kiln's own")
    if any(len(part.encode()) > NAME_BYTES for part in parts):
        raise BadRequest(f"A name in the path is over {NAME_BYTES} bytes long")
    resolved = base.joinpath(*parts)
    if len(os.fsencode(resolved)) > PATH_BYTES:
        raise BadRequest(f"The path is over {PATH_BYTES} bytes long")
    return resolved


def macro_value(value: str) -> str:
    """``value`` as it may stand for a macro inside a name: what could change the path becomes ``_``."""
    value = _UNSAFE_IN_NAME.sub("_", value)
    return "_" + value[1:] if value.startswith(".") else value


def parts_below(root: Path, path: Path) -> tuple[str, ...]:
    """The names from ``root`` to ``path``. Raises BadRequest when it is not below, or not `resolve`d."""
    try:
        parts = path.relative_to(os.path.abspath(root)).parts
    except ValueError:
        raise BadRequest(f"{path} is outside the media root") from None
    if ".." in parts:
        raise BadRequest(f"A path may not hold '..': {path}")
    return parts


def open_folder(root: Path, folder: Path, *, create: bool = False) -> int:
    """A descriptor of ``folder``, which is ``root`` or below; the caller closes it. Blocks.

    ``create`` makes what is missing and syncs the folder that got it. Raises Forbidden when a link or a file stands
    in the way, NotFound when it is not there, OSError for what the disk says.
    """
    parts = parts_below(root, folder)
    if create:
        os.makedirs(root, mode=FOLDER_MODE, exist_ok=True)
    # The root itself may be a link: the operator's choice, no path from outside reaches it.
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"{root} is not there") from None
    try:
        for part in parts:
            inner = _step(handle, part, create, folder)
            os.close(handle)
            handle = inner
    except BaseException:
        os.close(handle)
        raise
    return handle


def _step(handle: int, part: str, create: bool, folder: Path) -> int:
    if create:
        with suppress(FileExistsError):
            os.mkdir(part, FOLDER_MODE, dir_fd=handle)
            os.fsync(handle)
    try:
        return os.open(part, _FOLDER_FLAGS, dir_fd=handle)
    except FileNotFoundError:
        raise NotFound(f"{folder} is not there") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Forbidden(f"{part} in {folder} is a link or no folder") from None
        raise


def open_file(root: Path, path: Path, flags: int, *, create_folders: bool = False, mode: int = FILE_MODE) -> int:
    """A descriptor of the file ``path`` below ``root`` with ``flags`` of `os.open`; the caller closes it. Blocks.

    Raises Forbidden when a link stands in the way or at the end, NotFound when it is not there, OSError for the rest.
    """
    folder = open_folder(root, path.parent, create=create_folders)
    try:
        # Without O_NONBLOCK the open of a pipe that somebody put there would wait for its other end.
        return os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=folder)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Forbidden(f"{path} is a link") from None
        raise
    finally:
        os.close(folder)
