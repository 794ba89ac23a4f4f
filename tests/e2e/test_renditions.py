"""Several renditions of one input: a player may change between any two of their segments."""

from __future__ import annotations

from fractions import Fraction

import trio

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import HD
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient, Track

SIZES = {"640x360", "512x288", "320x180"}


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
    starts = [segment_starts(track) for track in tracks]
    shared = set(starts[0]) & set(starts[1]) & set(starts[2])
    assert len(shared) >= 3
    assert all(starts[0][msn] == starts[1][msn] == starts[2][msn] for msn in shared)
    for track in tracks:
        # A machine that is busy with something else drops single frames before the encoder, and says so.
        got = track.frames()
        assert len(got) >= 0.4 * 30 * (got[-1].pts - got[0].pts)
        assert frames.longest_step(got) <= 1
        for chunk in track.chunks:
            if chunk.part <= 0:
                assert track.chunk_frames(chunk)[0].keyframe


def segment_starts(track: Track) -> dict[int, Fraction]:
    """When each segment begins, by media sequence number."""
    return {chunk.msn: track.chunk_frames(chunk)[0].pts for chunk in track.chunks if chunk.part <= 0}
