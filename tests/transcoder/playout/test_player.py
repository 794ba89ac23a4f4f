"""Real files one after the other: every frame there, on one time, whatever a file lacks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from appliance.errors import KilnError, Unavailable
from appliance.media.clock import Clock
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec
from appliance.transcoder.demux import Demuxers, OpenedFile
from appliance.transcoder.demux_messages import Kind
from appliance.transcoder.playout.model import ChannelStream, Item, Program, Schedule
from appliance.transcoder.playout.player import Player
from tests.transcoder.playout.taker import Taker

SECOND = 1_000_000_000


def schedule(
    *items: Item, repeat: bool = True, fallback: tuple[Item, ...] = (), begins: int | None = None, name: str = "p"
) -> Schedule:
    program = Program(name, "", time.time_ns() if begins is None else begins, repeat, items)
    return Schedule(ChannelStream("tv"), (program,), Program("fallback", "", 0, True, fallback) if fallback else None)


@dataclass
class Playing:
    player: Player
    taker: Taker


def on_air(playing: Playing) -> str:
    """Program and item, "" for black."""
    air = playing.player.on_air
    return "" if air is None or air.entry is None else f"{air.entry.program.name} {air.entry.item.url}"


async def play(
    wanted: Schedule, media: Path, seconds: float, *, find: Callable[[str, str, str], Stream | None] = lambda *_: None,
    meanwhile: Callable[[Playing], Iterator[float]] | None = None, demuxers: Demuxers | None = None,
) -> Playing:  # fmt: skip
    """Play for ``seconds`` from its first frame on; ``meanwhile`` is run beside it and yields its sleeps."""
    taker = Taker()
    began = trio.Event()

    def open_input() -> Taker:
        began.set()
        return taker

    demuxers = demuxers or Demuxers()
    player = Player(wanted, label=taker.label, root=media, demuxers=demuxers, find=find, clock=Clock(),
                    open_input=open_input)  # fmt: skip
    playing = Playing(player, taker)

    async def run() -> None:
        await player.run(lambda: None)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with trio.fail_after(10):
                await began.wait()
            ends = trio.current_time() + seconds
            for pause in meanwhile(playing) if meanwhile else ():
                await trio.sleep(pause)
            await trio.sleep_until(ends)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await demuxers.close()
    return playing


@asynccontextmanager
async def aclosing_demuxers(demuxers: Demuxers) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await demuxers.close()


async def payloads(media: Path, name: str) -> list[bytes]:
    """The pictures of a file in the order of decoding."""
    demuxers = Demuxers()
    opened = await demuxers.open(media, media / name)
    video = next(track.id for track in opened.tracks if track.is_video)
    found = []
    while (frame := await opened.read()) is not None:
        if frame.kind is Kind.PACKET and frame.track == video:
            found.append(frame.payload)
    await demuxers.close()
    return found


async def test_files_follow_each_other_without_a_hole(media: Path) -> None:
    """B-frames, none, and sound of its own rate: each frame of each file, in order, sound with picture."""
    files = ("b-frames.mp4", "plain.mp4")
    playing = await play(schedule(*(Item(f"file://{name}") for name in files)), media, 5.6)
    taker = playing.taker
    for video in (True, False):
        taker.check_continuous(video=video, until=5)
    expected = [payload for name in files for payload in await payloads(media, name)]
    sent = [each.payload for each in taker.taken if each.track.is_video]
    assert sent[: len(expected)] == expected
    # The sound is where it belongs: at each cut within half a frame of the picture.
    for cut in (2.0, 5.0):
        near = min(abs(each.pts - cut) for each in taker.of(video=False))
        assert near < 0.011
    assert [track.id for track in taker.tracks] == [0, 100]
    assert taker.closed


async def test_what_a_file_lacks_is_filled(media: Path) -> None:
    items = (Item("file://silent.mp4"), Item("file://dark.m4a"), Item("file://short-sound.mp4"))
    playing = await play(schedule(*items), media, 6.2)
    taker = playing.taker
    for video in (True, False):
        taker.check_continuous(video=video, until=5.9)
    black = [each for each in taker.of(video=True) if 2 <= each.pts < 3.9]
    assert black[0].keyframe
    assert max(len(each.payload) for each in black) < 2000
    # Stereo, where no file has told otherwise; mono, as the files have it, from then on.
    assert [track.channels for track in dict.fromkeys(each.track for each in taker.of(video=False))] == [2, 1]


async def test_a_cut_by_duration_is_on_a_frame_and_keeps_the_plan(media: Path) -> None:
    items = (Item("file://plain.mp4", 0, 1010), Item("file://b-frames.mp4", 0, 1010))
    playing = await play(schedule(*items), media, 4.6)
    taker = playing.taker
    for video in (True, False):
        taker.check_continuous(video=video, until=4)
    starts = [each.pts for each in taker.of(video=True, until=4.2) if each.keyframe and len(each.payload) > 3000]
    assert len(starts) >= 4


async def test_the_fallback_plays_until_the_item_can(media: Path) -> None:
    late = media / "late.mp4"
    late.unlink(missing_ok=True)

    def arrives(playing: Playing) -> Iterator[float]:
        yield 1.5
        assert on_air(playing) == "fallback file://silent.mp4"
        assert "late.mp4" in playing.player.trouble
        late.write_bytes((media / "plain.mp4").read_bytes())
        yield 2
        assert on_air(playing) == "p file://late.mp4"
        assert not playing.player.trouble

    wanted = schedule(Item("file://late.mp4"), fallback=(Item("file://silent.mp4"),))
    playing = await play(wanted, media, 4, meanwhile=arrives)
    for video in (True, False):
        playing.taker.check_continuous(video=video, until=3.5)


async def test_nothing_to_play_is_black_and_not_the_end(media: Path) -> None:
    playing = await play(schedule(Item("file://silent.mp4"), Item("file://nonsense.mp4")), media, 3.2)
    for video in (True, False):
        playing.taker.check_continuous(video=video, until=2.8)
    assert "nonsense.mp4" in playing.player.trouble


class SlowDisk(Demuxers):
    """One file takes longer to open than the item before it lasts."""

    async def open(self, root: Path, path: Path, start: int = 0) -> OpenedFile:
        if path.name == "silent.mp4":
            await trio.sleep(2.5)
        return await super().open(root, path, start)


async def test_an_item_that_is_late_takes_over_from_black(media: Path) -> None:
    def look(playing: Playing) -> Iterator[float]:
        yield 1.8
        assert on_air(playing) == ""
        yield 2
        assert on_air(playing) == "p file://silent.mp4"

    wanted = schedule(Item("file://plain.mp4", 2000, 1000), Item("file://silent.mp4"))
    playing = await play(wanted, media, 4, meanwhile=look, demuxers=SlowDisk())
    for video in (True, False):
        playing.taker.check_continuous(video=video, until=3.7)


async def test_a_change_leaves_what_is_on_the_air_alone(media: Path) -> None:
    items = (Item("file://plain.mp4", 0, 3000), Item("file://silent.mp4", 0, 1000))
    begins = time.time_ns()

    def changes(playing: Playing) -> Iterator[float]:
        yield 0.8
        playing.player.change(schedule(items[0], Item("file://b-frames.mp4"), begins=begins))
        yield 1
        air = playing.player.on_air
        assert air is not None
        assert air.entry is not None
        assert air.entry.index == 0
        assert 1.5 < air.position / SECOND < 3

    playing = await play(schedule(*items, begins=begins), media, 4, meanwhile=changes)
    taker = playing.taker
    for video in (True, False):
        taker.check_continuous(video=video, until=3.7)
    sent = [each.payload for each in taker.taken if each.track.is_video]
    assert sum(payload in sent for payload in await payloads(media, "b-frames.mp4")) > 10


async def test_a_change_to_something_else_is_made_at_once(media: Path) -> None:
    def changes(playing: Playing) -> Iterator[float]:
        yield 0.8
        playing.player.change(schedule(Item("file://b-frames.mp4"), name="other"))
        yield 0.8
        air = playing.player.on_air
        assert air is not None
        assert air.entry is not None
        assert air.entry.program.name == "other"

    playing = await play(schedule(Item("file://plain.mp4")), media, 2.2, meanwhile=changes)
    for video in (True, False):
        playing.taker.check_continuous(video=video, until=1.9)


async def test_a_live_stream_between_files(media: Path) -> None:
    """Its pictures at the pace of their source, from a key frame on; when it goes the fallback comes."""
    taker = Taker()
    live: list[Stream] = []
    begun = trio.Event()

    async def source() -> None:
        demuxers = Demuxers()
        player = Player(
            schedule(Item("file://plain.mp4")), label="default/app/live", root=media, demuxers=demuxers,
            find=lambda *_: None, clock=Clock(), open_input=lambda: taker,
        )  # fmt: skip
        async with aclosing_demuxers(demuxers), trio.open_nursery() as nursery:

            async def relay() -> None:
                await taker.prepared.wait()
                stream = Stream("default/app/live", taker.tracks)
                live.append(stream)
                begun.set()
                sent = 0
                while not stream.closed:
                    for each in taker.taken[sent:]:
                        scale = each.track.timescale
                        pts, dts = max(0, round(each.pts * scale)), max(0, round(each.dts * scale))
                        stream.publish(Packet(each.track, pts, dts, 0, each.keyframe, each.payload))
                    sent = len(taker.taken)
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()

            nursery.start_soon(relay)
            await player.run(lambda: None)

    async def run_source() -> None:
        try:
            await source()
        except* KilnError:
            pass

    def goes(playing: Playing) -> Iterator[float]:
        yield 3.0
        air = playing.player.on_air
        assert air is not None
        assert air.entry is not None
        assert air.entry.item.live
        live[0].close()
        yield 1.5
        air = playing.player.on_air
        assert air is not None
        assert air.entry is not None
        assert air.entry.fallback

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_source)
        await begun.wait()
        wanted = schedule(
            Item("file://b-frames.mp4"), Item("stream://default/app/live"), fallback=(Item("file://silent.mp4"),)
        )
        playing = await play(wanted, media, 5.5, find=lambda *_: live[0], meanwhile=goes)
        nursery.cancel_scope.cancel()
    playing.taker.check_continuous(video=True, until=5)
    playing.taker.check_continuous(video=False, until=5)


async def test_other_codecs_take_part(media: Path) -> None:
    playing = await play(schedule(Item("file://plain.mp4", 0, 1000), Item("file://hevc.mkv", 0, 1000)), media, 1.9)
    codecs = [each.track.codec for each in playing.taker.of(video=True)]
    assert {Codec.H264, Codec.H265} == set(codecs)
    assert {0, 1} <= {each.track.generation for each in playing.taker.of(video=True)}


async def test_it_is_joined_where_the_clock_is(media: Path) -> None:
    begins = time.time_ns() - SECOND

    def look(playing: Playing) -> Iterator[float]:
        yield 0.3
        air = playing.player.on_air
        assert air is not None
        # From the key frame before.
        assert 1 <= air.position / SECOND < 2.9

    await play(schedule(Item("file://plain.mp4", 0, 3000), begins=begins), media, 0.5, meanwhile=look)


async def test_the_engine_may_end_it(media: Path) -> None:
    def ends(playing: Playing) -> Iterator[float]:
        yield 0.3
        playing.taker.cancel("deleted over the API")

    with pytest.RaisesGroup(pytest.RaisesExc(Unavailable, match="deleted over the API"), flatten_subgroups=True):
        await play(schedule(Item("file://plain.mp4")), media, 2, meanwhile=ends)
