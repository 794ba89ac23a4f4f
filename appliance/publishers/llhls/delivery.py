"""What players are answered: playlists, init segments, segments and parts of all streams on the air.

Every answer is a generator (``net.direct``): it yields what it has to wait for, so that nobody needs a task meanwhile.
Sources: wire catalogue 4.1 to 4.5; draft-pantos-hls-rfc8216bis 6.2.5 (blocking reload, delta updates), 6.2.6 (hints).
"""

from __future__ import annotations

import math

import trio

from appliance.errors import BadRequest, KilnError, NotFound, Unavailable
from appliance.media.contracts import Context
from appliance.net.asgi import Scope
from appliance.net.direct import Answering, Reply, Wait
from appliance.publishers import front
from appliance.publishers.front import Awaiting, split_path
from appliance.publishers.llhls.dvr import Stored
from appliance.publishers.llhls.live import Live
from appliance.publishers.llhls.request import (
    Directives,
    child_query,
    parse_directives,
    stream_key_query,
)
from appliance.publishers.llhls.window import Init, Part, Segment, TrackWindow
from appliance.publishers.on_air import OnAir
from appliance.publishers.rendered import DIRECTIVES, MASTER, Rendered

#: Seconds that a request is held for the first playlist of a stream.
START_HOLD = 15.0
#: Seconds that a request is held while the engine puts a stream that it has on the air.
ARRIVAL_HOLD = 5.0
#: Seconds that a request is held while a segment is read from the disk.
READ_HOLD = 10.0
#: Target durations after which a blocked request is given up (draft 6.2.5.2).
BLOCKED_TOO_LONG = 3

def claims(path: str, query: bytes = b"") -> bool:
    """Whether a request names something of LL-HLS (wire catalogue 4.1)."""
    name = path.rpartition("/")[2]
    if name.endswith(".m3u8"):
        return not name.startswith("ts:") and not name.endswith("_hls.m3u8") and b"format=ts" not in query.split(b"&")
    return name.endswith(("_llhls.m4s", "_llhls.vtt"))


class Request(front.Request):
    """One request, as far as it is read."""

    __slots__ = ("_live", "patience")

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._live: Live | None = None
        #: Until when it waits for a first playlist, through all lives that have none; 0.0 before it does.
        self.patience = 0.0

    def of(self, live: Live) -> None:
        """It is ``live`` that answers."""
        self._live = live
        self.cors = live.heads.cors


class Delivery(front.Front):
    """Answers for every stream in ``on_air``: called as an ASGI application, or by ``direct``."""

    publisher = "llhls"

    def __init__(self, context: Context, on_air: OnAir[Live]) -> None:
        super().__init__(context)
        self._nursery = context.nursery
        self._on_air = on_air

    def direct(self, scope: Scope) -> Answering | None:
        """See ``net.direct``: for the paths that it claims."""
        return self.answering(scope) if claims(scope["path"], scope["query_string"]) else None

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
        app, stream, session, file = names
        vhost = self._vhost(request.host)
        live = None if vhost is None else self._on_air.find(vhost, app, stream)
        method = scope["method"]
        if method == "OPTIONS":
            if live is not None:
                request.of(live)
            return self._preflight(request, vhost, app)
        media = file.endswith((".m4s", ".vtt"))
        if live is None or (media and file not in live.files):
            earlier = None if vhost is None else self._on_air.file(vhost, app, stream, file)
            if earlier is not None and method in ("GET", "HEAD"):
                request.of(earlier[0])
                if isinstance(earlier[1], Stored):
                    raise NotFound("no such file any more")
                return self._media(request, *earlier)
        if live is None:
            live = yield from self._arriving(vhost, app, stream, scope)
        request.of(live)
        if method != "GET" and method != "HEAD":
            return self._not_allowed(request)
        if media:
            found = live.files.get(file)
            if found is None:
                found = yield from self._hinted(live, file)
            elif isinstance(found, Stored):
                return (yield from self._stored(request, live, found))
            return self._media(request, live, found)
        if file.startswith("chunklist_"):
            return (yield from self._chunklist(request, live, file, session))
        if file.endswith(".m3u8"):
            return (yield from self._master(request, live, file[:-5], session))
        raise NotFound("no such file")

    def _arriving(self, vhost: str | None, app: str, stream: str, scope: Scope) -> Awaiting[Live]:
        """A stream that the engine has and that is not on the air yet, or not again. NotFound at once for any other."""
        if vhost is None or not self._expected(vhost, app, stream, scope):
            raise NotFound("no such stream")
        deadline = trio.current_time() + ARRIVAL_HOLD
        while (yield Wait(self._on_air.arrivals, deadline)):
            live = self._on_air.find(vhost, app, stream)
            if live is not None:
                return live
        raise Unavailable("the stream is not on the air yet")

    # Media.

    def _media(self, request: Request, live: Live, found: object) -> Reply:
        assert isinstance(found, Part | Segment | Init)
        reply = found.reply
        if reply is None or live.heads.cors.by_origin:
            buffers = found.buffers if isinstance(found, Segment) else [found.payload]
            headers = live.heads.media(found.content_type, sum(map(len, buffers)), part=isinstance(found, Part))
            if live.heads.cors.by_origin:
                reply = Reply(200, headers + live.heads.cors.headers(request.origin or None), buffers)
            else:
                reply = found.reply = Reply(200, headers, buffers)
        live.output.traffic.sent_bytes += reply.size
        return reply

    def _stored(self, request: Request, live: Live, stored: Stored) -> Answering:
        """A segment that lies on the disk: read by a task of its own, once for all who ask meanwhile."""
        dvr = live.dvr
        assert dvr is not None
        deadline = trio.current_time() + READ_HOLD
        while stored.reply is None:
            if not stored.loading:
                stored.loading = True
                self._nursery.start_soon(dvr.load, stored, name=f"llhls read {live.label}")
            if not (yield Wait(stored.arrived, deadline)) or stored.failed:
                raise Unavailable("the disk did not give the segment in time")
        reply = stored.reply
        if not reply.headers or live.heads.cors.by_origin:
            headers = live.heads.media(stored.content_type, reply.size, part=False)
            if live.heads.cors.by_origin:
                return Reply(200, headers + live.heads.cors.headers(request.origin or None), reply.buffers)
            reply = Reply(200, headers, reply.buffers)
            dvr.keep(stored, reply)
        return reply

    def _hinted(self, live: Live, file: str) -> Awaiting[object]:
        """The part that comes next, waited for; NotFound for anything else that isn't there (yet, or any more)."""
        wanted = _part_name(live, file)
        if wanted is None:
            raise NotFound("no such file")
        window, number = wanted
        deadline = trio.current_time() + BLOCKED_TOO_LONG * max(1, live.target_duration)
        lot = live.lots[window.track.id]
        while True:
            if live.interrupted:
                raise Unavailable("the box is stopping, or the stream is made anew")
            if not window.hints or live.ended or live.gone or (window.next_msn, window.next_part) != number:
                raise NotFound("no such part")
            if not (yield Wait(lot, deadline)):
                raise Unavailable("the part did not come in time")
            found = live.files.get(file)
            if found is not None:
                return found

    # Playlists.

    def _chunklist(self, request: Request, live: Live, file: str, session: str) -> Answering:
        directives = parse_directives(request.scope["query_string"], legacy=live.legacy, rewind=live.rewind)
        window = _window(live, file)
        if window is None:
            raise NotFound("no such playlist")
        if not (yield from self._until_ready(request, live)):
            return (yield from self._succeed(request, live, file, session))
        if not window.started:
            raise NotFound("this track has no media")
        now = trio.current_time()
        live.viewers.saw(session or directives.session or request.player, now)
        if directives.blocking:
            yield from _until_there(live, window, directives, now)
        elif directives.legacy and not window.listed:
            yield from _until_there(live, window, Directives(msn=window.last_msn), now)
        if live.gone:
            # A new life of the stream took its place while this request waited: its playlist goes on from here.
            return (yield from self._succeed(request, live, file, session))
        skip = directives.skip and not live.ended
        query = stream_key_query(directives) if directives.stream_key else ""
        rendered = live.rendered.media(
            window, skip=skip, legacy=directives.legacy, rewind=directives.rewind, query=query
        )
        return _playlist(request, live, rendered, DIRECTIVES if directives.blocking else 0)

    def _succeed(self, request: Request, gone: Live, file: str, session: str) -> Answering:
        live = yield from self._successor(request, gone)
        return (yield from self._chunklist(request, live, file, session))

    def _successor(self, request: Request, gone: Live) -> Awaiting[Live]:
        output = gone.output
        live = self._on_air.find(output.vhost, output.app, output.name)
        if live is None:
            if gone.interrupted:
                raise Unavailable("the box is stopping, or the stream is made anew")
            live = yield from self._arriving(output.vhost, output.app, output.name, request.scope)
        request.of(live)
        return live

    def _master(self, request: Request, live: Live, name: str, session: str) -> Answering:
        if name not in live.playlists:
            raise NotFound("no such playlist")
        given = parse_directives(request.scope["query_string"], legacy=live.legacy, rewind=live.rewind)
        if not (yield from self._until_ready(request, live)):
            successor = yield from self._successor(request, live)
            return (yield from self._master(request, successor, name, session))
        query = child_query(given, legacy=live.legacy, rewind=live.rewind)
        rendered = live.rendered.master(name, query=query, session=session if session.isalnum() else "")
        if rendered is None:
            raise NotFound("nothing of this playlist can be played")
        return _playlist(request, live, rendered, MASTER)

    def _until_ready(self, request: Request, live: Live) -> Awaiting[bool]:
        """True once playlists can be answered, False when another life has to do that."""
        while not live.ready:
            if live.gone:
                return False
            if live.ended:
                raise NotFound("the stream is over")
            request.patience = request.patience or trio.current_time() + START_HOLD
            if not (yield Wait(live.ready_lot, request.patience)):
                raise Unavailable("the stream has given no media yet")
        return True


def _playlist(request: Request, live: Live, rendered: Rendered, kind: int) -> Reply:
    reply = rendered.reply(live.heads, kind, request.accept_encoding, request.origin)
    live.output.traffic.sent_bytes += reply.size
    return reply


def _until_there(live: Live, window: TrackWindow, wanted: Directives, now: float) -> Awaiting[None]:
    """Blocking reload: until the segment, or the part, is in the playlist.

    Raises BadRequest when that is too far ahead to wait for, Unavailable when it does not come.
    """
    msn, part = wanted.msn, wanted.part
    if _there(window, msn, part) or live.ended:
        return
    if msn > window.last_msn + 2 or (part >= 0 and part > _furthest_part(window, msn)):
        raise BadRequest("too far ahead of the playlist")
    deadline = now + BLOCKED_TOO_LONG * live.target_duration
    lot = live.lots[window.track.id]
    while True:
        if not (yield Wait(lot, deadline)):
            raise Unavailable("the stream did not go on in time")
        if live.gone or live.ended or _there(window, msn, part):
            return


def _there(window: TrackWindow, msn: int, part: int) -> bool:
    if part < 0:
        return window.last_complete >= msn
    # A part behind the last one of a whole segment is the first of the next.
    return msn < window.last_msn or (msn == window.last_msn and part <= window.last_part)


def _furthest_part(window: TrackWindow, msn: int) -> int:
    """The Advance Part Limit (draft 6.2.5.2) behind the newest part."""
    target = window.part_target
    ahead = math.ceil(3 / target) if 0 < target < 1 else 3
    return window.last_part + ahead if msn == window.last_msn else ahead


def _window(live: Live, file: str) -> TrackWindow | None:
    """The track of a media playlist's name. The key in it is not looked at: players outlive a restart of the stream."""
    window = live.by_playlist.get(file)
    if window is not None:
        return window
    pieces = file.split("_")
    if len(pieces) != 5 or pieces[4] != "llhls.m3u8" or not pieces[1].isdigit() or len(pieces[1]) > 9:
        return None
    window = live.windows.get(int(pieces[1]))
    return window if window is not None and window.kind == pieces[2] else None


def _part_name(live: Live, file: str) -> tuple[TrackWindow, tuple[int, int]] | None:
    """Track, segment and part of a part's name that could be one of this stream."""
    pieces = file.split("_")
    if len(pieces) != 7 or pieces[0] != "part" or pieces[5] != live.key:
        return None
    if not all(piece.isdigit() and len(piece) < 18 for piece in pieces[1:4]):
        return None
    window = live.windows.get(int(pieces[1]))
    if window is None or file != window.part_name(int(pieces[2]), int(pieces[3])):
        return None
    return window, (int(pieces[2]), int(pieces[3]))
