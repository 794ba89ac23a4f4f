"""``/box/v1/logs``: what the engine has said of late, to be filtered and followed."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from appliance.access.roles import Role
from appliance.api.box.events import EVENT_STREAM, LIVE
from appliance.api.box.query import flag, known, moment, number, one_of
from appliance.api.envelope import Answer, Write, success
from appliance.api.ome.stream_resource import api_time
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.errors import Unavailable
from appliance.logs import LogLine, LogRing

QUERY = ("follow", "level", "lines", "part", "since", "stream")
LEVELS = ("debug", "info", "warning", "error", "critical")
MOST_LINES = 1000
MOST_FOLLOWERS = 32
KEEP_ALIVE = 15.0
#: Lines that a follower gets at a time; others run in between.
BATCH = 200

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Filter:
    """``level`` is the least, ``part`` a logger without its ``kiln.`` and all below it, ``stream`` a whole stream id
    (``vhost/app/name``) or its last part; "" lets all pass. ``since`` is seconds since 1970."""

    level: int
    part: str
    stream: str
    since: float

    def passes(self, line: LogLine) -> bool:
        if line.level < self.level or line.time < self.since:
            return False
        if self.part and not f"{line.logger.removeprefix('kiln.')}.".startswith(f"{self.part}."):
            return False
        return not self.stream or line.stream == self.stream or line.stream.endswith(f"/{self.stream}")


class Logs:
    """Reads ``ring``; a line is made an event once, for all who follow."""

    def __init__(self, ring: LogRing) -> None:
        self._ring = ring
        self._life = secrets.token_hex(4)
        self._said = trio.Event()
        self._followers = 0

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/logs", self.read, Role.OPERATOR)

    async def read(self, request: Request) -> Answer:
        """The last lines, oldest first; with ``follow=yes`` as server-sent events, and each new one as it comes."""
        query = known(request, QUERY)
        level = one_of(query, "level", "debug", LEVELS)
        wanted = Filter(
            logging.getLevelNamesMapping()[level.upper()], query.get("part", "").removeprefix("kiln."),
            query.get("stream", ""), moment(query, "since"),
        )  # fmt: skip
        lines = number(query, "lines", 200, 0, MOST_LINES)
        if not flag(query, "follow"):
            return success([self._shown(line) for line in self._last(wanted, lines)])
        if self._followers >= MOST_FOLLOWERS:
            raise Unavailable(f"There are {MOST_FOLLOWERS} followers of the logs already")
        last_id = request.header(b"last-event-id").decode("latin-1")

        async def follow(write: Write) -> None:
            await self._follow(write, wanted, lines, last_id)

        return Answer(200, b"", LIVE, EVENT_STREAM, follow)

    def _last(self, wanted: Filter, lines: int) -> list[LogLine]:
        found = [line for line in self._ring.after(0) if wanted.passes(line)]
        return found[len(found) - lines :] if lines < len(found) else found

    async def _follow(self, write: Write, wanted: Filter, lines: int, last_id: str) -> None:
        self._listen(+1)
        try:
            first: list[LogLine] = []
            seen = self._seen(last_id)
            if seen is None:
                seen = self._ring.last
                first = [line for line in self._last(wanted, lines) if line.number <= seen]
            await write(b"retry: 1000\n\n" + self._events(first))
            while True:
                fresh = self._ring.after(seen, BATCH)
                if fresh:
                    lost = fresh[0].number - seen - 1
                    seen = fresh[-1].number
                    chosen = [line for line in fresh if wanted.passes(line)]
                    gap = b"event: lost\ndata: %d\n\n" % lost if lost else b""
                    if chosen or gap:
                        await write(gap + self._events(chosen))
                    await trio.lowlevel.checkpoint()
                    continue
                with trio.move_on_after(KEEP_ALIVE) as waited:
                    await self._said.wait()
                if waited.cancelled_caught:
                    await write(b": still here\n\n")
        finally:
            self._listen(-1)

    def _listen(self, change: int) -> None:
        """Lines wake the loop only while somebody follows."""
        self._followers += change
        token = trio.lowlevel.current_trio_token()
        self._ring.on_line = (
            (lambda: token.run_sync_soon(self._wake, idempotent=True)) if self._followers else None
        )

    def _wake(self) -> None:
        self._said.set()
        self._said = trio.Event()

    def _seen(self, last_id: str) -> int | None:
        life, _, seen = last_id.partition("-")
        if life != self._life or not seen.isdecimal() or len(seen) > 18 or int(seen) > self._ring.last:
            return None
        return int(seen)

    def _events(self, lines: Iterable[LogLine]) -> bytes:
        return b"".join([line.event or self._made(line) for line in lines])

    def _made(self, line: LogLine) -> bytes:
        line.event = b"id: %b-%d\nevent: log\ndata: %b\n\n" % (
            self._life.encode(), line.number, _encode(self._shown(line)),
        )  # fmt: skip
        return line.event

    @staticmethod
    def _shown(line: LogLine) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": line.number, "level": logging.getLevelName(line.level).lower(), "logger": line.logger,
            "text": line.text, "time": api_time(int(line.time * 1e9)),
        }  # fmt: skip
        if line.stream:
            told["stream"] = line.stream
        return told
