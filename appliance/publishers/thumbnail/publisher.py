"""Keeps the newest picture of each image encode of a stream, and answers for it."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from appliance.errors import KilnError, NotFound
from appliance.media.contracts import Context, OutputStream, Progress
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.net.asgi import Scope
from appliance.net.direct import Answering, Reply, Wait
from appliance.net.parking import ParkingLot
from appliance.publishers.front import Front, Request, split_path
from appliance.publishers.heads import Cors

#: A request waits so long for the first picture (seconds).
FIRST_PICTURE = 5.0

_CODECS = {"jpg": Codec.JPEG, "png": Codec.PNG, "webp": Codec.WEBP}
_TYPES = {Codec.JPEG: b"image/jpeg", Codec.PNG: b"image/png", Codec.WEBP: b"image/webp"}


def claims(path: str) -> bool:
    """Whether a request path names a thumbnail: ``/app/stream/<anything>thumb.<jpg|png|webp>``."""
    stem, _, extension = path.rpartition(".")
    return extension in _CODECS and stem.endswith("thumb")


class _Pictures:
    """The newest ones of one output stream."""

    def __init__(self, output: OutputStream) -> None:
        settings = getattr(getattr(output.application, "publishers", None), "thumbnail", None)
        self.cors = Cors(getattr(settings, "cross_domains", None))
        self.newest: dict[Codec, Packet] = {}
        self.arrivals = ParkingLot()

    def take(self, packet: Packet) -> None:
        codec = packet.track.codec
        if codec in _TYPES:
            known = self.newest.get(codec)
            # Of several encodes of a type the one with the lowest id is shown, as long as it comes.
            if known is None or packet.track.id <= known.track.id:
                self.newest[codec] = packet
                if known is None:
                    self.arrivals.release_all()


class ThumbnailPublisher(Front):
    """``app`` answers what ``claims`` says."""

    name = publisher = "thumbnail"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._streams: dict[tuple[str, str, str], _Pictures] = {}

    @property
    def app(self) -> ThumbnailPublisher:
        return self

    def accepts(self, tracks: Sequence[Track]) -> bool:
        """There is an image encode."""
        return any(track.codec in _TYPES for track in tracks)

    async def run(self, output: OutputStream, progress: Progress) -> None:
        pictures = _Pictures(output)
        name = output.vhost, output.app, output.name
        self._streams[name] = pictures
        output.stream.add_sink(pictures.take)
        try:
            while not output.stream.closed:
                progress()
                with trio.move_on_after(1):
                    await output.stream.wait_closed()
        finally:
            output.stream.remove_sink(pictures.take)
            if self._streams.get(name) is pictures:
                del self._streams[name]
            pictures.arrivals.release_all()

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
            raise NotFound("no such picture")
        app, stream, _, file = names
        vhost = self._vhost(request.host)
        if scope["method"] == "OPTIONS":
            return self._preflight(request, vhost, app)
        if scope["method"] not in ("GET", "HEAD"):
            return self._not_allowed(request)
        pictures = None if vhost is None else self._streams.get((vhost, app, stream))
        if pictures is None:
            raise NotFound("no such stream, or it has no image encode")
        request.cors = pictures.cors
        codec = _CODECS[file.rpartition(".")[2]]
        deadline = trio.current_time() + FIRST_PICTURE
        while codec not in pictures.newest:
            if not (yield Wait(pictures.arrivals, deadline)) or self._streams.get((vhost or "", app, stream)) is None:
                raise NotFound(f"there is no {codec} picture of this stream yet")
        payload = pictures.newest[codec].payload
        headers = [
            (b"content-type", _TYPES[codec]), (b"content-length", b"%d" % len(payload)),
            (b"cache-control", b"no-cache, no-store"), *pictures.cors.headers(request.origin or None),
        ]  # fmt: skip
        return Reply(200, headers, [payload])
