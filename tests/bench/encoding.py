"""The box's own source: frames that a CPU second encodes, beside the ffmpeg command."""

from __future__ import annotations

import time

import trio

from tests.bench.figures import Figure, told
from tests.bench.stage import application, engine
from tests.kit import procfs
from tests.kit.ffmpeg import Ffmpeg
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.server_xml import Application

PATTERN = "pattern://?size=1920x1080&fps=30&vbitrate=5000000&gop=30&preset=veryfast"
#: The same picture, encoder and settings, a tone too, and nothing done with the result.
COMMAND = [
    "-re", "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30,format=yuv420p",
    "-re", "-f", "lavfi", "-i", "sine=frequency=1000:sample_rate=48000",
    "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "high", "-bf", "0", "-g", "30",
    "-b:v", "5M", "-maxrate", "5M", "-bufsize", "5M", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-f", "null", "-",
]  # fmt: skip


def encode(quick: bool) -> list[Figure]:
    seconds = 8 if quick else 30
    base = application()
    with engine(Application("app", captures=(("pattern", PATTERN),), part=base.part, segment=base.segment)) as kiln:
        kiln.wait_stream("pattern")
        with Ffmpeg(COMMAND) as peer:
            time.sleep(2)
            frames, ours, theirs, passed = trio.run(_measure, kiln, peer, seconds)
    mine, peers = frames / ours, 30 * passed / theirs
    ratio = mine / peers
    return [
        Figure("encode 1080p30 x264 veryfast, frames a CPU second", f"{mine:.1f}", ">= 0.95 x", f"{peers:.1f}",
               f"{ratio:.2f}", ratio >= 0.95),
        told("  frames a second delivered", f"{frames / passed:.2f}"),
    ]  # fmt: skip


async def _measure(kiln: KilnProcess, peer: Ffmpeg, seconds: float) -> tuple[int, float, float, float]:
    """Frames delivered, CPU seconds of the workers and of the peer, and the time it took, from part to part."""
    client = LlhlsClient(kiln.hls("pattern"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.wait(lambda: bool(client.tracks) and len(client.video.chunks) > 2, 15)
        mark = len(client.video.chunks)
        began, before, before_peer = trio.current_time(), sum(kiln.worker_cpu().values()), procfs.cpu_seconds(peer.pid)
        await client.wait_seconds(seconds, within=seconds + 15)
        passed = trio.current_time() - began
        ours = sum(kiln.worker_cpu().values()) - before
        theirs = procfs.cpu_seconds(peer.pid) - before_peer
        chunks = client.video.chunks[mark:]
        nursery.cancel_scope.cancel()
    return sum(len(client.video.chunk_frames(chunk)) for chunk in chunks), ours, theirs, passed
