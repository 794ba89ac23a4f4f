"""``/box/v1/events``: what happens on the box, as server-sent events."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.access.roles import Role
from appliance.api.box.query import PRIVATE
from appliance.api.envelope import Answer, Headers, Write
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.watch import Feed

EVENT_STREAM = b"text/event-stream"
#: Nobody in between may keep what was meant for now.
LIVE: Headers = [*PRIVATE, (b"x-accel-buffering", b"no")]


class Events:
    """One feed for all who follow it."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/events", self.follow, Role.VIEWER)

    async def follow(self, request: Request) -> Answer:
        """A snapshot of everything, then what changes, as merge patches of it; ``Last-Event-ID`` goes on from there."""
        last_id = request.header(b"last-event-id").decode("latin-1")
        if request.method != "HEAD":
            await self._feed.ready()

        async def events(write: Write) -> None:
            await self._feed.follow(write, last_id)

        return Answer(200, b"", LIVE, EVENT_STREAM, events)
