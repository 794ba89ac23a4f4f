"""Round after round of a loop, on a clock that is moved by hand and with sources that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.errors import Unavailable
from appliance.media.clock import Clock
from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder.demux import Demuxers, Slate
from appliance.transcoder.demux_messages import MakeSlate
from appliance.transcoder.playout.feeds import Feed
from appliance.transcoder.playout.model import ChannelStream, Item, Program, Schedule
from appliance.transcoder.playout.player import Player
from appliance.transcoder.playout.timetable import Entry
from tests.transcoder.playout.taker import Taker

SECOND = 1_000_000_000
FRAME = SECOND // 25
WALL = 1_700_000_000 * SECOND
TRACK = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000, width=64, height=64, frame_rate=25)


def monotonic() -> int:
    """The time of the test's own clock."""
    return round(trio.current_time() * 1e9)


CLOCK = Clock(monotonic, lambda: WALL + monotonic())


class Film(Feed):
    """So many seconds of it, all at hand at once, as of a file that is read ahead."""

    def __init__(self, seconds: float) -> None:
        super().__init__([TRACK])
        self._frames = round(seconds * SECOND / FRAME)

    async def _fill(self) -> None:
        for number in range(self._frames):
            self._add(TRACK, number * 3600, number * 3600, 3600, number % 25 == 0, b"film")
        self._end()

    def _let_go(self) -> None:
        """There is nothing behind it."""


class Camera(Film):
    """Gives a frame when it is time for it, for ever; after ``within`` seconds."""

    def __init__(self, within: float = 0) -> None:
        super().__init__(0)
        self._within = within

    async def _fill(self) -> None:
        await trio.sleep(self._within)
        number = 0
        while True:
            self._add(TRACK, number * 3600, number * 3600, 3600, number % 25 == 0, b"camera")
            self._wake()
            number += 1
            await trio.sleep(FRAME / 1e9)


class Broken(Film):
    async def _fill(self) -> None:
        raise KeyError("a fault of ours")


class Rig(Player):
    """A player of made-up sources."""

    opened = 0

    async def _open(self, entry: Entry) -> Feed:
        await trio.lowlevel.checkpoint()
        self.opened += 1
        place = entry.item.place
        if place == "film":
            return Film(2)
        if place == "camera":
            return Camera()
        if place == "slow":
            return Camera(1.8)
        if place == "tardy":
            return Camera(4.2)
        if place == "mute":
            return Camera(60)
        if place == "broken":
            return Broken(0)
        if place == "late" and self.opened > 6:
            return Camera()
        if place == "other":
            raise Unavailable("not on the air")
        if place == "bug":
            raise ZeroDivisionError("a fault of ours")
        raise Unavailable("no such thing")


class NoDemuxers(Demuxers):
    async def slates(self, job: MakeSlate) -> list[Slate]:
        await trio.lowlevel.checkpoint()
        return [Slate(TRACK, (b"black",), FRAME)]


async def seen(
    seconds: float, *items: Item, fallback: tuple[Item, ...] = (), repeat: bool = True, tmp_path: Path
) -> list[tuple[str, float]]:
    """What was on and for how many seconds, black as "", by looks 20 ms apart."""
    program = Program("p", "", CLOCK.wall(), repeat, items)
    stand_in = Program("fallback", "", 0, True, fallback) if fallback else None
    wanted = Schedule(ChannelStream("tv", audio_track=False), (program,), stand_in)
    player = Rig(wanted, label="default/app/tv", root=tmp_path, demuxers=NoDemuxers(), find=lambda *_: None,
                 clock=CLOCK, open_input=Taker)  # fmt: skip
    found: list[tuple[str, int]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(player.run, lambda: None)
        for _ in range(round(seconds * 50)):
            await trio.sleep(0.02)
            air = player.on_air
            if air is None:
                continue
            name = air.entry.item.place if air.entry is not None else ""
            if not found or found[-1][0] != name:
                found.append((name, 0))
            found[-1] = name, found[-1][1] + 1
        nursery.cancel_scope.cancel()
    return [(name, looks / 50) for name, looks in found]


FILM, CAMERA = Item("file://film"), Item("stream://camera", 0, 2000)


@pytest.mark.parametrize("film", [FILM, Item("file://film", 0, 2000)], ids=["to its end", "by duration"])
async def test_a_live_item_is_on_for_its_whole_time_in_every_round(
    film: Item, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    found = await seen(21, film, CAMERA, tmp_path=tmp_path)
    assert [name for name, _ in found] == ["film", "camera"] * 5 + ["film"]
    assert all(seconds == pytest.approx(2, abs=0.35) for _, seconds in found[:-1]), found


async def test_an_item_that_was_long_in_coming_is_on_for_its_whole_time(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    found = await seen(16, Item("stream://slow", 0, 2000), FILM, tmp_path=tmp_path)
    assert {name for name, _ in found} >= {"slow", "film"}
    assert all(seconds > 1.6 for name, seconds in found[:-1] if name), found


@pytest.mark.parametrize("kind", ["broken", "bug"])
async def test_a_fault_of_ours_costs_the_item_alone(
    kind: str, autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = await seen(8, FILM, Item(f"file://{kind}", fallback_on_err=False), fallback=(FILM,), tmp_path=tmp_path)
    assert sum(seconds for _, seconds in found) > 7
    assert any("a fault of ours" in (record.exc_text or record.getMessage()) for record in caplog.records)


async def test_the_fallback_stands_in_while_an_item_is_waited_for(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """A live stream without a key frame may take long to be given up."""
    found = await seen(24, FILM, Item("stream://mute", 0, 2000), fallback=(FILM,), tmp_path=tmp_path)
    assert [name for name, seconds in found if not name and seconds > 1.2] == [], found


async def test_a_program_that_is_over_stays_over(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    """Whether or not its length was known before."""
    found = await seen(12, FILM, CAMERA, repeat=False, fallback=(Item("stream://other", 0, 60_000),), tmp_path=tmp_path)
    assert [name for name, _ in found] == ["film", "camera", ""]


async def test_black_is_left_when_the_item_can_be_played_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    found = await seen(16, FILM, Item("stream://late", 0, 2000), tmp_path=tmp_path)
    assert [name for name, _ in found][:4] == ["film", "", "late", "film"]
    assert all(seconds > 1.6 for name, seconds in found[:-1] if name == "late"), found


async def test_what_got_ready_after_its_time_does_not_cut_the_fallback(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """The plan is known for all items: the slow one's second is over when it is there."""
    items = (Item("file://film", 0, 2000), Item("stream://tardy", 0, 1000))
    found = await seen(14, *items, fallback=(Item("stream://camera", 0, 60_000),), tmp_path=tmp_path)
    assert "tardy" not in [name for name, _ in found]
    assert all(seconds < 0.5 for name, seconds in found if not name), found
