"""Following a live playlist, in virtual time: when it is asked for again, what is given up, what goes on."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from appliance.errors import Unavailable
from appliance.media.codecs import aac
from appliance.media.contracts import Source
from appliance.protocols.fmp4 import fragment, init_segment
from appliance.protocols.m3u8 import ByteRange, Key, Map, MediaPlaylist, Segment
from appliance.providers.hls.fetch import MOST_SEGMENT, Fetcher
from appliance.providers.hls.follow import Follower
from appliance.providers.hls.lane import Lane, Signal
from appliance.providers.hls.names import TrackNames
from appliance.providers.hls.player import Player
from tests.kit.recording_directory import RecordedInput, RecordingDirectory

TRACK = aac.track_from_config(1, bytes.fromhex("1190"))
HEAD = init_segment(TRACK)
#: Sound frames a segment: 2 s.
FRAMES = 94
TARGET = 2.0


def media(number: int, start: float = 0.0) -> bytes:
    run = [value for _ in range(FRAMES) for value in (1024, 4)]
    time = round(start * 48_000) + number * FRAMES * 1024
    return fragment(1, time, run, [number.to_bytes(4, "big")] * FRAMES, video=False)


@dataclass
class Origin(Fetcher):
    """A live playlist of 5 segments that gets one more every 2 s, until it ``stops``; without a socket."""

    stops: float = 1e9
    ends: float = 1e9
    counts_from: Callable[[], int] = lambda: 0
    starts: Callable[[int], float] = lambda number: 0.0
    lost: frozenset[int] = frozenset()
    loads: list[float] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    began: float = field(default_factory=trio.current_time)

    @property
    def age(self) -> float:
        return trio.current_time() - self.began

    async def playlist(self, url: str, within: float) -> tuple[str, MediaPlaylist]:
        self.loads.append(round(self.age, 2))
        newest = 5 + int(min(self.age, self.stops, self.ends) / TARGET)
        segments = [
            Segment(number + self.counts_from(), 0, f"{number}", FRAMES * 1024 / 48_000, map=Map("init"))
            for number in range(newest - 5, newest)
        ]
        return url, MediaPlaylist(TARGET, segments, self.age >= self.ends, segments[0].number)

    async def media(
        self, base: str, uri: str, place: ByteRange | None, key: Key | None, number: int, within: float,
        most: int = MOST_SEGMENT,
    ) -> bytes:  # fmt: skip
        if uri == "init":
            return HEAD
        self.asked.append(int(uri))
        await trio.sleep(0.1)
        if int(uri) in self.lost:
            raise Unavailable("not there")
        return media(int(uri), self.starts(int(uri)))


@dataclass
class Playing:
    origin: Origin
    target: RecordedInput
    fault: Exception | None = None
    over: bool = False

    @property
    def numbers(self) -> list[int]:
        """The segments that were played, in order."""
        numbers = (int.from_bytes(each.payload, "big") for each in self.target.sent)
        return [number for number, _ in itertools.groupby(numbers)]


@asynccontextmanager
async def playing(**how: object) -> AsyncIterator[Playing]:
    origin = Origin(**how)  # type: ignore[arg-type]
    target = RecordingDirectory().open_input("default", "app", "cam", Source("HlsPull"))
    signal = Signal()
    lane = Lane(signal)
    follower = Follower(origin, "http://x/y", lane, TrackNames(), 0, "default/app/cam", 3.0)
    scene = Playing(origin, target)

    async def feed() -> None:
        try:
            await follower.run()
        except Unavailable as error:
            scene.fault = error

    async def play() -> None:
        await Player(target, [lane], signal).run()
        scene.over = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        nursery.start_soon(play)
        yield scene
        nursery.cancel_scope.cancel()


async def test_it_is_reloaded_each_target_duration(autojump_clock: trio.testing.MockClock) -> None:
    async with playing() as scene:
        await trio.sleep(21)
        # At 2 s there is one more; it is looked at again as long as the playlist says.
        assert scene.origin.loads[:4] == [0.0, 2.0, 4.0, 6.0]
        assert len(scene.origin.loads) <= 13
        assert scene.numbers == list(range(2, 2 + len(scene.numbers)))
        assert len(scene.numbers) >= 10
        # By the clock, and never far ahead of what is played.
        assert 20 * 46 <= len(scene.target.sent) <= 21 * 48
        assert max(scene.origin.asked) - scene.numbers[-1] <= 2


async def test_an_unchanged_playlist_is_asked_for_sooner_and_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with playing(stops=0.0) as scene:
        await trio.sleep(30)
    assert scene.origin.loads[:5] == [0.0, 2.0, 3.0, 4.0, 5.0]
    assert scene.numbers == [2, 3, 4]
    assert "the playlist has not changed for 9 s" in str(scene.fault)


async def test_the_rest_is_played_when_it_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with playing(ends=5.0) as scene:
        await trio.sleep(30)
        assert (scene.over, scene.fault, scene.numbers) == (True, None, [2, 3, 4, 5, 6])
        assert len(scene.target.sent) == 5 * FRAMES


async def test_a_server_that_counts_anew_is_followed(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with playing(counts_from=lambda: 1000 if trio.current_time() - began < 9 else 0) as scene:
        await trio.sleep(30)
        assert scene.fault is None
        assert scene.numbers[-1] >= 12
        times = [each.dts for each in scene.target.sent]
        assert all(after > before for before, after in itertools.pairwise(times[-FRAMES * 5 :]))


async def test_a_clock_that_jumps_without_a_word_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    async with playing(starts=lambda number: 5000.0 if number > 4 else 0.0) as scene:
        await trio.sleep(15)
        times = [each.dts for each in scene.target.sent]
        assert {after - before for before, after in itertools.pairwise(times)} <= {1023, 1024, 1025}
        assert len(scene.numbers) >= 6


async def test_a_segment_that_is_gone_is_left_out_and_three_are_too_many(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with playing(lost=frozenset({4})) as scene:
        await trio.sleep(20)
        assert scene.fault is None
        assert scene.numbers[:4] == [2, 3, 5, 6]
        assert scene.origin.asked.count(4) == 3
    async with playing(lost=frozenset({4, 5, 6})) as scene:
        await trio.sleep(30)
    assert str(scene.fault) == "not there"
    assert scene.numbers == [2, 3]
