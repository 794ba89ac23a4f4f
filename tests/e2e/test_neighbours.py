"""Whatever happens to one stream, another one loses no frame."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from functools import partial

import pytest
import trio

from tests.kit import ffmpeg, frames, hostile, procfs
from tests.kit.ffmpeg import LONG, SMALL
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.rtmp_publisher import Media, Refused, RtmpPublisher, spoken
from tests.kit.witness import witness


async def busiest_worker(kiln: KilnProcess) -> int:
    """The child process that encodes: the one that used most CPU in the last second."""
    before = kiln.worker_cpu()
    await trio.sleep(1)
    used = {pid: seconds - before.get(pid, 0.0) for pid, seconds in kiln.worker_cpu().items()}
    assert used, "there is no worker"
    return max(used, key=lambda pid: used[pid])


async def test_sigkill_of_the_worker(kiln: KilnProcess) -> None:
    """The pattern is back within 3 s and its timeline goes on; the RTMP stream notices nothing."""
    async with witness(kiln):
        viewer = LlhlsClient(kiln.hls("pattern"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(viewer.run)
            await viewer.wait(lambda: len(viewer.tracks) == 2 and viewer.video.delivered_seconds > 1, 10)
            worker = await busiest_worker(kiln)
            marks = len(viewer.video.chunks)
            procfs.kill(worker)
            killed_at = trio.current_time()
            await viewer.wait_seconds(4, within=12)
            nursery.cancel_scope.cancel()
        after = [chunk for chunk in viewer.video.chunks[marks:] if chunk.got > killed_at]
        gaps = [b.got - a.got for a, b in itertools.pairwise(after)]
        assert after[0].got - killed_at <= 3.5
        assert max(gaps) <= 3.5
        assert not any(chunk.discontinuity for chunk in viewer.video.chunks[1:]), "the codec did not change"
        video = viewer.video.frames()
        assert all(a.dts < b.dts for a, b in itertools.pairwise(video)), "time went back"
        assert frames.longest_step(video) <= 3


async def test_sigkill_of_a_publisher(kiln: KilnProcess) -> None:
    """Its name is free again at once."""
    async with witness(kiln):
        for _ in range(2):
            with ffmpeg.publish(ffmpeg.source(SMALL), kiln.rtmp("killed")) as publisher:
                await trio.to_thread.run_sync(lambda: kiln.wait_stream("killed", timeout=5))
                publisher.kill()
            await trio.to_thread.run_sync(lambda: kiln.wait_no_stream("killed", timeout=5))


async def test_reset_of_a_publishers_connection(kiln: KilnProcess) -> None:
    media = Media.of_file(ffmpeg.source(SMALL))
    async with witness(kiln):
        async with RtmpPublisher(kiln.ports.rtmp, "reset", media) as publisher:
            await publisher.publish()
            await publisher.run(1.5)
            publisher.break_off()
        await trio.to_thread.run_sync(lambda: kiln.wait_no_stream("reset", timeout=5))


@pytest.mark.long
async def test_a_source_that_pauses_for_ten_seconds(kiln: KilnProcess) -> None:
    """It goes on afterwards under the same name, and its timeline never runs back."""
    async with witness(kiln):
        with ffmpeg.publish(ffmpeg.source(LONG), kiln.rtmp("pausing")) as publisher:
            viewer = LlhlsClient(kiln.hls("pausing"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(viewer.run)
                await viewer.wait(lambda: bool(viewer.tracks) and viewer.video.delivered_seconds > 1, 15)
                publisher.pause()
                await trio.sleep(10)
                publisher.resume()
                assert publisher.running
                await viewer.wait_seconds(2, within=10)
                nursery.cancel_scope.cancel()
            video = viewer.video.frames()
            assert frames.run_in(video, frames.of_file(ffmpeg.source(LONG), "video")) == 0
            assert all(a.dts < b.dts for a, b in itertools.pairwise(video)), "time went back"


async def test_a_second_publisher_of_the_same_name(kiln: KilnProcess) -> None:
    """It is refused, and the first one never notices."""
    media = Media.of_file(ffmpeg.source(SMALL))
    async with witness(kiln, "taken"):
        for _ in range(3):
            async with RtmpPublisher(kiln.ports.rtmp, "taken", media) as second:
                with pytest.raises(Refused):  # noqa: PT012 - the refusal may come with publish or with the first media
                    await second.publish()
                    await second.run(2)


async def test_garbage_on_the_rtmp_port(kiln: KilnProcess) -> None:
    """The committed corpus, noise, noise after a handshake, and sessions with bytes changed, cut and doubled."""
    samples = [data for _, data in hostile.corpus("rtmp")]
    chance = random.Random(5)
    samples += [chance.randbytes(chance.randrange(1, 5000)) for _ in range(40)]
    samples += [b"\x03" + chance.randbytes(3072) + chance.randbytes(chance.randrange(5000)) for _ in range(40)]
    session = spoken(Media.of_file(ffmpeg.source(SMALL)), "app", "garbage")
    samples += [hostile.spoil(session, chance) for _ in range(150)]
    limit = trio.CapacityLimiter(8)
    async with witness(kiln), trio.open_nursery() as nursery:
        for data in samples:
            nursery.start_soon(partial(trio.to_thread.run_sync, hostile.throw, kiln.ports.rtmp, data, limiter=limit))
    assert kiln.running


async def test_a_viewer_that_never_reads(kiln: KilnProcess) -> None:
    async with witness(kiln) as seen:
        chunk = seen.client.video.playlists[-1].segments[0]
        path = "/" + (chunk.uri or chunk.parts[0].uri).split("/", 3)[3]
        before = kiln.rss()
        with (
            hostile.never_reads(kiln.ports.http, path),
            hostile.never_reads(kiln.ports.http, path),
            hostile.never_reads(kiln.ports.rtmp, path),
        ):
            await seen.go_on(6)
        assert kiln.rss() - before < 24 * 1024 * 1024


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        pytest.param("rtmp", b"", marks=pytest.mark.long),
        ("rtmp", b"\x03abc"),
        pytest.param("http", b"GET / HTTP/1.1\r\nHost:", marks=pytest.mark.long),
    ],
)
async def test_five_hundred_half_open_connections(kiln: KilnProcess, listener: str, said: bytes) -> None:
    port = kiln.ports.rtmp if listener == "rtmp" else kiln.ports.http
    async with witness(kiln) as seen:
        with hostile.half_open(port, 500, said):
            await seen.go_on(4)
            # Somebody new is still let in.
            newcomer = LlhlsClient(kiln.hls(seen.name))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(newcomer.run)
                await newcomer.wait(lambda: bool(newcomer.tracks) and newcomer.video.delivered_seconds > 1, 5)
                nursery.cancel_scope.cancel()
    video = seen.client.video.frames()
    assert frames.longest_step(video) <= Fraction(1, 30) + Fraction(1, 1000)
