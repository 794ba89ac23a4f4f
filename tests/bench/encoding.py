"""The box's own source: frames that a CPU second encodes, beside the ffmpeg command."""

from __future__ import annotations

import time

import trio

from tests.bench.figures import Figure, told
from tests.bench.stage import application, cpu_share, engine
from tests.kit.ffmpeg import Ffmpeg
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.server_xml import Application

PATTERN = "pattern://?size=1920x1080&fps=30&vbitrate=5000000&gop=30&preset=veryfast"
#: The same picture, encoder and settings, a tone too, and nothing done with the result.
COMMAND_RATE = 30
COMMAND = [
    "-re", "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30,format=yuv420p",
    "-re", "-f", "lavfi", "-i", "sine=frequency=1000:sample_rate=48000",
    "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "high", "-bf", "0", "-g", "30",
    "-b:v", "5M", "-maxrate", "5M", "-bufsize", "5M", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-f", "null", "-",
]  # fmt: skip


def encode(quick: bool) -> list[Figure]:
    """One after the other, so that neither takes the other's core: ours, then the command."""
    seconds = 8 if quick else 30
    base = application()
    with engine(Application("app", captures=(("pattern", PATTERN),), part=base.part, segment=base.segment)) as kiln:
        kiln.wait_stream("pattern")
        frames, used, passed = trio.run(_measure, kiln, seconds)
    with Ffmpeg(COMMAND) as peer:
        time.sleep(3)
        theirs = cpu_share({"ffmpeg": [peer.pid]}, seconds)["ffmpeg"] / 100
    mine, peers = frames / used, COMMAND_RATE / theirs
    ratio = mine / peers
    return [
        Figure("encode 1080p30 x264 veryfast, frames a CPU second", f"{mine:.1f}", ">= 0.95 x", f"{peers:.1f}",
               f"{ratio:.2f}", ratio >= 0.95),
        told("  frames a second delivered", f"{frames / passed:.2f}"),
    ]  # fmt: skip


async def _measure(kiln: KilnProcess, seconds: float) -> tuple[int, float, float]:
    """Frames delivered, CPU seconds of the workers, and the time it took, from part to part."""
    client = LlhlsClient(kiln.hls("pattern"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.wait(lambda: bool(client.tracks) and client.video.delivered_seconds > 3, 15)
        mark = len(client.video.chunks)
        began, before = trio.current_time(), sum(kiln.worker_cpu().values())
        await client.wait_seconds(seconds, within=seconds + 15)
        passed = trio.current_time() - began
        used = sum(kiln.worker_cpu().values()) - before
        chunks = client.video.chunks[mark:]
        nursery.cancel_scope.cancel()
    return sum(len(client.video.chunk_frames(chunk)) for chunk in chunks), used, passed
