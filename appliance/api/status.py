"""The status page ``/`` with its player, for anybody who may watch: names of output streams, and links.

Served at ``/`` and below ``/-/``, on the delivery port and on the API's. No token, hence nothing that is not public.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.api.envelope import encode
from appliance.api.ome.stream_resource import HLS_DEFAULT, playlists_of
from appliance.api.view import ApplicationView, EngineView, OutputView, VirtualHostView
from appliance.media.track import Track
from appliance.net.asgi import ASGIApp, Headers, Receive, Scope, Send
from appliance.net.hosts import host_name

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; "
    b"media-src blob: http: https:; connect-src http: https:; base-uri 'none'; form-action 'none'"
)
_SAFE: Headers = [(b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff")]
_FILES = {
    "/": ("status.html", b"text/html; charset=utf-8"),
    "/-/player.js": ("player.js", b"text/javascript; charset=utf-8"),
    "/-/page.js": ("page.js", b"text/javascript; charset=utf-8"),
}


def status_app(engine: EngineView) -> ASGIApp:
    """The page as an ASGI application. Any path that is not its own is 404."""
    folder = Path(__file__).parent
    files = {path: _File((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if method not in ("GET", "HEAD"):
            await _send(send, method, 405, b"", [(b"allow", b"GET, HEAD")])
        elif path == "/-/streams":
            shown = encode(_streams(engine, host_name(headers.get(b"host", b""))))
            fresh = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
            await _send(send, method, 200, shown, fresh)
        elif path not in files:
            await _send(send, method, 404, b"", [])
        elif headers.get(b"if-none-match") == files[path].tag:
            await _send(send, method, 304, b"", files[path].headers)
        else:
            await _send(send, method, 200, files[path].body, files[path].headers)

    return app


class _File:
    def __init__(self, body: bytes, kind: bytes) -> None:
        self.body = body
        self.tag = b'"%b"' % hashlib.sha256(body).hexdigest()[:16].encode()
        self.headers: Headers = [(b"content-type", kind), (b"cache-control", b"no-cache"), (b"etag", self.tag)]


async def _send(send: Send, method: str, status: int, body: bytes, headers: Headers) -> None:
    length = [] if status == 304 else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length, *_SAFE]})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def _streams(engine: EngineView, host: str) -> dict[str, Any]:
    """What is on in the virtual host that answers to ``host``; ``now`` is milliseconds since 1970."""
    vhost = engine.directory.vhosts.get(engine.directory.vhost_for_host(host) or "")
    applications = [app for app in vhost.applications.values() if app.settings.providers.rtmp] if vhost else []
    bound = engine.bound
    return {
        "applications": [app.name for app in applications],
        "now": time.time_ns() // 1_000_000,
        "ports": {
            "http": bound.port("llhls", "http"),
            "https": bound.port("llhls-tls", "https"),
            "rtmp": bound.port("rtmp", "rtmp"),
        },
        "streams": list(_outputs(vhost)) if vhost else [],
    }


def _outputs(vhost: VirtualHostView) -> Iterator[dict[str, Any]]:
    for app in vhost.applications.values():
        for source in app.inputs.values():
            for output in source.outputs.by_name.values() if source.outputs else ():
                if output.output is not None:
                    yield _shown(app, output, source.source.kind)


def _shown(app: ApplicationView, view: OutputView, source: str) -> dict[str, Any]:
    output = view.output
    assert output is not None
    watchable = app.settings.publishers.llhls is not None
    return {
        "name": view.name,
        "path": f"/{app.name}/{view.name}",
        # What HLS with MPEG-TS segments adds has no LL-HLS form.
        "playlists": [
            f"{each.file_name}.m3u8" for each in playlists_of(output) if watchable and each.name != HLS_DEFAULT
        ],
        "source": source,
        "tracks": [text for text in map(_described, output.stream.tracks.values()) if text],
    }


def _described(track: Track) -> str:
    if track.is_video:
        rate = f" {track.frame_rate:.4g} fps" if track.frame_rate else ""
        return f"{track.codec} {track.width}×{track.height}{rate}"
    if track.is_audio:
        return f"{track.codec} {track.sample_rate / 1000:g} kHz, {track.channels} ch"
    return ""
