"""Several renditions of one input: a player may change between any two of their segments."""

from __future__ import annotations

from fractions import Fraction

import trio

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import HD
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient, Track

SIZES = {"1280x720", "640x360", "320x180"}


async def test_three_renditions_have_their_key_frames_together(kiln: KilnProcess) -> None:
    clients = [LlhlsClient(kiln.hls("three", "ladder.m3u8", app="ladder"), variant=index) for index in range(3)]
    with ffmpeg.publish(ffmpeg.source(HD), kiln.rtmp("three", "ladder")):
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.run)
            for client in clients:
                await client.wait(lambda c=client: len(c.tracks) == 2 and c.video.delivered_seconds >= 6, 25)  # type: ignore[misc]
            nursery.cancel_scope.cancel()

    master = clients[0].master
    assert master is not None
    assert {variant.attributes["RESOLUTION"] for variant in master.variants} == SIZES
    tracks = [client.video for client in clients]
    keys = [{frame.pts for frame in track.frames() if frame.keyframe} for track in tracks]
    shared_from = max(min(times) for times in keys)
    shared_to = min(max(times) for times in keys)
    common = [sorted(time for time in times if shared_from <= time <= shared_to) for times in keys]
    assert len(common[0]) >= 4
    assert common[0] == common[1] == common[2]
    assert segment_starts(tracks[0]) == segment_starts(tracks[1]) == segment_starts(tracks[2])
    for track in tracks:
        assert frames.longest_step(track.frames()) <= Fraction(1, 30) + Fraction(1, 1000)
        for chunk in track.chunks:
            if chunk.part <= 0:
                assert track.chunk_frames(chunk)[0].keyframe


def segment_starts(track: Track, count: int = 4) -> dict[int, Fraction]:
    """When the first full segments begin, by media sequence number."""
    starts = {chunk.msn: track.chunk_frames(chunk)[0].pts for chunk in track.chunks if chunk.part <= 0}
    return dict(sorted(starts.items())[1 : 1 + count])
