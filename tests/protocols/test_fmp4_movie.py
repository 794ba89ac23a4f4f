"""Movies that grow, are cut anywhere, and become plain MP4 files with no media copied."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest, RemoteProtocolError
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols.fmp4.finishing import Movie, Read, covered_end, survey
from appliance.protocols.fmp4.movie import MovieWriter
from tests.publishers.llhls.media import encoded

Sample = tuple[Fraction, bool, bytes]


def media(video: Codec = Codec.H264, audio: Codec = Codec.AAC) -> tuple[list[Track], list[Packet]]:
    """Both tracks under ids of their own, in the order of decoding."""
    tracks, packets = [], []
    for number, codec in enumerate((video, audio), 1):
        source, frames = encoded(codec)
        track = msgspec.structs.replace(source, id=number * 10)
        tracks.append(track)
        packets += [msgspec.structs.replace(frame, track=track) for frame in frames]
    return tracks, sorted(packets, key=lambda packet: Fraction(packet.dts, packet.track.timescale))


def lead(packets: Sequence[Packet]) -> tuple[int, int]:
    return max((-packet.dts, packet.track.timescale) for packet in packets)


def pieces(tracks: Sequence[Track], packets: Sequence[Packet], size: int) -> list[bytes]:
    """The head and each fragment of ``size`` packets."""
    writer = MovieWriter(tracks, max(lead(packets), (0, 1)))
    return [writer.head(), *(writer.fragment(packets[at : at + size]) for at in range(0, len(packets), size))]


def finished(parts: Sequence[bytes]) -> bytes:
    movie = Movie(parts[0])
    for part in parts[1:]:
        movie.add(part)
    return finish(b"".join(parts), movie)


def finish(data: bytes, movie: Movie) -> bytes:
    moov = movie.final_moov()
    assert len(moov) <= movie.final_size
    at, header = movie.covering_header()
    whole = bytearray(data[: movie.end] + moov)
    whole[at : at + len(header)] = header
    return bytes(whole)


def demuxed(data: bytes) -> list[list[Sample]]:
    """(time shown, key frame, payload) of every packet of each track."""
    with av.open(io.BytesIO(data), "r", options={"ignore_editlist": "0"}) as container:
        found: list[list[Sample]] = [[] for _ in container.streams]
        for packet in container.demux():
            if packet.size:
                assert packet.pts is not None
                assert packet.time_base is not None
                found[packet.stream.index].append((packet.pts * packet.time_base, packet.is_keyframe, bytes(packet)))
    return found


def source(tracks: Sequence[Track], packets: Sequence[Packet]) -> list[list[Sample]]:
    return [
        [
            (Fraction(packet.pts, track.timescale), packet.keyframe or track.is_audio, packet.payload)
            for packet in packets
            if packet.track is track
        ]
        for track in tracks
    ]


def reader(data: bytes) -> Read:
    return lambda at, size: data[at : at + size]


VIDEO = (Codec.H264, Codec.H265, Codec.AV1, Codec.VP9)


@pytest.mark.parametrize("video", VIDEO)
@pytest.mark.parametrize("audio", [Codec.AAC, Codec.OPUS])
@pytest.mark.parametrize("size", [1, 23])
def test_growing_and_finished_hold_the_same(video: Codec, audio: Codec, size: int) -> None:
    tracks, packets = media(video, audio)
    parts = pieces(tracks, packets, size)
    assert demuxed(b"".join(parts)) == source(tracks, packets)
    assert demuxed(finished(parts)) == source(tracks, packets)


def test_a_finished_movie_is_plain_and_seekable() -> None:
    tracks, packets = media()
    whole = finished(pieces(tracks, packets, 20))
    with av.open(io.BytesIO(whole), "r") as container:
        assert container.duration is not None
        video = container.streams.video[0]
        assert video.frames == sum(packet.track is tracks[0] for packet in packets)
        keys = [packet for packet in packets if packet.track is tracks[0] and packet.keyframe]
        container.seek(keys[-1].pts, stream=video)
        first = next(packet for packet in container.demux(video) if packet.size)
        assert bytes(first) == keys[-1].payload
    assert survey(reader(whole), len(whole)).finished
    assert covered_end(reader(whole)) == len(whole)


def test_b_frames_begin_at_zero() -> None:
    tracks, packets = media(Codec.H264)
    moved = [
        msgspec.structs.replace(packet, dts=packet.dts - 9000) if packet.track is tracks[0] else packet
        for packet in packets
    ]
    for data in (b"".join(pieces(tracks, moved, 10)), finished(pieces(tracks, moved, 10))):
        assert demuxed(data) == source(tracks, packets)


def test_sound_that_begins_later_stays_later() -> None:
    """A-V offset is kept to the tick."""
    tracks, packets = media()
    late = [
        msgspec.structs.replace(packet, pts=packet.pts + 12345, dts=packet.dts + 12345)
        if packet.track is tracks[1] else packet
        for packet in packets
    ]  # fmt: skip
    video, audio = demuxed(finished(pieces(tracks, late, 10)))
    wanted = source(tracks, late)
    assert video == wanted[0]
    assert [each[2] for each in audio] == [each[2] for each in wanted[1]]
    assert all(abs(got[0] - want[0]) <= Fraction(1, 40_000) for got, want in zip(audio, wanted[1], strict=True))


def test_continuous_times_are_kept() -> None:
    tracks, packets = media()
    hour = [
        msgspec.structs.replace(
            packet, pts=packet.pts + 3600 * packet.track.timescale, dts=packet.dts + 3600 * packet.track.timescale
        )
        for packet in packets
    ]
    for data in (b"".join(pieces(tracks, hour, 10)), finished(pieces(tracks, hour, 10))):
        assert demuxed(data) == source(tracks, hour)


def test_a_hole_does_not_shift_what_follows() -> None:
    tracks, packets = media()
    head, *fragments = pieces(tracks, packets, 4)
    kept = [0, 1, 5, 6]
    whole = finished([head, *(fragments[number] for number in kept)])
    assert demuxed(whole) == source(tracks, [packet for number in kept for packet in packets[number * 4 :][:4]])


@given(st.data())
def test_cut_anywhere_it_plays_up_to_the_last_whole_fragment(data: st.DataObject) -> None:
    tracks, packets = media()
    parts = pieces(tracks, packets, 12)
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole)))
    found = survey(reader(whole), cut)
    ends = [sum(map(len, parts[: number + 1])) for number in range(len(parts))]
    if cut < ends[0]:
        assert found.movie is None
        return
    assert found.movie is not None
    assert found.movie.end == max(end for end in ends if end <= cut)
    kept = packets[: 12 * (ends.index(found.movie.end))]
    if kept and {packet.track.id for packet in kept} == {10, 20}:
        assert demuxed(finish(whole, found.movie)) == source(tracks, kept)


def test_each_step_of_finishing_can_be_the_last() -> None:
    """Killed while the moov is appended, or before the header is turned: the survey finds all of the media again."""
    tracks, packets = media()
    parts = pieces(tracks, packets, 12)
    growing = b"".join(parts)
    whole = finished(parts)
    for length in {*range(len(growing), len(whole), 97), len(whole)}:
        state = growing + whole[len(growing) : length]
        found = survey(reader(state), len(state))
        assert found.movie is not None
        assert found.movie.end == len(growing)
        assert finish(state, found.movie) == whole


@given(st.data())
def test_damage_never_raises(data: st.DataObject) -> None:
    tracks, packets = media()
    whole = bytearray(b"".join(pieces(tracks, packets, 12)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(whole), 4000) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    found = survey(reader(bytes(whole)), len(whole))
    if found.movie is not None:
        assert found.movie.end <= len(whole)
        found.movie.final_moov()


@given(st.binary(max_size=200))
def test_other_bytes_are_no_movie(data: bytes) -> None:
    found = survey(reader(data), len(data))
    assert found.movie is None
    with pytest.raises(RemoteProtocolError):
        Movie(data)


def test_what_can_not_be_written_is_refused() -> None:
    with pytest.raises(BadRequest):
        MovieWriter([])
    with pytest.raises(BadRequest, match="VP8"):
        MovieWriter([Track(id=1, media=MediaType.VIDEO, codec=Codec.VP8, timescale=90000)])


def test_sizes_over_what_32_bits_hold() -> None:
    """Offsets and the covering header are 64 bits wide."""
    tracks, packets = media()
    parts = pieces(tracks, packets, 12)
    movie = Movie(parts[0])
    movie.end += 5 << 30
    movie.add(parts[1])
    assert (movie.end - len(parts[1]) - len(parts[0])) == 5 << 30
    at, header = movie.covering_header()
    assert int.from_bytes(header[8:], "big") == movie.end - at
    assert b"co64" in movie.final_moov()
