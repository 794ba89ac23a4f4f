from __future__ import annotations

import io
import subprocess
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.media.codecs.nal import join_prefixed, split_annexb
from appliance.media.events import Conclusion, TimedMetadata, event_packet
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols.mpegts.muxer import TIME_OFFSET, Muxer
from appliance.protocols.mpegts.psi import crc32, section, section_packets
from tests.kit.ffmpeg import FFMPEG
from tests.publishers.llhls.media import encoded

PICTURES = (Codec.H264, Codec.H265)
SOUNDS = (Codec.AAC, Codec.OPUS)


def interleaved(*runs: tuple[Packet, ...]) -> list[Packet]:
    return sorted(
        (packet for run in runs for packet in run), key=lambda one: Fraction(one.dts, one.track.timescale)
    )


def muxed(packets: list[Packet], tracks: list[Track]) -> bytes:
    muxer = Muxer(tracks)
    return b"".join(map(muxer.packet, packets))


def packets_of(data: bytes) -> list[bytes]:
    assert len(data) % 188 == 0
    cut = [data[at : at + 188] for at in range(0, len(data), 188)]
    assert all(one[0] == 0x47 for one in cut)
    return cut


def pid_of(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def assert_continuous(data: bytes) -> None:
    counters: dict[int, int] = {}
    for packet in packets_of(data):
        pid, count = pid_of(packet), packet[3] & 15
        if packet[3] & 0x10:
            assert counters.get(pid, count - 1 & 15) == count - 1 & 15
        counters[pid] = count


def references(data: bytes) -> list[int]:
    """All clock references, at 90 kHz."""
    return [
        int.from_bytes(packet[6:12], "big") >> 15
        for packet in packets_of(data)
        if packet[3] & 0x20 and packet[4] and packet[5] & 0x10
    ]


def assert_decodes_silently(data: bytes) -> None:
    command = [FFMPEG, "-v", "warning", "-f", "mpegts", "-i", "-", "-f", "null", "-"]
    check = subprocess.run(command, input=data, capture_output=True, timeout=60)
    assert (check.returncode, check.stderr) == (0, b"")


def ticks(value: int, track: Track) -> int:
    return value * 90_000 // track.timescale + TIME_OFFSET


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("sound", SOUNDS)
def test_a_demuxer_gets_every_frame_at_its_time(picture: Codec, sound: Codec) -> None:
    video, pictures = encoded(picture)
    audio, sounds = encoded(sound, 80)
    data = muxed(interleaved(pictures, sounds), [video, audio])
    assert_continuous(data)
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        found: dict[int, list[Any]] = {0: [], 1: []}
        for packet in container.demux():
            if packet.pts is not None:
                found[packet.stream_index].append(packet)
        assert [(one.pts, one.dts) for one in found[0]] == [
            (ticks(one.pts, video), ticks(one.dts, video)) for one in pictures
        ]
        assert [one.pts for one in found[1]] == [ticks(one.pts, audio) for one in sounds]
        assert [bool(one.is_keyframe) for one in found[0]] == [one.keyframe for one in pictures]
        for got, sent in zip(found[0], pictures, strict=True):
            # The picture's own units are the last ones, unchanged and in order.
            own = split_annexb(bytes(got))
            assert join_prefixed(own).endswith(sent.payload)
    assert_decodes_silently(data)


@pytest.mark.parametrize("codec", [*PICTURES, *SOUNDS])
def test_one_track_alone_decodes_without_a_word(codec: Codec) -> None:
    track, packets = encoded(codec)
    data = muxed(list(packets), [track])
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        assert len(list(container.decode(container.streams[0]))) >= len(packets) - 1
    assert_decodes_silently(data)


@pytest.mark.parametrize("step", [1, 3, 8])
def test_clock_references_are_close_together_and_before_the_media(step: int) -> None:
    video, pictures = encoded(Codec.H264)
    audio, sounds = encoded(Codec.AAC, 90)
    # Every step-th picture alone: with few pictures a second the sound carries the clock on.
    data = muxed(interleaved(pictures[::step], sounds), [video, audio])
    found = references(data)
    assert all(0 < late - early <= 9_000 for early, late in pairwise(found))
    assert found[0] < ticks(pictures[0].dts, video)


def test_tables_come_before_each_key_frame_and_every_100_ms() -> None:
    video, pictures = encoded(Codec.H264)
    muxer = Muxer([video])
    since = 0
    for packet in pictures:
        cut = packets_of(muxer.packet(packet))
        has_tables = pid_of(cut[0]) == 0
        if has_tables:
            assert pid_of(cut[1]) == 0x100
            since = packet.dts
        assert has_tables or not packet.keyframe
        assert packet.dts - since <= 9_000


def test_tables_that_were_asked_for_are_not_doubled() -> None:
    video, pictures = encoded(Codec.H264)
    muxer = Muxer([video])
    assert [pid_of(one) for one in packets_of(muxer.tables())] == [0, 0x100]
    assert pid_of(packets_of(muxer.packet(pictures[0]))[0]) == 0x101


def test_a_new_codec_configuration_is_a_new_version_of_the_map_with_its_parameter_sets() -> None:
    first, pictures = encoded(Codec.H264)
    second, others = encoded(Codec.H265)
    changed = msgspec.structs.replace(second, id=first.id, generation=1)
    offset = pictures[-1].dts + 3_000
    more = [
        Packet(changed, one.pts + offset, one.dts + offset, one.duration, one.keyframe, one.payload) for one in others
    ]
    muxer = Muxer([first])
    before = b"".join(map(muxer.packet, pictures))
    after = b"".join(map(muxer.packet, more))
    assert_continuous(before + after)
    maps = [one for one in packets_of(before + after) if pid_of(one) == 0x100]
    assert {(one[10] >> 1 & 31, one[17]) for one in maps} == {(0, 0x1B), (1, 0x24)}
    with av.open(io.BytesIO(after), "r", format="mpegts") as container:
        assert len(list(container.decode(container.streams[0]))) == len(others)


def test_timed_metadata_has_a_stream_of_its_own() -> None:
    video, pictures = encoded(Codec.H264)
    muxer = Muxer([video], events=True)
    tag = b"ID3\x04\0\0\0\0\0\x0f" + b"TXXX\0\0\0\x05\0\0\x03a\0b" + b"\0"
    data = b"".join(map(muxer.packet, pictures[:30])) + muxer.id3(90_000, tag)
    data += b"".join(map(muxer.packet, pictures[30:]))
    assert_continuous(data)
    assert muxer.packet(event_packet(TimedMetadata(tag), 1_000))
    assert not muxer.packet(event_packet(Conclusion(), 1_000))
    assert not Muxer([video]).packet(event_packet(TimedMetadata(tag), 1_000))
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        assert [stream.type for stream in container.streams] == ["video", "data"]
        found = [one for one in container.demux(container.streams[1]) if one.pts is not None]
    assert [(one.pts, bytes(one)) for one in found] == [(90_000 + TIME_OFFSET, tag)]


def test_packets_of_other_tracks_are_left_out() -> None:
    video, _ = encoded(Codec.H264)
    _, sounds = encoded(Codec.AAC)
    assert Muxer([video]).packet(sounds[0]) == b""


def test_what_can_not_be_carried_is_refused_with_the_reason() -> None:
    with pytest.raises(BadRequest, match="VP9"):
        Muxer([Track(id=0, media=MediaType.VIDEO, codec=Codec.VP9, timescale=90_000)])
    with pytest.raises(BadRequest, match="H264 track 0"):
        Muxer([Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000)])
    with pytest.raises(BadRequest, match="no track"):
        Muxer([])


def sound_of(size: int, number: int = 0) -> Packet:
    track = Track(id=1, media=MediaType.AUDIO, codec=Codec.MP2, timescale=48_000, sample_rate=48_000)
    return Packet(track, number * 1152, number * 1152, 1152, True, bytes(at % 251 for at in range(size)))


def payload_of(data: bytes, pid: int) -> bytes:
    """What the packets of ``pid`` carry."""
    found = b""
    for packet in packets_of(data):
        if pid_of(packet) == pid and packet[3] & 0x10:
            found += packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    return found


@given(st.lists(st.integers(0, 1200), min_size=1, max_size=8))
def test_units_of_any_size_come_out_whole(sizes: list[int]) -> None:
    packets = [sound_of(size, number) for number, size in enumerate(sizes)]
    muxer = Muxer([packets[0].track])
    same = [Packet(packets[0].track, one.pts, one.dts, one.duration, True, one.payload) for one in packets]
    data = b"".join(map(muxer.packet, same))
    assert_continuous(data)
    carried = payload_of(data, 0x101)
    for size, packet in zip(sizes, packets, strict=True):
        assert carried[:4] == b"\0\0\1\xc0"
        assert int.from_bytes(carried[4:6], "big") == size + 8
        assert carried[14 : 14 + size] == packet.payload
        carried = carried[14 + size :]
    assert carried == b""


@given(st.binary(max_size=900))
def test_a_section_has_a_true_check_sum_and_fills_whole_packets(body: bytes) -> None:
    whole = section(2, 1, 5, body)
    assert crc32(whole) == 0
    packets = section_packets(0x100, whole)
    assert all(len(one) == 188 for one in packets)
    assert b"".join(one[4:] for one in packets)[1 : 1 + len(whole)] == whole
