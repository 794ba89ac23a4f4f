"""The hub: bounded readers, GOP start, drop to a key frame, memory."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from appliance.media.clock import Clock
from appliance.media.packet import Packet
from appliance.media.stream import GOP_PACKETS, LONELY_PACKETS, Reader, Stream
from appliance.media.track import Codec, MediaType, Track

VIDEO = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000)
AUDIO = Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48_000)


def video(number: int, keyframe: bool = False, size: int = 10) -> Packet:
    return Packet(VIDEO, number, number, 1, keyframe, bytes(size))


def sound(number: int) -> Packet:
    return Packet(AUDIO, number, number, 1, True, b"sound")


def stream(*tracks: Track) -> Stream:
    return Stream("default/app/cam", tracks or (VIDEO, AUDIO))


def gops(hub: Stream, count: int, length: int, size: int = 10, start: int = 0) -> None:
    for number in range(start, start + count * length):
        hub.publish(video(number, number % length == 0, size))


async def waiting(reader: Reader) -> list[int]:
    return [packet.dts for packet in await reader.receive()]


async def follow(reader: Reader, rounds: list[list[int]]) -> None:
    async for packets in reader:
        rounds.append([packet.dts for packet in packets])  # noqa: PERF401 (seen while it goes on)


async def test_every_reader_gets_the_same_objects_in_order() -> None:
    hub = stream()
    readers = [hub.reader(name) for name in "ab"]
    sent = [video(0, True), sound(0), video(1), sound(1)]
    for packet in sent:
        hub.publish(packet)
    for reader in readers:
        received = await reader.receive()
        assert all(got is packet for got, packet in zip(received, sent, strict=True))
    assert (hub.packets, hub.bytes) == (4, 30)


async def test_a_new_reader_starts_at_the_last_key_frame_and_goes_on_from_there() -> None:
    hub = stream()
    gops(hub, 2, 5)
    hub.publish(sound(3))
    reader = hub.reader("late")
    hub.publish(video(10))
    received = await reader.receive()
    got = [(packet.track.id, packet.dts) for packet in received]
    assert got == [(0, 5), (0, 6), (0, 7), (0, 8), (0, 9), (1, 3), (0, 10)]
    assert received[0].keyframe


async def test_sinks_get_what_came_since_the_last_key_frame_too() -> None:
    hub = stream()
    gops(hub, 2, 3)
    seen: list[int] = []
    hub.add_sink(lambda packet: seen.append(packet.dts))
    hub.publish(video(6))
    assert seen == [3, 4, 5, 6]


async def test_a_reader_never_starts_with_a_picture_that_cannot_be_decoded() -> None:
    hub = stream()
    hub.publish(video(1))
    reader = hub.reader("late")
    hub.publish(video(2))
    hub.publish(video(3, keyframe=True))
    assert await waiting(reader) == [3]
    assert (reader.dropped, reader.lapses) == (0, 0)


async def test_sound_before_the_first_picture_is_heard() -> None:
    hub = stream()
    reader = hub.reader("early")
    hub.publish(sound(0))
    hub.publish(video(1, keyframe=True))
    assert await waiting(reader) == [0, 1]


async def test_sound_only_streams_need_no_key_frames() -> None:
    hub = stream(AUDIO)
    for number in range(3):
        hub.publish(Packet(AUDIO, number, number, 1, False, b"x"))
    reader = hub.reader("late")
    hub.publish(Packet(AUDIO, 3, 3, 1, False, b"x"))
    assert await waiting(reader) == [2, 3]


async def test_a_group_of_pictures_too_long_to_keep_makes_newcomers_wait_for_the_next() -> None:
    hub = stream()
    hub.publish(video(0, keyframe=True))
    for number in range(1, GOP_PACKETS + 5):
        hub.publish(video(number))
    reader = hub.reader("late")
    hub.publish(video(9000))
    hub.publish(video(9001, keyframe=True))
    assert await waiting(reader) == [9001]


async def test_a_group_of_pictures_larger_than_the_ring_makes_the_newcomer_wait_for_the_next() -> None:
    hub = stream()
    gops(hub, 1, 20)
    reader = hub.reader("small", max_packets=10)
    assert reader.pending == 0
    hub.publish(video(20))
    hub.publish(video(21, keyframe=True))
    assert await waiting(reader) == [21]


async def test_a_full_ring_drops_to_the_next_key_frame_and_counts() -> None:
    hub = stream()
    reader = hub.reader("slow", max_packets=4)
    gops(hub, 1, 10)
    # 0 to 3 fitted; 4 overflowed and took them with it; up to 9 nothing may be decoded.
    assert (reader.pending, reader.dropped, reader.lapses) == (0, 10, 1)
    gops(hub, 1, 3, start=12)
    assert await waiting(reader) == [12, 13, 14]
    assert (reader.dropped, reader.lapses) == (10, 1)


async def test_a_full_ring_keeps_the_newest_group_of_pictures_it_holds() -> None:
    hub = stream()
    reader = hub.reader("slow", max_packets=10)
    gops(hub, 1, 8)
    gops(hub, 1, 8, start=8)
    assert (reader.dropped, reader.lapses) == (8, 1)
    assert await waiting(reader) == [*range(8, 16)]


async def test_sound_is_dropped_with_its_picture_but_not_for_ever() -> None:
    hub = stream()
    reader = hub.reader("slow", max_packets=2)
    for packet in (video(0, True), video(1), video(2), sound(3)):
        hub.publish(packet)
    assert reader.dropped == 4
    for number in range(4, 4 + 2 * LONELY_PACKETS):
        hub.publish(sound(number))
        if reader.pending:
            break
    assert await waiting(reader) == [4 + LONELY_PACKETS - 1]
    hub.publish(video(5))
    hub.publish(sound(6))
    assert reader.pending == 0


async def test_memory_of_a_reader_that_never_reads_is_bounded() -> None:
    hub = stream()
    reader = hub.reader("stuck", max_bytes=100_000)
    for round_ in range(50):
        gops(hub, 1, 10, size=3_000, start=round_ * 10)
        held = sum(len(packet.payload) for packet in reader._ring)
        assert held == reader._ring_bytes <= 100_000
    assert reader.lapses > 5
    received = await reader.receive()
    assert received[0].keyframe
    assert reader.dropped + len(received) == 500


async def test_a_key_frame_larger_than_the_ring_is_still_offered() -> None:
    hub = stream()
    reader = hub.reader("small", max_bytes=100)
    hub.publish(video(0, keyframe=True, size=5_000))
    assert await waiting(reader) == [0]


async def test_slow_readers_are_logged_at_most_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 0
    hub = Stream("default/app/cam", [VIDEO], clock=Clock(monotonic=lambda: now))
    hub.reader("slow", max_packets=1)
    with caplog.at_level(logging.WARNING, "kiln.stream"):
        gops(hub, 20, 2)
        now += 1_500_000_000
        gops(hub, 20, 2)
    assert len(caplog.records) == 2
    assert "stream=default/app/cam reader=slow" in caplog.text


async def test_a_waiting_reader_wakes_for_a_packet_and_ends_with_the_stream() -> None:
    hub = stream()
    reader = hub.reader("wait")
    rounds: list[list[int]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, reader, rounds)
        await trio.testing.wait_all_tasks_blocked()
        hub.publish(video(0, True))
        hub.publish(video(1))
        await trio.testing.wait_all_tasks_blocked()
        hub.publish(video(2))
        hub.close()
    assert rounds == [[0, 1], [2]]


async def test_an_overflow_between_waking_and_running_does_not_end_the_reader() -> None:
    hub = stream()
    reader = hub.reader("slow", max_packets=2)
    rounds: list[list[int]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, reader, rounds)
        await trio.testing.wait_all_tasks_blocked()
        for packet in (video(0, True), video(1), video(2)):
            hub.publish(packet)
        await trio.testing.wait_all_tasks_blocked()
        hub.publish(video(3, keyframe=True))
        await trio.testing.wait_all_tasks_blocked()
        hub.close()
    assert rounds == [[3]]


async def test_cancelling_a_wait_loses_nothing() -> None:
    hub = stream()
    reader = hub.reader("cancelled")
    with trio.CancelScope() as scope:
        scope.cancel()
        await reader.receive()
    hub.publish(video(0, True))
    assert await waiting(reader) == [0]


async def test_a_closed_reader_is_forgotten_and_a_closed_stream_says_nothing_more() -> None:
    hub = stream()
    reader = hub.reader("gone")
    kept = hub.reader("kept")
    hub.publish(video(0, True))
    reader.close()
    assert hub.readers == (kept,)
    assert await reader.receive() == []
    hub.close()
    hub.publish(video(1, True))
    assert hub.packets == 1
    assert await waiting(kept) == [0]
    assert await kept.receive() == []
    assert await hub.reader("after").receive() == []
    await hub.wait_closed()


async def test_sinks_may_come_and_go_while_packets_are_handed_out() -> None:
    hub = stream()
    seen: list[str] = []

    def once(packet: Packet) -> None:
        seen.append(f"once {packet.dts}")
        hub.remove_sink(once)

    hub.add_sink(once)
    hub.add_sink(lambda packet: seen.append(f"always {packet.dts}"))
    hub.publish(video(0, True))
    hub.publish(video(1))
    assert seen == ["once 0", "always 0", "always 1"]


async def test_a_new_generation_of_a_track_replaces_the_old() -> None:
    hub = stream()
    changed = Track(id=0, generation=1, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000)
    hub.publish(video(0, True))
    hub.publish(Packet(changed, 1, 1, 1, True, b"x"))
    assert hub.tracks[0] is changed
    assert [packet.track for packet in await hub.reader("late").receive()] == [changed]
    assert hub.reference == 0


async def test_a_reader_that_says_when_it_can_go_on_sleeps_until_then() -> None:
    hub = stream()
    rounds: list[list[int]] = []
    reader = hub.reader("packager")
    hub.publish(video(0, keyframe=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, reader, rounds)
        await trio.testing.wait_all_tasks_blocked()
        reader.wake_at = 0.5
        for dts in (9_000, 18_000, 44_999):
            hub.publish(video(dts))
            await trio.testing.wait_all_tasks_blocked()
        assert rounds == [[0]]
        hub.publish(video(45_000))
        await trio.testing.wait_all_tasks_blocked()
        assert rounds[1:] == [[9_000, 18_000, 44_999, 45_000]]
        reader.wake_at = 9.0
        hub.publish(video(54_000, keyframe=True))
        await trio.testing.wait_all_tasks_blocked()
        assert rounds[2:] == [[54_000]]
        hub.publish(video(63_000))
        hub.close()
    assert rounds[3:] == [[63_000]]


async def test_a_sleeping_reader_wakes_before_its_ring_overflows() -> None:
    hub = stream()
    rounds: list[list[int]] = []
    reader = hub.reader("packager", max_packets=10)
    reader.wake_at = 1e9
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, reader, rounds)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(40):
            hub.publish(video(number, keyframe=number == 0))
            await trio.testing.wait_all_tasks_blocked()
        hub.close()
    assert [dts for packets in rounds for dts in packets] == [*range(40)]
    assert reader.lapses == 0


async def test_a_newcomer_gets_what_other_tracks_gave_early_for_the_same_time() -> None:
    other = Track(id=2, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000)
    hub = stream(VIDEO, AUDIO, other)
    hub.publish(video(0, keyframe=True))
    late = Packet(AUDIO, 47_000, 47_000, 1024, True, b"before")
    early = Packet(AUDIO, 48_000, 48_000, 1024, True, b"same time")
    rendition = Packet(other, 90_000, 90_000, 3000, True, b"same time")
    for packet in (late, early, rendition):
        hub.publish(packet)
    key = video(90_000, keyframe=True)
    hub.publish(key)
    assert await hub.reader("newcomer").receive() == [key, early, rendition]
