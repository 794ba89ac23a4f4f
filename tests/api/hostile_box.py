"""A running box with one application that records, pushes and pulls, made over the API, and raw sockets to ask it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.kiln import AUTHORIZATION, KilnProcess

APP = "/v1/vhosts/hostile/apps/live"
STREAM = "pattern"
_VHOST = {"name": "hostile", "host": {"names": ["hostile.example"]}}
_APPLICATION = {
    "name": "live",
    "type": "live",
    "providers": {
        "rtmp": {},
        "rtspPull": {},
        "schedule": {},
        "multiplex": {},
        "capture": {"streams": [{"name": STREAM, "url": "pattern://?size=320x180&fps=15"}]},
    },
    "publishers": {"llhls": {}, "file": {}, "push": {}},
    "outputProfiles": {
        "outputProfile": [
            {
                "name": "small",
                "outputStreamName": "${OriginStreamName}",
                "encodes": {
                    "videos": [
                        {"name": "v", "codec": "h264", "width": 160, "height": 90, "bitrate": 100_000, "framerate": 15}
                    ],
                    "audios": [{"name": "a", "codec": "aac", "bitrate": 64_000, "samplerate": 48_000, "channel": 2}],
                },
            }
        ]
    },
}


@contextmanager
def hostile_box(folder: Path) -> Iterator[KilnProcess]:
    """With ``live/pattern`` on the air in the virtual host ``hostile``. It must end cleanly."""
    with KilnProcess(folder) as kiln:
        for path, body in (("/v1/vhosts", [_VHOST]), ("/v1/vhosts/hostile/apps", [_APPLICATION])):
            status, told = kiln.call("POST", path, body)
            assert status == 200, told
        kiln._until(lambda: kiln.call("GET", f"{APP}/streams/{STREAM}")[0] == 200, "no stream within 10 s", 10)
        yield kiln


def exchange(
    kiln: KilnProcess, method: str, path: str, *, body: bytes = b"", headers: tuple[str, ...] = (),
    token: str | None = AUTHORIZATION,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of one request on a connection of its own; ``headers`` come as they are."""
    authorization = () if token is None else (f"Authorization: {token}",)
    lines = [f"{method} {path} HTTP/1.1", "Host: box", "Connection: close", *authorization, *headers]
    return raw(kiln, "\r\n".join([*lines, "", ""]).encode() + body)


def raw(kiln: KilnProcess, request: bytes, *, cut: bool = False) -> tuple[int, dict[str, str], bytes]:
    """What comes back for these bytes, status 0 for nothing; ``cut``: nothing more will follow them."""
    with socket.create_connection(("127.0.0.1", kiln.ports.api), timeout=20) as sock:
        try:
            sock.sendall(request)
            if cut:
                sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # It has answered before it had everything.
        got = b""
        try:
            while piece := sock.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
    if not got:
        return 0, {}, b""
    head, _, body = got.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, _, value in (f.partition(": ") for f in fields)}, body


def envelope(body: bytes) -> dict[str, Any]:
    """An error's: a message with a reason, and a status."""
    told: dict[str, Any] = json.loads(body)
    assert set(told) == {"message", "statusCode"}
    assert len(told["message"]) > len("[HTTP]  (400)")
    return told
