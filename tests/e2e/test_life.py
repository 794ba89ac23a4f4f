"""Start, stop, and an end without warning."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from tests.kit import ffmpeg, hostile, m3u8, procfs
from tests.kit.ffmpeg import LONG
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.server_xml import PATTERN, Application, ServerXml


@pytest.fixture
def server() -> ServerXml:
    return ServerXml((Application(captures=(PATTERN,), segment=1),))


async def view(kiln: KilnProcess, stream: str, seconds: float) -> LlhlsClient:
    client = LlhlsClient(kiln.hls(stream))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.wait(lambda: bool(client.tracks) and client.video.delivered_seconds >= seconds, seconds + 15)
        nursery.cancel_scope.cancel()
    return client


async def test_sigterm_ends_it_with_everybody_connected(tmp_path: Path, server: ServerXml) -> None:
    """A publisher, a parked viewer, one who never reads and half-open connections: status 0 within 5 s, nobody left."""
    kiln = KilnProcess(tmp_path, server)
    kiln.start()
    try:
        with ffmpeg.publish(ffmpeg.source(LONG), kiln.rtmp("cam1")), hostile.half_open(kiln.ports.rtmp, 5, b"\x03"):
            viewer = await view(kiln, "cam1", 2)
            path = "/" + viewer.video.playlists[-1].segments[0].map.split("/", 3)[3]
            with hostile.never_reads(kiln.ports.http, path):
                async with trio.open_nursery() as nursery:
                    parked = LlhlsClient(kiln.hls("cam1"))
                    nursery.start_soon(parked.run)
                    await parked.wait(lambda: bool(parked.tracks), 10)
                    workers = kiln.workers
                    assert workers
                    started = time.monotonic()
                    await trio.to_thread.run_sync(kiln.stop)
                    assert time.monotonic() - started <= 5
                    nursery.cancel_scope.cancel()
        assert not [pid for pid in workers if procfs.alive(pid)]
    finally:
        kiln.kill()


async def test_after_sigkill_no_worker_is_left_and_sequence_numbers_go_on(tmp_path: Path, server: ServerXml) -> None:
    first = KilnProcess(tmp_path, server)
    first.start()
    try:
        before = await view(first, "pattern", 3)
        workers = first.workers
        assert workers
    finally:
        first.kill()
    left = await trio.to_thread.run_sync(procfs.wait_gone, workers, 3)
    assert not left, "workers outlive the engine"

    with KilnProcess(tmp_path, server) as second:
        after = await view(second, "pattern", 1)
    old, new = before.video.playlists[-1], after.video.playlists[0]
    assert new.media_sequence > last_number(old)
    assert new.discontinuity_sequence > old.discontinuity_sequence


def last_number(playlist: m3u8.MediaPlaylist) -> int:
    return playlist.segments[-1].msn


def test_a_second_engine_on_the_same_ports_says_so(tmp_path: Path, server: ServerXml) -> None:
    """It names the port that is taken, tries again, and still ends cleanly."""
    with KilnProcess(tmp_path / "first", server):
        second = KilnProcess(tmp_path / "second", server)
        second.launch()
        try:
            for port in (server.ports.http, server.ports.api, server.ports.rtmp):
                second.wait_said(f"127.0.0.1:{port}: the address is in use", 10)
            second.stop()
        finally:
            second.kill()
