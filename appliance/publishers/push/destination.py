"""The URL of a push taken apart, with its options (catalogue 1.5; names of options as FFmpeg has them)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, unquote_plus

from appliance.errors import BadRequest
from appliance.media.contracts import Egress
from appliance.media.tasks import Push
from appliance.media.url import Url

#: The prefixes of each protocol; compared as they are written.
SCHEMES: Final = {"rtmp": ("rtmp", "rtmps"), "srt": ("srt",), "mpegts": ("udp", "tcp")}
TS_PACKET: Final = 188
#: Shorter secrets would make an error unreadable when they are taken out of it.
_SHORTEST_SECRET: Final = 3
_SECRET_OPTIONS: Final = ("passphrase", "streamid")


@dataclass(frozen=True, slots=True)
class Destination:
    """``kind`` is the URL's scheme, ``options`` its query, decoded. RTMP alone has ``app`` and ``key``."""

    url: Url
    options: dict[str, str] = field(default_factory=dict)
    app: str = ""
    key: str = ""

    @property
    def kind(self) -> str:
        return self.url.scheme

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """The value of an option. Raises BadRequest."""
        text = self.options.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 12 or not least <= int(text) <= most:
            raise BadRequest(f"the URL's {name} is not a number from {least} to {most}")
        return int(text)

    def redacted(self, text: str) -> str:
        """``text`` without the secrets of this destination, which a server may repeat in its answers."""
        secrets = [self.key, self.key.partition("?")[0], self.url.password, self.url.query]
        secrets += [self.options.get(name, "") for name in _SECRET_OPTIONS]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text


def destination(task: Push, text: str, egress: Egress) -> Destination:
    """Where ``text``, one of the task's URLs, leads. Raises BadRequest in the catalogue's words, with the reason for
    what those don't name."""
    schemes = SCHEMES.get(task.protocol)
    if schemes is None:
        raise BadRequest(f"Could not find protocol '{task.protocol}': [{task.vhost}/{task.app}]")
    if "://" not in text:
        raise BadRequest("Could not parse url")
    if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise BadRequest("Unsupported protocol")
    url = egress.check_url(text, schemes)
    if url.scheme in ("rtmp", "rtmps"):
        return _rtmp(url, task.stream_key)
    options = _options(url)
    if not url.port:
        raise BadRequest(f"the URL names no port: {url.shown}")
    if url.scheme == "srt":
        if options.get("mode", "caller") != "caller":
            raise BadRequest("Unsupported connection mode")
        if task.stream_key and "streamid" not in options:
            options["streamid"] = task.stream_key
    elif url.scheme == "tcp" and ("listen" in options or text.endswith("listen")):
        raise BadRequest("Unsupported tcp listen")
    return Destination(url, options)


def _rtmp(url: Url, stream_key: str) -> Destination:
    path = url.path.strip("/")
    if not path:
        raise BadRequest(f"the URL names no application: {url.shown}", hint="It has the form rtmp://host[:port]/app.")
    query = f"?{url.query}" if url.query else ""
    if stream_key:
        return Destination(url, app=path + query, key=stream_key)
    app, slash, key = path.rpartition("/")
    return Destination(url, app=app, key=key + query) if slash else Destination(url, app=path + query)


def _options(url: Url) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in url.query.split("&"):
        name, equals, value = item.partition("=")
        if name:
            decode = unquote_plus if name == "streamid" else unquote
            options[name] = decode(value) if equals else "1"
    return options
