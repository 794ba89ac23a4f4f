"""The other stream: it runs while something is done to its neighbours, and afterwards proves that it lost nothing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction

import trio

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import LONG, Ffmpeg
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient

#: A frame of 30 a second lasts 33.3 ms, RTMP counts whole milliseconds.
FRAME_MS = Fraction(1, 30) + Fraction(1, 1000)


_numbers = itertools.count()


@dataclass
class Witness:
    """A published stream and its viewer."""

    kiln: KilnProcess
    name: str
    publisher: Ffmpeg
    client: LlhlsClient

    async def go_on(self, seconds: float = 2) -> None:
        """Let it run until ``seconds`` more have been delivered; late delivery is a failure too."""
        try:
            await self.client.wait_seconds(seconds, within=seconds + 5)
        except trio.TooSlowError:
            raise AssertionError(f"the other stream stands still\n{self.kiln.said()}") from None

    def check(self) -> int:
        """Every frame since the start is there once, in order, unaltered, without a gap in time. How many."""
        source = frames.of_file(ffmpeg.source(LONG), "video")
        video = self.client.video
        got = video.frames()
        assert got, "the other stream delivered nothing"
        assert video.missed == video.gaps == 0
        assert not self.client.cut_off
        assert video.held_back == 0, "the server had to say 503"
        assert frames.run_in(got, source) == 0, "the beginning is missing"
        assert frames.longest_step(got) <= FRAME_MS
        sound = self.client.audio.frames()
        frames.run_in(sound, frames.of_file(ffmpeg.source(LONG), "audio"))
        assert frames.longest_step(sound) <= Fraction(1024, 48000) + Fraction(1, 500)
        assert not any(chunk.discontinuity for chunk in video.chunks[1:])
        return len(got)


@asynccontextmanager
async def witness(kiln: KilnProcess, name: str = "", *, app: str = "app") -> AsyncIterator[Witness]:
    """Publish and view a stream; on leaving, check that it lost no frame (unless the block itself failed).

    Without a ``name`` it has one that no witness had before.
    """
    name = name or f"witness{next(_numbers)}"
    client = LlhlsClient(kiln.hls(name, app=app))
    with ffmpeg.publish(ffmpeg.source(LONG), kiln.rtmp(name, app)) as publisher:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            seen = Witness(kiln, name, publisher, client)
            await client.wait(lambda: bool(client.tracks) and all(track.chunks for track in client.tracks), 15)
            yield seen
            await seen.go_on(2)
            nursery.cancel_scope.cancel()
        seen.check()
