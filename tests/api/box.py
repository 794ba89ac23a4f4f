"""A real engine that is not running, with inputs fed by hand, and its API to ask."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from appliance.access.tokens import AccessToken
from appliance.api.app import make_fronts
from appliance.engine.configuration import Configuration
from appliance.engine.engine import Engine
from appliance.media.clock import Clock
from appliance.media.contracts import Input, Source
from appliance.media.track import Codec, MediaType, Track
from appliance.net.asgi import ASGIApp
from appliance.settings.store import Store
from appliance.settings.xml import load_xml

RECORDED = Path(__file__).with_name("recorded")
TOKEN = "ome-access-token"
AUTHORIZATION = "Basic " + base64.b64encode(TOKEN.encode()).decode()

SECOND = 1_000_000_000


class FakeTime:
    """Nanoseconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def monotonic(self) -> int:
        return self.now

    def wall(self) -> int:
        return 1_795_000_000 * SECOND + self.now


class Box:
    """``ask`` the API, ``visit`` the status page, ``feed`` inputs."""

    def __init__(self, engine: Engine, time: FakeTime) -> None:
        self.engine = engine
        self.time = time
        fronts = make_fronts(engine)
        self.api: ASGIApp = fronts.api
        self.status: ASGIApp = fronts.status

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, *, body: Any = None
    ) -> httpx.Response:
        """``body`` is sent as JSON; bytes are sent as they are."""
        headers = {"Authorization": AUTHORIZATION} if headers is None else headers
        return await request(self.api, method, path, headers, body)

    async def visit(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return await request(self.status, method, path, headers or {})

    def open(self, app: str, name: str, vhost: str = "default") -> tuple[Input, Track, Track]:
        """An RTMP input with H.264 and AAC on the air."""
        source = Source("Rtmp", "TCP://127.0.0.1:53650", "127.0.0.1")
        video = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000, width=640, height=360,
                      frame_rate=30.0, bitrate=588_000, variant="Video")  # fmt: skip
        audio = Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48_000, sample_rate=48_000, channels=2,
                      bitrate=93_000, variant="Audio")  # fmt: skip
        opened = self.engine.directory.open_input(vhost, app, name, source)
        opened.prepare([video, audio])
        return opened, video, audio

    def feed(self, opened: Input, video: Track, audio: Track, *, frames: int) -> None:
        """``frames`` pictures of 2500 bytes at 30 fps, a key frame each 30, with sound of 240 bytes a frame."""
        sounds = 0
        for frame in range(frames):
            self.time.now += SECOND // 30
            opened.send(video, frame * 3000, frame * 3000, frame % 30 == 0, bytes(2500), 3000)
            while sounds * 1024 * 30 <= frame * 48_000:
                opened.send(audio, sounds * 1024, sounds * 1024, True, bytes(240), 1024)
                sounds += 1


@asynccontextmanager
async def open_box(state: Path, xml: Path | None = None, *, seed: bool = False) -> AsyncIterator[Box]:
    """An engine over ``xml`` (the recorded Server.xml when None) and the store in ``state``.

    ``seed``: as without ``--config``, its virtual hosts are given to the store.
    """
    loaded = load_xml(xml or RECORDED / "Server.xml", environment={})
    store = await Store.open(state / "kiln.sqlite")
    try:
        api = loaded.model.managers.api
        given = api.access_token if api else ""
        token = await AccessToken.load(state, {} if given else {"KILN_ACCESS_TOKEN": TOKEN}, given)
        time = FakeTime()
        clock = Clock(time.monotonic, time.wall)
        seed_from = (xml or RECORDED / "Server.xml").parent if seed else None
        configuration = await Configuration.load(store, loaded.model, loaded.raw, seed_from=seed_from)
        engine = Engine(
            loaded.model, loaded.raw, state=state, store=store, token=token, clock=clock, configuration=configuration
        )
        yield Box(engine, time)
    finally:
        await store.close()


async def request(
    app: ASGIApp, method: str, path: str, headers: dict[str, str], body: Any = None
) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8081") as client:
        return await client.request(method, path, headers=headers, content=content)
