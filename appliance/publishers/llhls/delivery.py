"""The ASGI function that answers players: playlists, init segments, segments and parts of all streams on the air.

Sources: wire catalogue 4.1 to 4.5; draft-pantos-hls-rfc8216bis 6.2.5 (blocking reload, delta updates), 6.2.6 (hints).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from appliance.errors import BadRequest, KilnError, NotFound, Unavailable
from appliance.media.contracts import Context
from appliance.net.asgi import Headers, Message, Receive, Scope, Send
from appliance.net.hosts import host_name
from appliance.net.parking import ParkingLot
from appliance.publishers.llhls.heads import Cors, error, start
from appliance.publishers.llhls.live import Live
from appliance.publishers.llhls.on_air import OnAir
from appliance.publishers.llhls.playlists import Rendered
from appliance.publishers.llhls.request import (
    Directives,
    child_query,
    parse_directives,
    split_path,
    stream_key_query,
    takes_gzip,
)
from appliance.publishers.llhls.window import Init, Part, Segment, TrackWindow
from appliance.settings.models import LLHlsPublisher as Settings

#: Seconds that a request is held for the first playlist of a stream.
START_HOLD = 15.0
#: Seconds that a request is held while the engine puts a stream that it has on the air.
ARRIVAL_HOLD = 5.0
#: Target durations after which a blocked request is given up (draft 6.2.5.2).
BLOCKED_TOO_LONG = 3
#: A virtual host found for a host name is asked again after so many seconds.
HOSTS_KNOWN = 1.0
MOST_HOSTS = 1024

Park = Callable[[ParkingLot, float], Awaitable[bool]]

_ALLOW = (b"allow", b"GET, HEAD, OPTIONS")
#: Variants of a playlist's head.
_GZIP = 1
_DIRECTIVES = 2
_MASTER = 4


async def _park_without_server(lot: ParkingLot, deadline: float) -> bool:
    """For servers that don't offer ``kiln.park``."""
    with trio.move_on_at(deadline):
        return await lot.park()
    return False


def claims(path: str) -> bool:
    """Whether a request path names something of LL-HLS (wire catalogue 4.1)."""
    name = path.rpartition("/")[2]
    if name.endswith(".m3u8"):
        return not name.startswith("ts:") and not name.endswith("_hls.m3u8")
    return name.endswith(("_llhls.m4s", "_llhls.vtt"))


class Request:
    """One request, as far as it is read."""

    __slots__ = ("accept_encoding", "asked_headers", "buffers", "head_only", "host", "live", "origin", "park",
                 "patience", "scope", "send", "user_agent")  # fmt: skip

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.send = send
        self.live: Live | None = None
        #: Until when it waits for a first playlist, through all lives that have none; 0.0 before it does.
        self.patience = 0.0
        self.host = self.origin = self.accept_encoding = self.asked_headers = self.user_agent = b""
        for name, value in scope["headers"]:
            if name == b"host":
                self.host = value
            elif name == b"accept-encoding":
                self.accept_encoding = value
            elif name == b"origin":
                self.origin = value
            elif name == b"user-agent":
                self.user_agent = value
            elif name == b"access-control-request-headers":
                self.asked_headers = value
        self.head_only = scope["method"] == "HEAD"
        extensions = scope.get("extensions") or {}
        self.buffers = "kiln.buffers" in extensions
        self.park: Park = extensions.get("kiln.park") or _park_without_server

    @property
    def player(self) -> object:
        """Address and player: who it is that has no session."""
        client = self.scope.get("client")
        return (client[0] if client else "", self.user_agent)

    async def answer(self, head: Message, body: bytes) -> None:
        await self.send(head)
        await self.send({"type": "http.response.body", "body": b"" if self.head_only else body})


class Delivery:
    """Answers for every stream in ``on_air``. Call it as an ASGI application."""

    def __init__(self, context: Context, on_air: OnAir) -> None:
        self._directory = context.directory
        self._on_air = on_air
        self._hosts: dict[bytes, str | None] = {}
        self._hosts_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, send)
        try:
            await self._answer(request)
        except KilnError as fault:
            await self._refuse(request, fault.status, f"{fault}\n".encode())

    async def _answer(self, request: Request) -> None:
        scope = request.scope
        names = split_path(scope["path"])
        if names is None:
            raise NotFound("no such file")
        app, stream, session, file = names
        vhost = self._vhost(request.host)
        live = None if vhost is None else self._on_air.find(vhost, app, stream)
        method = scope["method"]
        if method == "OPTIONS":
            await self._preflight(request, live, vhost, app)
            return
        if live is None or (file.endswith(".m4s") and file not in live.files):
            earlier = None if vhost is None else self._on_air.file(vhost, app, stream, file)
            if earlier is not None and method in ("GET", "HEAD"):
                request.live = earlier[0]
                await self._media(request, *earlier)
                return
        if live is None:
            live = await self._arriving(request, vhost, app, stream)
        request.live = live
        if method != "GET" and method != "HEAD":
            await self._refuse(request, 405, b"GET, HEAD and OPTIONS are answered here\n", [_ALLOW])
            return
        if file.endswith(".m4s"):
            found = live.files.get(file)
            if found is None:
                found = await self._hinted(request, live, file)
            await self._media(request, live, found)
        elif file.startswith("chunklist_"):
            await self._chunklist(request, live, file, session)
        elif file.endswith(".m3u8"):
            await self._master(request, live, file[:-5], session)
        else:
            raise NotFound("no such file")

    async def _arriving(self, request: Request, vhost: str | None, app: str, stream: str) -> Live:
        """A stream that the engine has and that is not on the air yet, or not again. NotFound at once for any other."""
        known = vhost is not None and self._directory.output(vhost, app, stream) is not None
        if vhost is None or not known or self._settings(vhost, app) is None:
            raise NotFound("no such stream")
        deadline = trio.current_time() + ARRIVAL_HOLD
        while await request.park(self._on_air.arrivals, deadline):
            live = self._on_air.find(vhost, app, stream)
            if live is not None:
                return live
        raise Unavailable("the stream is not on the air yet")

    # Media.

    async def _media(self, request: Request, live: Live, found: object) -> None:
        assert isinstance(found, Part | Segment | Init)
        head: Any = found.head
        if head is None or live.heads.cors.by_origin:
            head = self._media_head(request, live, found)
        if not isinstance(found, Segment):
            await request.answer(head, found.payload)
            return
        send = request.send
        await send(head)
        payloads = [part.payload for part in found.parts]
        if request.head_only:
            await send({"type": "http.response.body", "body": b""})
        elif request.buffers:
            await send({"type": "http.response.body", "buffers": payloads})
        else:
            for payload in payloads[:-1]:
                await send({"type": "http.response.body", "body": payload, "more_body": True})
            await send({"type": "http.response.body", "body": payloads[-1]})

    def _media_head(self, request: Request, live: Live, found: Part | Segment | Init) -> Message:
        size = found.size if isinstance(found, Segment) else len(found.payload)
        headers = live.heads.media(found.content_type, size, part=isinstance(found, Part))
        if live.heads.cors.by_origin:
            return start(200, headers + live.heads.cors.headers(request.origin or None))
        found.head = head = start(200, headers)
        return head

    async def _hinted(self, request: Request, live: Live, file: str) -> object:
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
            if not await request.park(lot, deadline):
                raise Unavailable("the part did not come in time")
            found = live.files.get(file)
            if found is not None:
                return found

    # Playlists.

    async def _chunklist(self, request: Request, live: Live, file: str, session: str) -> None:
        directives = parse_directives(request.scope["query_string"], legacy=live.legacy, rewind=live.rewind)
        window = _window(live, file)
        if window is None:
            raise NotFound("no such playlist")
        if not await self._until_ready(request, live):
            await self._succeed(request, live, file, session)
            return
        if not window.started:
            raise NotFound("this track has no media")
        now = trio.current_time()
        live.viewers.saw(session or directives.session or request.player, now)
        if directives.blocking:
            await _until_there(request, live, window, directives, now)
        elif directives.legacy and not window.listed:
            await _until_there(request, live, window, Directives(msn=window.last_msn), now)
        if live.gone:
            # A new life of the stream took its place while this request waited: its playlist goes on from here.
            await self._succeed(request, live, file, session)
            return
        skip = directives.skip and not live.ended
        query = stream_key_query(directives) if directives.stream_key else ""
        rendered = live.rendered.media(window, skip=skip, legacy=directives.legacy, query=query)
        await self._playlist(request, live, rendered, _DIRECTIVES if directives.blocking else 0)

    async def _succeed(self, request: Request, gone: Live, file: str, session: str) -> None:
        live = await self._successor(request, gone)
        await self._chunklist(request, live, file, session)

    async def _successor(self, request: Request, gone: Live) -> Live:
        output = gone.output
        live = self._on_air.find(output.vhost, output.app, output.name)
        if live is None:
            if gone.interrupted:
                raise Unavailable("the box is stopping, or the stream is made anew")
            live = await self._arriving(request, output.vhost, output.app, output.name)
        request.live = live
        return live

    async def _master(self, request: Request, live: Live, name: str, session: str) -> None:
        if name not in live.playlists:
            raise NotFound("no such playlist")
        given = parse_directives(request.scope["query_string"], legacy=live.legacy, rewind=live.rewind)
        if not await self._until_ready(request, live):
            await self._master(request, await self._successor(request, live), name, session)
            return
        query = child_query(given, legacy=live.legacy, rewind=live.rewind)
        rendered = live.rendered.master(name, query=query, session=session if session.isalnum() else "")
        if rendered is None:
            raise NotFound("nothing of this playlist can be played")
        await self._playlist(request, live, rendered, _MASTER)

    async def _until_ready(self, request: Request, live: Live) -> bool:
        """True once playlists can be answered, False when another life has to do that."""
        while not live.ready:
            if live.gone:
                return False
            if live.ended:
                raise NotFound("the stream is over")
            request.patience = request.patience or trio.current_time() + START_HOLD
            if not await request.park(live.ready_lot, request.patience):
                raise Unavailable("the stream has given no media yet")
        return True

    async def _playlist(self, request: Request, live: Live, rendered: Rendered, kind: int) -> None:
        if request.accept_encoding and takes_gzip(request.accept_encoding):
            kind |= _GZIP
        body = rendered.gzip if kind & _GZIP else rendered.body
        head: Any = rendered.starts.get(kind)
        if head is None or live.heads.cors.by_origin:
            headers = live.heads.playlist(
                len(body), gzip=bool(kind & _GZIP), master=bool(kind & _MASTER), directives=bool(kind & _DIRECTIVES)
            )
            if live.heads.cors.by_origin:
                head = start(200, headers + live.heads.cors.headers(request.origin or None))
            else:
                head = rendered.starts[kind] = start(200, headers)
        await request.answer(head, body)

    # The rest.

    def _vhost(self, host: bytes) -> str | None:
        now = trio.current_time()
        hosts = self._hosts
        if now >= self._hosts_until or len(hosts) > MOST_HOSTS:
            hosts.clear()
            self._hosts_until = now + HOSTS_KNOWN
        if host in hosts:
            return hosts[host]
        vhost = hosts[host] = self._directory.vhost_for_host(host_name(host))
        return vhost

    def _cors(self, request: Request, vhost: str | None, app: str) -> Cors | None:
        """What the application says, also for streams that it doesn't have."""
        if request.live is not None:
            return request.live.heads.cors
        settings = None if vhost is None else self._settings(vhost, app)
        return None if settings is None else Cors(settings.cross_domains)

    def _settings(self, vhost: str, app: str) -> Settings | None:
        """Those of the application; None when it has no LL-HLS."""
        publishers = getattr(self._directory.application(vhost, app), "publishers", None)
        return getattr(publishers, "llhls", None)

    async def _preflight(self, request: Request, live: Live | None, vhost: str | None, app: str) -> None:
        request.live = live
        cors = self._cors(request, vhost, app)
        headers: Headers = [_ALLOW]
        if cors is not None:
            headers += cors.preflight(request.origin or None, request.asked_headers)
        await request.answer(start(204, headers), b"")

    async def _refuse(self, request: Request, status: int, body: bytes, extra: Headers | None = None) -> None:
        names = split_path(request.scope["path"])
        cors = self._cors(request, self._vhost(request.host), names[0] if names else "")
        more = (extra or []) + (cors.headers(request.origin or None) if cors is not None else [])
        await request.answer(start(status, error(status, len(body), more)), body)


async def _until_there(request: Request, live: Live, window: TrackWindow, wanted: Directives, now: float) -> None:
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
        if not await request.park(lot, deadline):
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
