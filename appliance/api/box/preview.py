"""``/box/v1/vhosts/{v}/apps/{a}/streams/{s}/preview``: what an input stream shows, as a small picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from appliance.access.roles import Role
from appliance.api.box.query import PRIVATE, known, one_of, size
from appliance.api.envelope import Answer
from appliance.api.ome.lookup import find_input
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.api.view import EngineView
from appliance.errors import NotFound, Unavailable
from appliance.transcoder.preview import PictureFormat, Previews, best_source

MOST_PIXELS = 1920
TYPES = {"jpeg": b"image/jpeg", "rgb": b"application/octet-stream"}


class Preview:
    """Of a raw input the picture of an output stream is shown: only a worker holds its own. ``shed`` says why none is
    made just now."""

    def __init__(self, engine: EngineView, previews: Previews, shed: Callable[[], str] = lambda: "") -> None:
        self._shed = shed
        self._engine = engine
        self._previews = previews

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/vhosts/{v}/apps/{a}/streams/{s}/preview", self.preview, Role.VIEWER)

    async def preview(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        """The last key frame as a JPEG, or with ``format=rgb`` as rows of RGB triples from the top left."""
        query = known(request, ("format", "size"))
        width, height = size(query, "size", "320x180", MOST_PIXELS)
        format = cast("PictureFormat", one_of(query, "format", "jpeg", tuple(TYPES)))
        found = find_input(self._engine, vhost, app, stream)
        if reason := self._shed():
            raise Unavailable(f"No preview just now: {reason}")
        streams = [] if found.stream.raw else [found.stream]
        if not streams and found.outputs is not None:
            streams = [each.output.stream for each in found.outputs.by_name.values() if each.output is not None]
        source = best_source(streams, width)
        if source is None:
            raise NotFound(f"No preview: the stream has no picture that can be decoded: [{vhost}/{app}/{stream}]")
        picture = await self._previews.picture(source, width, height, format)
        headers = [*PRIVATE, (b"x-picture-size", b"%dx%d" % (width, height))]
        return Answer(200, picture, headers, TYPES[format])
