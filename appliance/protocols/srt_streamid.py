"""What an SRT caller asks for: the text of its stream id (wire catalogue 6.1; SRT access control guidelines).

Forms: ``vhost/app/stream[/playlist][?query]``, the same as ``srt://host[:port]/app/stream[/playlist][?query]``, each
plain or percent-encoded, and ``#!::r=app/stream,m=publish,h=host,…`` (or ``#!::u=`` with one of the forms above).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from appliance.errors import RemoteProtocolError

#: SRT carries no longer one.
MAX_SIZE: Final = 512
_KEYED: Final = "#!::"
_SECRET: Final = re.compile(r"(\bkey=)[^,]*", re.IGNORECASE)
_MODES: Final = frozenset({"", "request", "publish", "bidirectional"})


@dataclass(frozen=True, slots=True)
class StreamId:
    """``host`` is the name of a virtual host or one of its domains, "" when it was not told. ``mode`` is ``publish``,
    ``request``, ``bidirectional`` or "" (not told); ``parameters`` are of the query, or of the keyed form."""

    host: str
    app: str
    stream: str
    playlist: str = ""
    mode: str = ""
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str:
        """The first of that name, "" when there is none."""
        return next((value for key, value in self.parameters if key == name), "")


def parse_stream_id(text: str) -> StreamId:
    """Raises RemoteProtocolError, which says what is wrong."""
    if len(text) > MAX_SIZE:
        raise RemoteProtocolError("the stream id is longer than 512 characters")
    if not text.startswith(_KEYED):
        text = unquote(text, errors="surrogateescape")
    if not text.isprintable():
        raise RemoteProtocolError("the stream id has characters that can't be printed")
    return _keyed(text[len(_KEYED) :]) if text.startswith(_KEYED) else _plain(text)


def without_secrets(text: str) -> str:
    """A stream id as a log may have it: nothing of its query, no value of ``key``, 128 characters at most."""
    shown = unquote(text, errors="replace").partition("?")[0]
    return _SECRET.sub(r"\1***", shown)[:128]


def _keyed(text: str) -> StreamId:
    pairs = []
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise RemoteProtocolError(f"the stream id has no key and value in {item[:40]!r}")
        pairs.append((key, unquote(value, errors="surrogateescape")))
    known = dict(reversed(pairs))
    mode = known.get("m", "")
    if mode not in _MODES:
        raise RemoteProtocolError(f"the stream id asks for a mode that is not known: {mode[:40]!r}")
    resource = known.get("r") or known.get("u", "")
    if not resource.isprintable():
        raise RemoteProtocolError("the stream id has characters that can't be printed")
    found = _plain(resource, known.get("h", ""))
    return StreamId(found.host, found.app, found.stream, found.playlist, mode, (*found.parameters, *pairs))


def _plain(text: str, host: str = "") -> StreamId:
    path, _, query = text.partition("?")
    scheme, is_url, rest = path.partition("://")
    if is_url:
        if scheme.lower() != "srt":
            raise RemoteProtocolError(f"the stream id is a URL of {scheme[:20]!r}, not of srt")
        path = rest
    parts = path.split("/")
    if host and len(parts) == 2:
        # The keyed form tells the host apart.
        parts.insert(0, host)
    if len(parts) not in (3, 4) or not all(parts[:3]):
        raise RemoteProtocolError("the stream id is not vhost/app/stream")
    return StreamId(_without_port(parts[0]), parts[1], parts[2], parts[3] if len(parts) == 4 else "",
                    parameters=tuple(_pairs(query)))  # fmt: skip


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _pairs(query: str) -> list[tuple[str, str]]:
    found = []
    for item in query.split("&") if query else ():
        key, _, value = item.partition("=")
        found.append((key, unquote(value, errors="surrogateescape")))
    return found
