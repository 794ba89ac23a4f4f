"""Every packet goes into exactly one file, whatever comes late or never."""

from __future__ import annotations

from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.publishers.record.cutter import Cutter, Part

VIDEO = Track(id=1, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=b"1")
SMALL = Track(id=2, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=b"2")
SOUND = Track(id=3, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48000, codec_config=b"3")
SECOND = 1_000_000_000


def pictures(track: Track, count: int, gop: int) -> list[Packet]:
    return [
        Packet(track, number * 3000, number * 3000, 0, number % gop == 0, b"%d:%d" % (track.id, number))
        for number in range(count)
    ]


def sound(count: int) -> list[Packet]:
    return [Packet(SOUND, number * 1024, number * 1024, 1024, True, b"3:%d" % number) for number in range(count)]


def files(cutter: Cutter, packets: list[Packet]) -> list[list[Packet]]:
    order: list[Part] = []
    filled: dict[Part, list[Packet]] = {}
    closed: list[Part] = []

    def note(what: str, part: Part, taken: list[Packet]) -> None:
        assert part not in closed
        if part not in filled:
            order.append(part)
        filled.setdefault(part, []).extend(taken)
        if what == "close":
            closed.append(part)

    for packet in packets:
        for action in cutter.add(packet):
            note(*action)
    for action in cutter.end():
        note(*action)
    assert closed == order
    return [filled[part] for part in order]


@given(st.integers(-30_000, 60_000), st.integers(-3000, 3000))
def test_each_packet_is_in_one_file(delay: int, offset: int) -> None:
    """Sound that is up to half a second behind in arrival, and a second rendition with key frames of the same times."""
    later = [msgspec.structs.replace(packet, pts=packet.pts + offset, dts=packet.dts + offset) for packet in sound(280)]
    arrivals = sorted(
        [*((Fraction(packet.dts, 90000), packet) for packet in (*pictures(VIDEO, 180, 15), *pictures(SMALL, 180, 15))),
         *((Fraction(packet.dts, 48000) + Fraction(delay, 90000), packet) for packet in later)],
        key=lambda arrival: arrival[0],
    )  # fmt: skip
    packets = [packet for _, packet in arrivals]
    begin = packets.index(next(packet for packet in packets if packet.track is VIDEO))
    cutter = Cutter([VIDEO, SMALL, SOUND], lambda elapsed: elapsed >= SECOND)
    found = files(cutter, packets)
    assert len(found) == 6
    payloads = [packet.payload for each in found for packet in each]
    assert len(payloads) == len(set(payloads))
    assert set(payloads) == {packet.payload for packet in packets[begin:]}
    assert cutter.skipped == 0
    for each in found:
        for track_id in (1, 2):
            first = next(packet for packet in each if packet.track.id == track_id)
            assert first.keyframe
            assert first.pts == 0
        heard = [packet for packet in each if packet.track is SOUND]
        assert all(packet.duration == 1024 for packet in heard)


def test_sound_that_ends_does_not_keep_the_file_before_open() -> None:
    packets = sorted([*pictures(VIDEO, 300, 30), *sound(30)], key=lambda packet: packet.dts / packet.track.timescale)
    found = files(Cutter([VIDEO, SOUND], lambda elapsed: elapsed >= SECOND), packets)
    assert sum(len(each) for each in found) == 330
    assert len(found) == 10


def test_a_long_group_of_pictures_is_not_split() -> None:
    found = files(Cutter([VIDEO], lambda elapsed: elapsed >= SECOND), pictures(VIDEO, 300, 100))
    assert [len(each) for each in found] == [100, 100, 100]


def test_sound_alone_is_split_anywhere() -> None:
    found = files(Cutter([SOUND], lambda elapsed: elapsed >= SECOND), sound(141))
    assert [len(each) for each in found] == [47, 47, 47]


def test_what_a_file_can_not_describe_waits_for_the_next_key_frame() -> None:
    packets = pictures(VIDEO, 90, 30)
    changed = msgspec.structs.replace(VIDEO, generation=1, codec_config=b"other")
    mixed = [*packets[:40], *(msgspec.structs.replace(packet, track=changed) for packet in packets[40:])]
    cutter = Cutter([VIDEO], lambda elapsed: False)
    found = files(cutter, mixed)
    assert [len(each) for each in found] == [40, 30]
    assert cutter.skipped == 20
