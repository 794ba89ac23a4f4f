"""What players of HLS version 3 are answered (wire catalogue 4.1, 4.11)."""

from __future__ import annotations

import trio

from appliance.errors import KilnError, NotFound, Unavailable
from appliance.media.contracts import Context
from appliance.net.asgi import Scope
from appliance.net.direct import Answering, Reply, Wait
from appliance.publishers.front import Awaiting, Front, Request, split_path
from appliance.publishers.hls.live import Live
from appliance.publishers.hls.window import Segment
from appliance.publishers.on_air import OnAir
from appliance.publishers.rendered import MASTER, Rendered

#: Seconds that a request is held for the first segment of a stream, and for a stream that is not on the air yet.
START_HOLD = 15.0
ARRIVAL_HOLD = 5.0
_SEGMENT_TYPE = b"video/mp2t"


def claims(path: str, query: bytes) -> bool:
    """Whether a request names something of HLS version 3."""
    name = path.rpartition("/")[2]
    if name.endswith((".m3u8", ".ts")):
        return name.endswith(("_hls.m3u8", "_hls.ts")) or name.startswith("ts:") or b"format=ts" in query.split(b"&")
    return False


class Delivery(Front):
    """Answers for every stream in ``on_air``."""

    publisher = "hls"

    def __init__(self, context: Context, on_air: OnAir[Live]) -> None:
        super().__init__(context)
        self._on_air = on_air

    def answering(self, scope: Scope) -> Answering:
        request = Request(scope)
        try:
            return (yield from self._answer(request))
        except KilnError as fault:
            return self._fault(request, fault)

    def _answer(self, request: Request) -> Answering:
        scope = request.scope
        names = split_path(scope["path"])
        if names is None:
            raise NotFound("no such file")
        app, stream, _, file = names
        vhost = self._vhost(request.host)
        method = scope["method"]
        if method == "OPTIONS":
            return self._preflight(request, vhost, app)
        if method not in ("GET", "HEAD"):
            return self._not_allowed(request)
        live = None if vhost is None else self._on_air.find(vhost, app, stream)
        if vhost is not None and (live is None or (file.endswith(".ts") and file not in live.files)):
            earlier = self._on_air.file(vhost, app, stream, file)
            if earlier is not None:
                return _segment(request, *earlier)
        if live is None:
            live = yield from self._arriving(vhost, app, stream, request.scope)
        request.cors = live.heads.cors
        if file.endswith(".ts"):
            found = live.files.get(file)
            if found is None:
                raise NotFound("no such segment")
            return _segment(request, live, found)
        return (yield from self._playlist(request, live, file))

    def _arriving(self, vhost: str | None, app: str, stream: str, scope: Scope) -> Awaiting[Live]:
        if vhost is None or not self._expected(vhost, app, stream, scope):
            raise NotFound("no such stream")
        deadline = trio.current_time() + ARRIVAL_HOLD
        while (yield Wait(self._on_air.arrivals, deadline)):
            live = self._on_air.find(vhost, app, stream)
            if live is not None:
                return live
        raise Unavailable("the stream is not on the air yet")

    def _playlist(self, request: Request, live: Live, file: str) -> Answering:
        is_media = file.endswith("_hls.m3u8")
        name = file.removeprefix("ts:").removesuffix(".m3u8")
        if file not in live.renditions if is_media else name not in live.playlists:
            raise NotFound("no such playlist")
        query = "" if is_media else _child_query(request.scope["query_string"])
        deadline = trio.current_time() + START_HOLD
        while True:
            rendered: Rendered | None = live.media(file) if is_media else live.master(name, query)
            if rendered is not None:
                kind = 0 if is_media else MASTER
                return rendered.reply(live.heads, kind, request.accept_encoding, request.origin)
            if live.ended:
                raise NotFound("the stream is over")
            if live.gone:
                output = live.output
                live = yield from self._arriving(output.vhost, output.app, output.name, request.scope)
            elif not (yield Wait(live.ready_lot, deadline)):
                raise Unavailable("the stream has given no whole segment yet")


def _segment(request: Request, live: Live, found: object) -> Reply:
    assert isinstance(found, Segment)
    cors = request.cors = live.heads.cors
    reply = found.reply
    if reply is None or cors.by_origin:
        headers = live.heads.media(_SEGMENT_TYPE, found.size, part=False)
        if cors.by_origin:
            return Reply(200, headers + cors.headers(request.origin or None), found.chunks)
        reply = found.reply = Reply(200, headers, found.chunks)
    return reply


def _child_query(query: bytes) -> str:
    """What the media playlists carry on of a master's query: whether they list all that can be rewound."""
    for pair in query.split(b"&"):
        if pair in (b"_HLS_rewind=YES", b"_HLS_rewind=NO"):
            return pair.decode()
    return ""
