"""What providers and publishers are handed, so that they need nothing of the engine.

Provider: where a stream comes from. Publisher: where it goes. Both meet the engine only through these protocols.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from appliance.errors import KilnError
from appliance.media.clock import Clock
from appliance.media.stream import Stream
from appliance.media.track import Track
from appliance.media.traffic import Traffic
from appliance.media.url import Url

if TYPE_CHECKING:
    import ssl

    import httpx
    import trio


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input comes from: ``kind`` is the API's sourceType (``Rtmp``, ``Capture`` …), ``url`` the peer or device
    (``TCP://1.2.3.4:5678``), ``address`` the peer's IP address ("" when there is none). ``passthrough``: no output
    profile is applied; then ``playlists`` are its own (``appliance.settings.models.Playlist``)."""

    kind: str
    url: str = ""
    address: str = ""
    passthrough: bool = False
    playlists: tuple[Any, ...] = ()


class Input(Protocol):
    """One live input stream, as its provider sees it. Calls never block and never await.

    Times given to ``send`` are the source's own, in the track's timescale; the input's timeline unwraps, mends and
    re-stamps them. The provider calls ``prepare`` once with the tracks it knows (the output streams are made then),
    ``send`` for every frame, and ``close`` at the end. A changed codec configuration is a Track of the same id and the
    next generation, simply used in ``send``.
    """

    @property
    def label(self) -> str:
        """``vhost/app/stream``."""

    @property
    def stream(self) -> Stream:
        """The hub; only after ``prepare``."""

    def prepare(self, tracks: Sequence[Track]) -> None: ...

    def send(self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int = 0) -> None: ...

    def close(self, reason: str) -> None:
        """The source is over. Further calls do nothing."""

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        """``callback(reason)`` is called once when the engine ends this input (deleted, replaced, shutdown)."""


class Directory(Protocol):
    """Who exists. Raises the errors of ``appliance.errors``."""

    def vhost_for_host(self, host: str) -> str | None:
        """The virtual host whose Host/Names match ``host`` (no port), first match wins; None when none does."""

    def application(self, vhost: str, app: str) -> object | None:
        """The application's settings (``appliance.settings.models.Application``) or None."""

    def arriving(self, vhost: str, app: str) -> object | None:
        """As ``application``, for a stream that comes: where the virtual host has a template, an application that is
        not there yet is told as it will be."""

    def open_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> Input:
        """Take the name for a new input stream.

        Raises NotFound (no such application), Forbidden (its provider is off), BadRequest (name outside the grammar)
        and NameTaken (in use, and neither ``replace`` nor silent for 3 s).
        """

    def check_input(self, vhost: str, app: str, name: str, source: Source, *, replace: bool = False) -> None:
        """Raise what ``open_input`` would raise now, and change nothing. May be called from another thread."""

    def output(self, vhost: str, app: str, name: str) -> Stream | None:
        """The live output stream of that name."""

    def input(self, vhost: str, app: str, name: str) -> Stream | None:
        """The live input stream of that name."""

    def wanted(self, vhost: str, app: str, name: str, query: str = "") -> bool:
        """Somebody wants an output stream that is not there. Whether it is being fetched (Origins) and worth waiting
        for; ``query`` is what they asked with."""


class Progress(Protocol):
    """How a supervised task shows that it gets on. A task under a health deadline calls it with each step."""

    def __call__(self) -> None: ...


class Publisher(Protocol):
    """One way out. ``run`` serves one output stream until that is closed; the supervisor restarts it on a fault."""

    name: str

    def accepts(self, tracks: Sequence[Track]) -> bool:
        """Whether anything of these tracks can be delivered this way."""

    async def run(self, output: OutputStream, progress: Progress) -> None: ...


@dataclass(slots=True)
class Rendition:
    """One STREAM-INF: variant names of its video and audio ("" for none), indexes within their variant group."""

    name: str
    video: str = ""
    audio: str = ""
    video_index: int = 0
    audio_index: int = 0


@dataclass(slots=True)
class Playlist:
    """A playlist of an output stream with its templates resolved (catalogue 3.3, wire catalogue 4.15)."""

    name: str
    file_name: str
    renditions: list[Rendition] = field(default_factory=list)
    webrtc_auto_abr: bool = True
    hls_chunklist_path_depth: int = -1
    enable_ts_packaging: bool = False
    enable_subtitles: bool = True


@dataclass(slots=True)
class OutputStream:
    """An output stream as publishers see it.

    ``stream`` is the hub with the output's tracks, ``application`` the application's settings
    (``appliance.settings.models.Application``), ``playlists`` those of the output profile in order, resolved.
    Publishers tell ``traffic`` what they have sent, once a response.
    """

    vhost: str
    app: str
    name: str
    stream: Stream
    application: object
    playlists: list[Playlist]
    source: Source
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def label(self) -> str:
        return f"{self.vhost}/{self.app}/{self.name}"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What a source is pulled with (catalogue 1.7). ``timeout_ms`` is how long it may give nothing at all, at
    connecting and after; ``ignore_rtcp_sr_timestamp`` is RTSP's."""

    vhost: str
    app: str
    name: str
    url: str
    timeout_ms: int = 3000
    ignore_rtcp_sr_timestamp: bool = False


class Finished(KilnError):
    """A pulled source came to the end of its programme; pulled again it would only begin from the start."""


class PullSource(Protocol):
    """One way to fetch a stream from elsewhere. The engine (``engine/pulls.py``) tries the URLs in order, tries again,
    and keeps the input stream through all of it; a source makes one connection and feeds it."""

    #: The API's sourceType: ``RtspPull``, ``RtmpPull``, ``File`` …
    kind: str
    #: The attribute of ``models.Providers`` that lets it in: ``rtsp_pull``, ``rtmp``, ``file`` …
    provider: str
    #: URL schemes, lower case.
    schemes: frozenset[str]

    async def pull(self, request: PullRequest, target: Input, progress: Progress) -> None:
        """Connect to ``request.url``, ``target.prepare`` the tracks when they are known (it does nothing the second
        time), send every frame, and return when the source ends by itself.

        Raises Unavailable (can't be reached, refused, fell silent: another try may help), BadRequest (such a URL can
        never be pulled), RemoteProtocolError, and Finished. Cancelled when the stream is no longer wanted.
        """


class Egress(Protocol):
    """The one way out for URLs from outside (``appliance/net/egress``): it reaches nothing but addresses that were
    checked. Raises BadRequest for what may not be reached, Unavailable for what can't be. Times in seconds."""

    def check_url(self, text: str, schemes: Collection[str]) -> Url:
        """``text`` taken apart; ``schemes`` in lower case. Looks nothing up."""

    async def resolve(
        self, host: str, port: int, *, multicast: bool = False, timeout: float = 5.0
    ) -> list[tuple[str, int]]:
        """Addresses that were checked, at least one: connect to one of these and to no name."""

    async def open_tcp(
        self, host: str, port: int, timeout: float = 5.0, *, send_buffer: int = 0
    ) -> trio.SocketStream: ...

    async def open_tls(
        self, host: str, port: int, timeout: float = 5.0, *, send_buffer: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> trio.SSLStream[trio.SocketStream]: ...  # fmt: skip

    def http_client(
        self, *, timeout: float = 5.0, redirects: bool = False, verify: ssl.SSLContext | bool = True
    ) -> httpx.AsyncClient:
        """Close it when done."""


@dataclass(slots=True)
class Context:
    """What a provider or publisher is handed by the engine. ``media_root`` is the only folder that paths from outside
    lead into (``appliance.storage.media_root`` resolves them)."""

    directory: Directory
    clock: Clock
    nursery: trio.Nursery
    #: Numbers that survive a restart: ``await reserve(key, count)`` is the first of ``count`` never given before.
    reserve: Callable[[str, int], Awaitable[int]]
    egress: Egress
    environment: Mapping[str, str] = field(default_factory=dict)
    media_root: Path = Path("media")
