"""How soon: start of the engine, publish to playable, publish to part."""

from __future__ import annotations

import time
from statistics import median

import trio

from tests.bench.figures import Figure, at_most
from tests.bench.load import summary
from tests.bench.stage import application, engine, fetch, media_playlists
from tests.bench.viewers import _ms
from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import FULL_HD
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.rtmp_publisher import Media, RtmpPublisher
from tests.kit.server_xml import PATTERN, Application


def start(quick: bool) -> list[Figure]:
    """The middle of several starts."""
    ready, first = [], []
    for _ in range(2 if quick else 5):
        with engine(Application(captures=(PATTERN,))) as kiln:
            ready.append(kiln.ready_after)
            playlist = media_playlists(kiln, "pattern")[0]
            while not playlist.segments:
                playlist = media_playlists(kiln, "pattern")[0]
            oldest = playlist.segments[0]
            fetch(oldest.parts[0].uri if oldest.parts else oldest.uri)
            first.append(time.monotonic() - kiln.started_at)
    return [
        at_most("start to API answer", median(ready), 1.0, "s", digits=2),
        at_most("start to first part of the pattern", median(first), 2.5, "s", digits=2),
    ]


def publish(quick: bool) -> list[Figure]:
    """RTMP publish to the first playable playlist, and each part's first frame sent to the part received."""
    rounds = 2 if quick else 5
    with engine(application(part=0.5, segment=2, count=5)) as kiln:
        media = Media.of_file(ffmpeg.source(FULL_HD))
        measured = [trio.run(_publish, kiln, media, f"cam{index}", 8.0) for index in range(rounds)]
    playable = median(first for first, _ in measured)
    delays = summary([delay for _, delays in measured for delay in delays])
    return [
        at_most("RTMP publish to first playable playlist", playable, 1.6, "s", digits=2),
        Figure("RTMP publish to part available (0.5 s parts)", _ms(delays), "<= 600 ms", good=delays["p99"] <= 600),
    ]


async def _publish(kiln: KilnProcess, media: Media, name: str, seconds: float) -> tuple[float, list[float]]:
    """Seconds from the server's agreement to the first part in hand; for each later part, from its first frame."""
    client = LlhlsClient(kiln.hls(name))
    async with trio.open_nursery() as nursery, RtmpPublisher(kiln.ports.rtmp, name, media) as publisher:
        await publisher.publish()
        nursery.start_soon(client.run)
        await publisher.run(seconds)
        nursery.cancel_scope.cancel()
    video = client.video
    first = video.chunks[0].got - publisher.published_at
    order = {frame.digest: index for index, frame in enumerate(frames.of_file(ffmpeg.source(FULL_HD), "video"))}
    delays = []
    for chunk in video.chunks:
        if chunk.part < 0 or chunk.got - publisher.published_at < 3:
            continue
        sent = publisher.sent[order[video.chunk_frames(chunk)[0].digest]][1]
        delays.append(chunk.got - sent)
    return first, delays
