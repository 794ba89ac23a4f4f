"""The rules of LL-HLS, each looked for on a live stream that passes through."""

from __future__ import annotations

import httpx
import trio

from tests.bench.figures import Figure, told
from tests.bench.stage import application, engine, publishing
from tests.conformance.llhls.observe import Player
from tests.conformance.llhls.rules import Stage, check
from tests.kit.ffmpeg import HD, Ffmpeg


def kept(quick: bool) -> list[Figure]:
    with engine(application(segment=1, count=10)) as kiln, publishing(kiln, HD, "cam0") as (publisher,):
        found = trio.run(_check, kiln.hls("cam0"), publisher, 8.0 if quick else 20.0)
    broken = {number: faults for number, faults in found.items() if faults}
    figures = [Figure("LL-HLS rules kept", f"{len(found) - len(broken)} of {len(found)}", "all 25",
                      good=len(found) == 25 and not broken)]  # fmt: skip
    return figures + [told(f"  rule {number}", faults[0][:90]) for number, faults in broken.items()]


async def _check(url: str, publisher: Ffmpeg, seconds: float) -> dict[int, list[str]]:
    async def freeze() -> None:
        publisher.pause()

    async def thaw() -> None:
        publisher.resume()
        await trio.sleep(3)

    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=httpx.Limits(max_connections=None)) as http:
        await trio.sleep(6)
        return await check(url, http, seconds=seconds, stage=Stage(Player(http), 0.15, freeze, thaw))
