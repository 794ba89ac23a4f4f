"""Matroska files that grow, are cut anywhere, and are finished in place."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest, RemoteProtocolError
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols.matroska.ebml import element, read_header, size_field, void
from appliance.protocols.matroska.finishing import Read, Segment, survey
from appliance.protocols.matroska.writer import SegmentWriter
from tests.publishers.record.kit import clip

Sample = tuple[Fraction, bool, bytes]


def pieces(video: Codec, audio: Codec, size: int, *, webm: bool = False) -> tuple[list[Packet], list[bytes]]:
    tracks, packets = clip(video, audio)
    writer = SegmentWriter(tracks, webm=webm)
    parts = [writer.head()]
    parts += [writer.fragment(packets[at : at + size]) for at in range(0, len(packets), size)]
    return packets, parts


def finish(data: bytes, segment: Segment) -> bytes:
    cues = segment.cues()
    assert len(cues) <= segment.final_size
    whole = bytearray(data[: segment.end] + cues)
    for at, patch in segment.patches():
        assert len(patch) <= 512
        whole[at : at + len(patch)] = patch
    return bytes(whole)


def indexed(parts: list[bytes]) -> Segment:
    segment = Segment(parts[0])
    for part in parts[1:]:
        segment.add(part)
    return segment


def demuxed(data: bytes) -> list[list[Sample]]:
    with av.open(io.BytesIO(data), "r") as container:
        samples: list[list[Sample]] = [[] for _ in container.streams]
        for packet in container.demux():
            if packet.size and packet.pts is not None and packet.time_base is not None:
                time = packet.pts * packet.time_base
                samples[packet.stream.index].append((time, packet.is_keyframe, bytes(packet)))
    return samples


def source(packets: list[Packet]) -> list[list[Sample]]:
    """Times in whole milliseconds, as the file has them."""
    samples: list[list[Sample]] = [[], []]
    for packet in packets:
        track = packet.track
        time = Fraction((2000 * packet.pts + track.timescale) // (2 * track.timescale), 1000)
        samples[track.is_audio].append((time, packet.keyframe or track.is_audio, packet.payload))
    return samples


def reader(data: bytes) -> Read:
    return lambda at, size: data[at : at + size]


@pytest.mark.parametrize(
    ("video", "audio", "webm"),
    [
        (Codec.H264, Codec.AAC, False), (Codec.H265, Codec.OPUS, False), (Codec.AV1, Codec.AAC, False),
        (Codec.VP9, Codec.OPUS, True), (Codec.AV1, Codec.OPUS, True),
    ],
)  # fmt: skip
def test_growing_and_finished_hold_the_same(video: Codec, audio: Codec, webm: bool) -> None:
    packets, parts = pieces(video, audio, 11, webm=webm)
    growing = b"".join(parts)
    whole = finish(growing, indexed(parts))
    assert demuxed(growing) == source(packets)
    assert demuxed(whole) == source(packets)
    with av.open(io.BytesIO(whole), "r") as container:
        assert container.duration is not None
        assert abs(container.duration - 2_000_000) < 50_000
        assert container.format.name.startswith("matroska")
    assert survey(reader(whole), len(whole))[1] == len(whole)


def test_a_finished_file_is_seekable() -> None:
    packets, parts = pieces(Codec.H264, Codec.AAC, 11)
    whole = finish(b"".join(parts), indexed(parts))
    keys = [packet for packet in packets if packet.track.is_video and packet.keyframe]
    with av.open(io.BytesIO(whole), "r") as container:
        container.seek(keys[-1].pts * 1_000_000 // keys[-1].track.timescale + 1000)
        first = next(packet for packet in container.demux(container.streams.video[0]) if packet.size)
        assert bytes(first) == keys[-1].payload


@given(st.data())
def test_cut_anywhere_it_plays_up_to_the_last_whole_cluster(data: st.DataObject) -> None:
    packets, parts = pieces(Codec.H264, Codec.AAC, 12)
    growing = b"".join(parts)
    cut = data.draw(st.integers(0, len(growing)))
    ends = [sum(map(len, parts[: number + 1])) for number in range(len(parts))]
    if cut < ends[0]:
        with pytest.raises(RemoteProtocolError):
            survey(reader(growing[:cut]), cut)
        return
    segment, finished = survey(reader(growing[:cut]), cut)
    assert not finished
    assert segment.end == max(end for end in ends if end <= cut)
    kept = packets[: 12 * ends.index(segment.end)]
    if kept:
        assert demuxed(finish(growing, segment)) == source(kept)


def test_each_step_of_finishing_can_be_the_last() -> None:
    packets, parts = pieces(Codec.H264, Codec.AAC, 12)
    growing = b"".join(parts)
    segment = indexed(parts)
    whole = finish(growing, segment)
    patches = segment.patches()
    states = [growing + segment.cues()[:length] for length in range(0, len(segment.cues()) + 1, 7)]
    for done in range(len(patches)):
        patched = bytearray(growing + segment.cues())
        for at, patch in patches[:done]:
            patched[at : at + len(patch)] = patch
        states.append(bytes(patched))
    for state in states:
        again, finished = survey(reader(state), len(state))
        assert not finished
        assert finish(state, again) == whole
    assert demuxed(whole) == source(packets)


@given(st.data())
def test_damage_raises_nothing_else(data: st.DataObject) -> None:
    _, parts = pieces(Codec.H264, Codec.AAC, 12)
    whole = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    try:
        segment, finished = survey(reader(bytes(whole)), len(whole))
    except RemoteProtocolError:
        return
    assert finished <= len(whole)
    segment.patches()


@given(st.binary(max_size=200))
def test_other_bytes_are_no_segment(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        survey(reader(data), len(data))


@given(st.integers(0, 2**40), st.binary(max_size=20))
def test_elements_are_read_as_they_are_written(size: int, contents: bytes) -> None:
    assert read_header(b"\xec" + size_field(size), 0) == (0xEC, size, 1 + len(size_field(size)))
    whole = element(0x4DBB, contents)
    assert read_header(whole, 0) == (0x4DBB, len(contents), len(whole) - len(contents))
    assert len(void(9 + size % 100)) == 9 + size % 100


def test_what_can_not_be_written_is_refused() -> None:
    track = Track(id=1, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=b"\1")
    with pytest.raises(BadRequest, match="WebM"):
        SegmentWriter([track], webm=True)
    with pytest.raises(BadRequest):
        SegmentWriter([])
    with pytest.raises(BadRequest, match="configuration"):
        SegmentWriter([Track(id=1, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000)])
