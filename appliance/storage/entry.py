"""What is known about one recorded file, from before its first byte until it is deleted."""

from __future__ import annotations

import re
import time
from typing import Literal

import msgspec

from appliance.storage.media_root import NAME_BYTES

#: Where the entries lie, below the root of their volume.
FOLDER = ".kiln/recordings"
_END_TIME = re.compile(r"\$\{EndTime:([^}]*)\}")
_TOKENS = re.compile("YYYY|MM|DD|hh|mm|ss")
_STRFTIME = {"YYYY": "%Y", "MM": "%m", "DD": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}


class Entry(msgspec.Struct, kw_only=True):
    """One file. Paths are relative to the root of the volume, times nanoseconds since 1970 (0: not yet).

    ``temporary`` holds the data until the file is whole; ``target`` is its name then, in which only ``${EndTime:…}``
    may still stand for something; ``path`` that name once it is known. ``root_path`` is the part of it that the API
    leaves out. ``bytes`` and ``ms`` are the size and the duration; ``wall_offset_ms`` is by how much the wall clock was
    set forward (or back, below zero) meanwhile. ``lost_bytes`` were cut off by a repair.
    """

    id: str
    temporary: str
    target: str
    container: Literal["mp4", "ts", "mkv"]
    root_path: str = ""
    info: str = ""
    vhost: str = ""
    app: str = ""
    stream: str = ""
    task: str = ""
    transaction: str = ""
    metadata: str = ""
    sequence: int = 0
    last: bool = False
    created: int = 0
    started: int = 0
    finished: int = 0
    state: Literal["recording", "finishing", "finished", "recovered"] = "recording"
    path: str = ""
    bytes: int = 0
    ms: int = 0
    wall_offset_ms: int = 0
    lost_bytes: int = 0
    keep: bool = False

    @property
    def whole(self) -> bool:
        """The file stands under its final name."""
        return self.state in ("finished", "recovered")

    @property
    def shown_path(self) -> str:
        """``path`` without ``root_path``."""
        path = self.path or self.target
        return path[len(self.root_path) :].lstrip("/") if self.root_path else path


def local_time(wall: int, pattern: str) -> str:
    """``wall`` (ns since 1970) in local time as ``pattern`` with the tokens YYYY MM DD hh mm ss says."""
    moment = time.localtime(wall // 1_000_000_000)
    return _TOKENS.sub(lambda match: time.strftime(_STRFTIME[match.group()], moment), pattern)


def with_end_time(target: str, wall: int) -> str:
    return _END_TIME.sub(lambda match: local_time(wall, match.group(1)).replace("/", "_"), target)


def numbered(path: str, number: int) -> str:
    """``path`` for the ``number``-th try to find a free name: ``a/b.mp4``, ``a/b_1.mp4``, ``a/b_2.mp4`` …"""
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    suffix = (f"_{number}" if number else "") + dot + extension
    room = NAME_BYTES - len(suffix.encode())
    return folder + slash + stem.encode()[:room].decode(errors="ignore") + suffix
