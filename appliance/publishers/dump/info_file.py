"""The info file of a dump: what has been written so far. It grows in place: only state and end are rewritten."""

from __future__ import annotations

from datetime import datetime
from html import escape
from pathlib import Path

from appliance.errors import NotFound
from appliance.publishers.media_files import MediaFiles

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<HLSDumpInfo>\n'
_TAIL = "  </Items>\n</HLSDumpInfo>\n"
_LONGEST_STATUS = len("Completed")


class InfoFile:
    """``stream`` is ``/vhost/app/stream``. Nothing is written where ``path`` is None."""

    def __init__(self, files: MediaFiles, path: Path | None, stream: str, user_data: str) -> None:
        self._files = files
        self._path = path
        user_data, stream = escape(user_data, quote=False), escape(stream, quote=False)
        head = f"{_HEAD}  <UserData>{user_data}</UserData>\n  <Stream>{stream}</Stream>\n"
        self._status_at = len(head.encode())
        self._head = head
        self._end = 0
        self._items = 0

    async def create(self) -> None:
        """Raises NameTaken when the file is there already, and Unavailable."""
        if self._path is None:
            return
        text = f"{self._head}{_status('Running')}  <Items>\n"
        self._end = len(text.encode())
        await self._files.create(self._path, (text + _TAIL).encode())

    async def close_earlier(self) -> None:
        """One that a crash left ends with ``Error``. Raises Unavailable."""
        if self._path is None:
            return
        try:
            at = (await self._files.read(self._path)).find(_status("Running").encode())
        except NotFound:
            return
        if at >= 0:
            await self._files.patch(self._path, (at, _status("Error").encode()))

    async def add(self, *paths: Path) -> None:
        """Files that have just been written."""
        if self._path is None:
            return
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        text = ""
        for path in paths:
            text += (
                f"    <Item>\n      <Seq>{self._items}</Seq>\n      <Time>{now}</Time>\n"
                f"      <File>{escape(str(path), quote=False)}</File>\n    </Item>\n"
            )
            self._items += 1
        data = text.encode()
        await self._files.patch(self._path, (self._end, data + _TAIL.encode()))
        self._end += len(data)

    async def say(self, status: str) -> None:
        """``Completed`` or ``Error``."""
        if self._path is not None:
            await self._files.patch(self._path, (self._status_at, _status(status).encode()))


def _status(status: str) -> str:
    """A line of the same length for each status."""
    return f"  <Status>{status}</Status>{' ' * (_LONGEST_STATUS - len(status))}\n"
