"""More than this machine can encode: raw frames are left out, memory stays flat, it is counted, and key frames come."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import trio

from tests.transcoder.harness import FileInput, decode, h264, seconds_of, transcoding


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_slow_encoders_lose_raw_frames_and_nothing_piles_up() -> None:
    heavy = [h264(id, bitrate=6_000_000, preset="slow", profile="high") for id in range(4)]
    url = "pattern://?size=1280x720&fps=60&audio=off"
    async with transcoding(heavy, source_url=url) as (transcoder, recorder):
        # By then every encoder has all the reference pictures it will ever hold.
        for id in range(4):
            await recorder.have(id, 12, 30)
        await recorder.until(lambda: transcoder.stats.frames_dropped > 60, 30)
        pid = transcoder.worker_pid
        assert pid is not None
        early = resident(pid)
        sizes = []
        for _ in range(8):
            await trio.sleep(0.5)
            sizes.append(resident(pid))
        await recorder.until(lambda: all(r.dropped for r in transcoder.stats.renditions), 10)
        stats = transcoder.stats
    assert transcoder.restarts == 0
    assert max(sizes) < early * 1.1 + 16 * 1024 * 1024
    assert all(rendition.queue <= 32 for rendition in stats.renditions)
    for id in range(4):
        packets = recorder.packets[id]
        assert all(later.dts > earlier.dts for earlier, later in pairwise(packets))
        # What came is never long past: the queue before each encoder is short.
        latest = recorder.at[id][-1] - transcoder._epoch / 1e9 - seconds_of(packets[-1])
        assert latest < 2
    shared = set(recorder.keys(0)) & set(recorder.keys(1)) & set(recorder.keys(2)) & set(recorder.keys(3))
    assert len(shared) >= 3
    assert len(decode(recorder.packets[0])) == len(recorder.packets[0])


async def test_input_faster_than_the_decoder_is_dropped_to_a_key_frame() -> None:
    source = FileInput()
    async with trio.open_nursery() as nursery:
        async with transcoding([h264(0)], stream=source.stream) as (transcoder, recorder):
            nursery.start_soon(lambda: source.play(speed=200))
            await recorder.until(lambda: transcoder.stats.packets_dropped > 300, 20)
            await recorder.more(0, 30)
            stats = transcoder.stats
        nursery.cancel_scope.cancel()
    assert stats.queue < 3000
    assert transcoder.restarts == 0
    packets = recorder.packets[0]
    assert len(decode(packets)) == len(packets)
