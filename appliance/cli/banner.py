"""What the terminal shows once the box is on the air: where to watch, send and ask."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from appliance.engine.application import Application
from appliance.engine.engine import Engine
from appliance.engine.profiles import plan_outputs
from appliance.errors import ConfigError
from appliance.transcoder import sources
from appliance.version import VERSION

#: So many lines of one kind are shown.
MOST_LINES = 20
_WILDCARDS = ("*", "", "::", "0.0.0.0")


def banner(engine: Engine) -> str:
    """Some lines of text that end with a line feed."""
    lines = [f"\nKiln {VERSION} is on the air. Ctrl-C ends it.\n\n", *_rows(engine)]
    lines += _shortened([f"  warning  {path}: {text}\n" for path, text in engine.alarms.items()], "warning")
    return "".join([*lines, "\n"])


def _rows(engine: Engine) -> Iterator[str]:
    for watch in _web(engine, "llhls"):
        yield f"  watch    {watch}/\n"
        for path in _captured(engine):
            yield f"           {watch}/{path}\n"
    rtmp = _address(engine, "rtmp", "rtmp")
    if rtmp:
        yield from _shortened(
            [
                f"  send     rtmp://{rtmp}/{application.name}/<name>\n"
                for application in _applications(engine)
                if application.settings.providers.rtmp is not None
            ],
            "send",
        )
    srt = _address(engine, "srt", "srt")
    if srt:
        for application in _applications(engine):
            if application.settings.providers.srt is not None:
                yield f"  send     srt://{srt}?streamid={application.vhost}/{application.name}/<name>\n"
    play = _address(engine, "srt-play", "srt")
    if play:
        for application in _applications(engine):
            if application.settings.publishers.srt is not None:
                yield f"  play     srt://{play}?streamid={application.vhost}/{application.name}/<name>\n"
    for api in _web(engine, "api"):
        yield f"  API      {api}/v1/version\n"
    yield f"  token    {_token(engine)}\n"


def _shortened(lines: list[str], what: str) -> list[str]:
    """A terminal is no place for hundreds of them."""
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"  {what:<8} … and {more} more\n"]


def _web(engine: Engine, service: str) -> Iterator[str]:
    """Over HTTP, then over HTTPS, as far as each is open."""
    for name, scheme in ((service, "http"), (f"{service}-tls", "https")):
        address = _address(engine, name, scheme)
        if address:
            yield f"{scheme}://{address}"


def _address(engine: Engine, service: str, wanted: str = "http") -> str:
    """``host:port`` by which others reach a service, "" when it is not open."""
    for name, scheme, host, port in engine.bound.services:
        if (name, scheme) == (service, wanted):
            reached = own_address() if host in _WILDCARDS else host
            return f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"
    return ""


def _token(engine: Engine) -> str:
    match engine.token.origin:
        case "environment":
            return "the one in KILN_ACCESS_TOKEN"
        case "Server.xml":
            return "the one in Server.xml"
        case "store":
            return f"known by its hash alone, {engine.token.path} is gone"
        case _:
            return f"in {engine.token.path}"


def _applications(engine: Engine) -> Iterator[Application]:
    for vhost in engine.directory.vhosts.values():
        yield from vhost.applications.values()


def _captured(engine: Engine) -> Iterator[str]:
    """Paths of the playlists of what the box captures itself."""
    for application in _applications(engine):
        capture, llhls = application.settings.providers.capture, application.settings.publishers.llhls
        for stream in capture.streams if capture and llhls else ():
            try:
                tracks = sources.parse(stream.url).tracks()
            except ConfigError:
                # Its own child tells what is wrong with it.
                continue
            for plan in plan_outputs(application.settings.profiles, tracks, stream.name):
                files = [playlist.file_name for playlist in plan.playlists]
                if llhls is not None and llhls.create_default_playlist:
                    files.insert(0, "llhls")
                if files:
                    yield f"{application.name}/{plan.name}/{files[0]}.m3u8"


def own_address() -> str:
    """The address by which the LAN reaches this machine, or ``localhost``. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "localhost"
