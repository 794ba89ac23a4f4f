"""A publisher goes and comes back, and nobody who watches loses the stream."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import pytest
import trio

from tests.kit import ffmpeg
from tests.kit.ffmpeg import SMALL, Ffmpeg, publish
from tests.kit.kiln import KilnProcess
from tests.kit.llhls_client import LlhlsClient, Track
from tests.kit.server_xml import LADDER, Application, ServerXml

#: Longest time between two parts for a viewer: a part, and what it may be late.
LONGEST_WAIT = 1.0


@dataclass(frozen=True)
class Held(Application):
    """An application that keeps its streams."""

    rules: str = "<OnInputLoss>hold</OnInputLoss><StallMs>1500</StallMs>"

    def xml(self) -> str:
        return super().xml().replace("<Type>live</Type>", f"<Type>live</Type>{self.rules}")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    applications = (
        Held("app", segment=1, count=20, publishers="<FILE/>"),
        Held("ladder", profiles=LADDER, segment=1, count=20),
        Held("brief", segment=1, rules="<OnInputLoss>hold</OnInputLoss><HoldMs>1000</HoldMs>"),
    )
    with KilnProcess(tmp_path_factory.mktemp("held"), ServerXml(applications)) as process:
        yield process


def is_slate(picture: av.VideoFrame) -> bool:
    """Grey, with nothing moving in its upper corners: the source is a loud pattern with noise."""
    luma = picture.reformat(format="gray8").planes[0]
    stride, view = luma.line_size, bytes(luma)
    corner = [view[line * stride + column] for line in range(0, 16) for column in range(0, 16)]
    return max(corner) - min(corner) < 12 and 36 <= sum(corner) / len(corner) <= 60


def pictures(data: bytes) -> list[bool]:
    """Of an MP4: whether each picture is the slate."""
    with av.open(io.BytesIO(data)) as container:
        return [is_slate(frame) for frame in container.decode(video=0)]


def waits(track: Track) -> float:
    """The longest time between two parts."""
    # Those of the start are there already.
    got = [chunk.got for chunk in track.chunks][2:]
    return max(after - before for before, after in pairwise(got))


def discontinuities(track: Track) -> int:
    """Changes of init section or EXT-X-DISCONTINUITY tags that the reader passed."""
    return sum(
        after.init != before.init or after.discontinuity for before, after in pairwise(track.chunks)
        if after.init != before.init or (after.discontinuity and after.msn != before.msn)
    )


async def watch_a_loss(box: KilnProcess, app: str, name: str, master: str) -> tuple[LlhlsClient, float]:
    """Publish, kill, wait, publish again; the client, and how long the source took to be back after its first frame."""
    client = LlhlsClient(box.hls(name, master, app))
    source = ffmpeg.source(SMALL)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            first = publish(source, box.rtmp(name, app))
            nursery.start_soon(client.run)
            await trio.sleep(6)
            first.kill()
            await trio.sleep(4)
            with publish(source, box.rtmp(name, app)):
                await trio.sleep(5)
            nursery.cancel_scope.cancel()
    return client, 0.0


@pytest.mark.long
@pytest.mark.parametrize(("app", "master", "changes"), [("app", "llhls.m3u8", 2), ("ladder", "ladder.m3u8", 0)])
def test_viewers_see_the_slate_and_then_the_source_again(
    box: KilnProcess, app: str, master: str, changes: int
) -> None:
    client, _ = trio.run(watch_a_loss, box, app, "gone", master)
    assert waits(client.video) <= LONGEST_WAIT
    assert waits(client.audio) <= LONGEST_WAIT
    assert discontinuities(client.video) == changes
    assert client.video.missed == client.audio.missed == 0
    shown = [slate for run in client.video.runs() for slate in pictures(run)]
    assert not any(shown[:60])
    assert not any(shown[-60:])
    first, last = shown.index(True), len(shown) - shown[::-1].index(True)
    assert all(shown[first:last])
    assert 90 <= last - first <= 200, "four seconds of slate, and what the new publisher took to come"
