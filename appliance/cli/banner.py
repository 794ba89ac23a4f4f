"""What the terminal shows once the box is on the air: where to watch, send and ask."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from appliance.engine.engine import Engine
from appliance.version import VERSION


def banner(engine: Engine) -> str:
    """Some lines of text that end with a line feed."""
    lines = [f"\nKiln {VERSION} is on the air. Ctrl-C ends it.\n", *_rows(engine)]
    for path, text in engine.alarms.items():
        lines.append(f"  warning  {path}: {text}\n")
    return "".join([*lines, "\n"])


def _rows(engine: Engine) -> Iterator[str]:
    host = own_address()
    watch = engine.bound.port("llhls", "http")
    if watch is not None:
        yield f"  watch    http://{host}:{watch}/\n"
        for label in _captures(engine):
            yield f"           http://{host}:{watch}/{label}/llhls.m3u8\n"
    rtmp = engine.bound.port("rtmp", "http")
    if rtmp is not None:
        for app in _rtmp_applications(engine):
            yield f"  send     rtmp://{host}:{rtmp}/{app}/<name>\n"
    api = engine.bound.port("api", "http")
    if api is not None:
        yield f"  API      http://{host}:{api}/v1/version\n"
    yield f"  token    {_token(engine)}\n"


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


def _captures(engine: Engine) -> Iterator[str]:
    for vhost in engine.directory.vhosts.values():
        for application in vhost.applications.values():
            capture = application.settings.providers.capture
            for stream in capture.streams if capture else ():
                yield f"{application.name}/{stream.name}"


def _rtmp_applications(engine: Engine) -> Iterator[str]:
    for vhost in engine.directory.vhosts.values():
        for application in vhost.applications.values():
            if application.settings.providers.rtmp is not None:
                yield application.name


def own_address() -> str:
    """The address by which the LAN reaches this machine, or ``localhost``. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "localhost"
