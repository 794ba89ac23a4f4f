"""An RTSP client that describes, sets up and plays (wire catalogue 6.6, RFC 2326). Sans-IO.

One request is on its way at a time. The caller sends what ``data_to_send`` gives and feeds what comes to
``receive_data``; the events tell what to do next.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote, urlsplit, urlunsplit

from appliance.errors import BadRequest, RemoteProtocolError
from appliance.protocols import sdp
from appliance.protocols.rtsp.credentials import Credentials
from appliance.protocols.rtsp.messages import Interleaved, MessageReader, Response, ServerRequest

DEFAULT_PORT = 554
USER_AGENT = "Kiln"
#: Seconds that a session lives without a sign of life when the server doesn't say (RFC 2326 section 12.37).
SESSION_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Described:
    """The server has told its media; answer with ``set_up``."""

    description: sdp.Description


@dataclass(frozen=True, slots=True)
class SetUp:
    """A medium is ready. Over TCP ``channels`` are its RTP and RTCP channels; over UDP ``server_ports`` are where its
    packets come from (0: not told) and ``source`` its address ("" as the connection's). ``url`` is what it was asked
    for by, as RTP-Info names it."""

    media: sdp.Media
    url: str
    channels: tuple[int, int] | None
    server_ports: tuple[int, int]
    source: str
    ssrc: int | None


@dataclass(frozen=True, slots=True)
class Playing:
    """Media come from now on; ``keep_alive`` is due each so many seconds. ``begins``: the RTP time at which each
    medium begins, by the URL of its SetUp, where the server says so (RTP-Info)."""

    keep_alive: float
    begins: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MediaData:
    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not want to. ``status`` is its answer; ``tcp_may_help``: it does not send by UDP."""

    status: int
    reason: str
    tcp_may_help: bool = False


Event = Described | SetUp | Playing | MediaData | Refused


class _Step(Enum):
    DESCRIBE = auto()
    SETUP = auto()
    PLAY = auto()
    KEEP_ALIVE = auto()
    TEARDOWN = auto()


class RtspClient:
    """``url`` is ``rtsp://[user:password@]host[:port]/path``; raises BadRequest for another.

    ``start`` asks for the description. ``nonce`` makes client nonces, for tests.
    """

    def __init__(self, url: str, *, nonce: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self.host, self.port, self.url, user, password = split_url(url)
        self._credentials = Credentials(user, password, nonce) if user or password else None
        self._reader = MessageReader()
        self._outgoing: list[bytes] = []
        self._sequence = 0
        self._step: _Step | None = None
        self._again: tuple[str, str, dict[str, str]] | None = None
        self._base = self.url
        self._session = ""
        self._timeout = SESSION_TIMEOUT
        self._waiting: list[tuple[sdp.Media, str, dict[str, str]]] = []
        self._setting_up: tuple[sdp.Media, str, tuple[int, int] | None] | None = None
        self._control = ""
        self._get_parameter = True

    def start(self) -> None:
        self._ask(_Step.DESCRIBE, "DESCRIBE", self.url, {"Accept": "application/sdp"})

    def data_to_send(self) -> bytes:
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def set_up(self, media: Sequence[sdp.Media], udp_ports: Sequence[int] | None = None) -> None:
        """Set up ``media`` one after the other, then play. ``udp_ports`` are our RTP ports, one a medium, each with the
        next one for RTCP; None is interleaved on the connection. Raises RemoteProtocolError for a control URL on
        another host."""
        for number, medium in enumerate(media):
            if udp_ports is None:
                transport = f"RTP/AVP/TCP;unicast;interleaved={2 * number}-{2 * number + 1}"
            else:
                transport = f"RTP/AVP;unicast;client_port={udp_ports[number]}-{udp_ports[number] + 1}"
            self._waiting.append((medium, self._control_url(medium.control), {"Transport": transport}))
        self._next_set_up()

    def keep_alive(self) -> None:
        """Tell the server that we are still there. Nothing when a request is on its way."""
        if self._step is None:
            method = "GET_PARAMETER" if self._get_parameter else "OPTIONS"
            self._ask(_Step.KEEP_ALIVE, method, self._play_url(), {})

    def tear_down(self) -> None:
        """The last request; its answer need not be waited for."""
        if self._session:
            self._ask(_Step.TEARDOWN, "TEARDOWN", self._play_url(), {})

    def send_interleaved(self, channel: int, data: bytes) -> None:
        """An RTCP packet of ours on a channel of the connection."""
        self._outgoing.append(b"$" + bytes([channel]) + len(data).to_bytes(2, "big") + data)

    def receive_data(self, data: bytes) -> Iterator[Event]:
        """Raises RemoteProtocolError, after which the connection is of no use."""
        for message in self._reader.receive_data(data):
            if isinstance(message, Interleaved):
                yield MediaData(message.channel, message.data)
            elif isinstance(message, ServerRequest):
                self._answer(message)
            else:
                yield from self._response(message)

    # Requests

    def _ask(self, step: _Step, method: str, url: str, headers: dict[str, str]) -> None:
        self._step = step
        self._again = (method, url, headers)
        self._sequence += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._sequence}", f"User-Agent: {USER_AGENT}"]
        if self._session:
            lines.append(f"Session: {self._session}")
        authorization = self._credentials.header(method, url) if self._credentials else ""
        if authorization:
            lines.append(f"Authorization: {authorization}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._outgoing.append("\r\n".join([*lines, "", ""]).encode())

    def _answer(self, request: ServerRequest) -> None:
        known = request.method in ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE")
        sequence = request.headers.get("cseq", "0")
        if not sequence.isdecimal():
            raise RemoteProtocolError("RTSP request without a number")
        status = "200 OK" if known else "501 Not Implemented"
        self._outgoing.append(f"RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n\r\n".encode())

    # Responses

    def _response(self, response: Response) -> Iterator[Event]:
        step, again = self._step, self._again
        if step is None or again is None:
            raise RemoteProtocolError("RTSP answer to no question")
        if response.status == 100:
            return
        sequence = response.headers.get("cseq", "")
        if sequence.isdecimal() and int(sequence) != self._sequence:
            return  # late: its question was asked anew
        if response.status == 401 and self._challenged(response):
            self._ask(step, *again)
            return
        self._step = self._again = None
        if step is _Step.KEEP_ALIVE:
            # Some servers know no GET_PARAMETER: the next sign of life is another.
            self._get_parameter = self._get_parameter and response.status < 400
            return
        if step is _Step.TEARDOWN:
            return
        if not 200 <= response.status < 300:
            yield Refused(response.status, response.reason or "no reason", response.status == 461)
            return
        if step is _Step.DESCRIBE:
            yield self._described(response)
        elif step is _Step.SETUP:
            yield self._set_up_done(response)
            self._next_set_up()
        else:
            yield Playing(max(1.0, self._timeout / 2), self._begins(response.headers.get("rtp-info", "")))

    def _challenged(self, response: Response) -> bool:
        challenge = response.headers.get("www-authenticate", "")
        return self._credentials is not None and self._credentials.challenged(challenge)

    def _described(self, response: Response) -> Described:
        base = response.headers.get("content-base") or response.headers.get("content-location") or self.url
        if _same_server(base, self.url):
            self._base = base.strip()
        description = sdp.parse(response.body)
        self._control = description.control
        return Described(description)

    def _next_set_up(self) -> None:
        if self._waiting:
            medium, url, headers = self._waiting.pop(0)
            channels = _channels(headers["Transport"])
            self._setting_up = (medium, url, channels)
            self._ask(_Step.SETUP, "SETUP", url, headers)
        elif self._session:
            self._ask(_Step.PLAY, "PLAY", self._play_url(), {})

    def _set_up_done(self, response: Response) -> SetUp:
        session, _, parameters = response.headers.get("session", "").partition(";")
        if not session.strip():
            raise RemoteProtocolError("RTSP server gave no session")
        self._session = session.strip()
        name, _, value = parameters.strip().partition("=")
        if name.strip().lower() == "timeout" and value.strip().isdecimal():
            self._timeout = min(max(2, int(value)), 3600)
        assert self._setting_up is not None
        medium, url, asked = self._setting_up
        transport = response.headers.get("transport", "")
        parts = dict(part.strip().lower().partition("=")[::2] for part in transport.split(";"))
        channels = _pair(parts.get("interleaved", "")) or asked if asked else None
        if channels is not None and max(channels) > 255:
            raise RemoteProtocolError(f"RTSP channels {channels[0]} and {channels[1]}")
        ssrc = parts.get("ssrc", "")
        try:
            number = int(ssrc, 16) & 0xFFFFFFFF if ssrc else None
        except ValueError:
            number = None
        ports = _pair(parts.get("server_port", "")) or (0, 0)
        return SetUp(medium, url, channels, ports, parts.get("source", ""), number)

    def _begins(self, info: str) -> dict[str, int]:
        begins = {}
        for stream in info.split(","):
            parts = dict(part.strip().partition("=")[::2] for part in stream.split(";"))
            time = parts.get("rtptime", "")
            if parts.get("url") and time.isascii() and time.isdecimal() and int(time) < 1 << 32:
                begins[self._control_url(parts["url"])] = int(time)
        return begins

    # URLs

    def _play_url(self) -> str:
        return self._control_url(self._control) if self._control and self._control != "*" else self._base

    def _control_url(self, control: str) -> str:
        if not control or control == "*":
            return self._base
        if "://" in control:
            if not _same_server(control, self.url):
                raise RemoteProtocolError(f"control URL on another server: {control[:80]}")
            return control
        base, question, query = self._base.partition("?")
        joined = base + control if base.endswith("/") else f"{base}/{control}"
        return joined + question + query


def split_url(url: str) -> tuple[str, int, str, str, str]:
    """(host, port, URL without user info, user, password). Raises BadRequest."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise BadRequest(f"Could not parse url: {error}") from None
    if parts.scheme.lower() not in ("rtsp", "rtspc") or not parts.hostname:
        raise BadRequest("Could not parse url: not rtsp://host[:port]/path")
    if any(ord(letter) <= 0x20 or ord(letter) == 0x7F for letter in url):
        raise BadRequest("Could not parse url: it holds blanks or control characters")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    where = host if parts.port is None else f"{host}:{parts.port}"
    plain = urlunsplit(("rtsp", where, parts.path or "/", parts.query, ""))
    return parts.hostname, port, plain, unquote(parts.username or ""), unquote(parts.password or "")


def _same_server(url: str, ours: str) -> bool:
    """Whether a URL that the server gave leads back to it: by the same host, whatever the port says."""
    try:
        return urlsplit(url.strip()).hostname == urlsplit(ours).hostname
    except ValueError:
        return False


def _channels(transport: str) -> tuple[int, int] | None:
    return _pair(transport.partition("interleaved=")[2])


def _pair(text: str) -> tuple[int, int] | None:
    first, _, second = text.partition("-")
    if not (first.isascii() and first.isdecimal() and int(first) < 65536):
        return None
    return int(first), int(second) if second.isascii() and second.isdecimal() else int(first) + 1
