"""The status page: what anybody may see, and nothing else."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from appliance.media.contracts import Source
from tests.api.box import TOKEN, open_box

PAGES = ("/", "/-/player.js", "/-/page.js")
LONGEST_PLAYER = 250


async def test_streams_and_their_links(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        box.engine.bound.services.append(("llhls", "http", "*", 3333))
        box.open("bypass", "cam")
        box.engine.directory.open_input("default", "bypass", "soon", Source("Rtmp"))
        shown = (await box.visit("GET", "/-/streams")).json()
        api = (await box.ask("GET", "/-/streams", {})).json()
    assert shown["ports"] == {"http": 3333, "https": None, "rtmp": None}
    assert shown["applications"] == ["app", "bypass"]
    assert shown["streams"] == api["streams"]
    assert shown["streams"] == [
        {
            "name": "cam",
            "path": "/bypass/cam",
            "playlists": ["llhls.m3u8"],
            "source": "Rtmp",
            "tracks": ["H264 640×360 30 fps", "AAC 48 kHz, 2 ch"],
        }
    ]


async def test_what_is_not_public_is_not_shown(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        box.open("bypass", "cam")
        for path in (*PAGES, "/-/streams"):
            text = (await box.visit("GET", path)).text
            assert TOKEN not in text
            assert "53650" not in text, "the address of the source"
        elsewhere = (await box.visit("GET", "/-/streams", {"Host": "other.example"})).json()
        assert (elsewhere["streams"], elsewhere["applications"]) == ([], [])


async def test_pages_are_cached_by_their_tag(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        for path in PAGES:
            first = await box.visit("GET", path)
            assert first.status_code == 200
            assert first.headers["content-length"] == str(len(first.content))
            assert "default-src 'none'" in first.headers["content-security-policy"]
            again = await box.visit("GET", path, {"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = await box.visit("HEAD", path)
            assert (head.status_code, head.content) == (200, b"")
            assert (await box.ask("GET", path, {})).content == first.content


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/", 405), ("GET", "/-/nope", 404), ("GET", "/x", 404)]
)
async def test_other_requests(method: str, path: str, status: int, tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        assert (await box.visit(method, path)).status_code == status


def test_nothing_comes_from_elsewhere() -> None:
    folder = resources.files("appliance.api")
    for name in ("status.html", "page.js", "player.js"):
        text = folder.joinpath(name).read_text()
        assert len(text) > 1000
        assert re.findall(r"""(?:src|href|import|url)\s*[=(]?\s*["']?(https?:)?//""", text) == []
        assert "innerHTML" not in text


def test_the_player_stays_small() -> None:
    text = resources.files("appliance.api").joinpath("player.js").read_text()
    assert 100 < text.count("\n") <= LONGEST_PLAYER
