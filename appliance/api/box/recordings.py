"""``/box/v1/recordings``: the recorded files: found, fetched, kept, deleted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import trio

from appliance.access.roles import Role
from appliance.api.box.query import PRIVATE, known, one_of
from appliance.api.contracts import ANY, Contract, array
from appliance.api.envelope import Answer, Headers, Write, encode, success
from appliance.api.ome.stream_resource import api_time
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.errors import BadRequest, KilnError, NotFound, Unavailable
from appliance.storage.client import DiskClient
from appliance.storage.entry import Entry
from appliance.storage.media_root import open_file

QUERY = ("app", "state", "stream", "vhost")
STATES = ("any", "recording", "finished", "recovered")
PIECE = 256 * 1024
#: A disk that gives nothing for so long is given up on.
READ_SECONDS = 5.0
TYPES = {"mp4": b"video/mp4", "ts": b"video/mp2t", "mkv": b"video/x-matroska"}
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
#: Downloads at once: each may hold a thread while the disk is slow.
MOST_DOWNLOADS = 8


class Recordings:
    def __init__(self, disk: DiskClient) -> None:
        self._disk = disk
        self._downloads = 0

    def routes(self) -> Iterator[Route]:
        path = "/box/v1/recordings"
        one = Contract(response=ANY, statuses=(404, 503))
        whole = Contract(raw="application/octet-stream", statuses=(206, 404, 416, 503))
        listed = Contract(
            response=array(ANY), statuses=(503,),
            query={"vhost": "only of this virtual host", "app": "only of this application",
                   "stream": "only of this stream", "state": "any, recording, finished or recovered"},
        )  # fmt: skip
        yield Route("GET", path, self.find, Role.VIEWER, listed)
        yield Route("GET", f"{path}/{{s}}", self.read, Role.VIEWER, one)
        yield Route("GET", f"{path}/{{s}}/file", self.fetch, Role.OPERATOR, whole)
        yield Route("POST", f"{path}/{{a}}:keep", self.keep, Role.OPERATOR, one)
        yield Route("POST", f"{path}/{{a}}:unkeep", self.unkeep, Role.OPERATOR, one)
        yield Route("DELETE", f"{path}/{{s}}", self.delete, Role.ADMIN, one)

    async def find(self, request: Request) -> Answer:
        """Newest first."""
        query = known(request, QUERY)
        state = one_of(query, "state", "any", STATES)
        found = [
            entry for entry in await self._disk.entries()
            if all(query.get(name, getattr(entry, name)) == getattr(entry, name) for name in ("vhost", "app", "stream"))
            and state in ("any", _state(entry))
        ]  # fmt: skip
        found.sort(key=lambda entry: (entry.started, entry.id), reverse=True)
        return success([shown(entry) for entry in found])

    async def read(self, request: Request, id: str) -> Answer:
        return success(shown(await self._one(id)))

    async def keep(self, request: Request, id: str) -> Answer:
        """Retention leaves it alone from now on."""
        return success(shown(await self._disk.keep(id, True)))

    async def unkeep(self, request: Request, id: str) -> Answer:
        return success(shown(await self._disk.keep(id, False)))

    async def delete(self, request: Request, id: str) -> Answer:
        """The file is gone when this is answered."""
        return success(shown(await self._disk.delete(id)))

    async def _one(self, id: str) -> Entry:
        found = await self._disk.entries(id)
        if not id or not found:
            raise NotFound(f"There is no recording {id[:64]}")
        return found[0]

    # The file itself

    async def fetch(self, request: Request, id: str) -> Answer:
        """The whole file, or the one range that the client asks for (RFC 9110, 14)."""
        entry = await self._one(id)
        if not entry.whole:
            raise BadRequest("It is still recorded, or waits for its repair")
        if self._downloads >= MOST_DOWNLOADS:
            raise Unavailable(f"There are {MOST_DOWNLOADS} downloads already")
        size = await _in_thread(_size, self._disk, entry)
        try:
            span = _asked_range(request.header(b"range"), size)
        except _Unsatisfiable:
            message = encode("[HTTP] The range is not in the file (416)")
            return Answer(416, b'{"message":%b,"statusCode":416}' % message, [(b"content-range", b"bytes */%d" % size)])
        start, end = span or (0, size)
        name = entry.path.rpartition("/")[2]
        headers: Headers = [
            *PRIVATE, (b"accept-ranges", b"bytes"), (b"content-length", b"%d" % (end - start)),
            (b"content-disposition", b"attachment; filename*=UTF-8''" + quote(name, safe="").encode()),
        ]  # fmt: skip
        if span:
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)))

        async def send(write: Write) -> None:
            await self._send(write, entry, start, end)

        return Answer(206 if span else 200, b"", headers, TYPES[entry.container], send)

    async def _send(self, write: Write, entry: Entry, at: int, end: int) -> None:
        self._downloads += 1
        handle = -1
        busy = False
        try:
            handle = await _in_thread(_open, self._disk, entry)
            while at < end:
                busy = True
                piece = await _in_thread(os.pread, handle, min(PIECE, end - at), at)
                busy = False
                if not piece:
                    raise Unavailable("the file is shorter than it was")
                await write(piece)
                at += len(piece)
        finally:
            self._downloads -= 1
            # A thread that the disk still holds reads from it: the number must not be given to another file.
            if handle >= 0 and not busy:
                os.close(handle)


def shown(entry: Entry) -> dict[str, Any]:
    """As the API has it; times that are not there yet are left out."""
    told: dict[str, Any] = {
        "app": entry.app, "bytes": entry.bytes, "container": entry.container, "id": entry.id, "keep": entry.keep,
        "path": entry.path or entry.target, "sequence": entry.sequence, "state": _state(entry), "stream": entry.stream,
        "task": entry.task, "timeMs": entry.ms, "transactionId": entry.transaction, "vhost": entry.vhost,
        "startTime": api_time(entry.started),
    }  # fmt: skip
    if entry.finished:
        told["finishTime"] = api_time(entry.finished)
    if entry.metadata:
        told["metadata"] = entry.metadata
    if entry.wall_offset_ms:
        told["wallOffsetMs"] = entry.wall_offset_ms
    if entry.state == "recovered":
        told["lostBytes"] = entry.lost_bytes
    return told


def _state(entry: Entry) -> str:
    return entry.state if entry.whole else "recording"


class _Unsatisfiable(KilnError):
    status = 416


def _asked_range(header: bytes, size: int) -> tuple[int, int] | None:
    """(start, end) of the one range that is asked for; None: all of it, also for what isn't understood."""
    match = _RANGE.fullmatch(header.decode("latin-1").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        last = int(match[2])
        if not last or not size:
            raise _Unsatisfiable("nothing is asked for")
        return max(0, size - last), size
    start = int(match[1])
    end = min(size, int(match[2]) + 1) if match[2] else size
    if start >= size:
        raise _Unsatisfiable("behind the end of the file")
    return (start, end) if start < end else None


def _open(disk: DiskClient, entry: Entry) -> int:
    return open_file(disk.root, disk.root / entry.path, os.O_RDONLY)


def _size(disk: DiskClient, entry: Entry) -> int:
    handle = _open(disk, entry)
    try:
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


async def _in_thread(act: Any, *arguments: Any) -> Any:
    """A blocking call on the disk, with a deadline. Raises Unavailable."""
    with trio.move_on_after(READ_SECONDS):
        try:
            return await trio.to_thread.run_sync(act, *arguments, abandon_on_cancel=True)
        except OSError as error:
            raise Unavailable(f"the disk: {error.strerror}") from None
    raise Unavailable("the disk does not answer")
