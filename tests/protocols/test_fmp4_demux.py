"""Fragmented MP4 read back: our own writer's and ffmpeg's, in any pieces; what is broken is refused."""

from __future__ import annotations

import struct
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import aac, opus
from appliance.media.packet import Packet
from appliance.media.track import Track
from appliance.protocols.fmp4 import KEY_SAMPLE, OTHER_SAMPLE, fragment, init_segment
from appliance.protocols.fmp4.boxes import box, full_box
from appliance.protocols.fmp4.demux import Demuxer, Frame
from appliance.protocols.fmp4.movie import MovieWriter
from tests.kit import ffmpeg, frames


def read(data: bytes, step: int = 1 << 30) -> list[Frame]:
    demuxer = Demuxer()
    return [frame for at in range(0, len(data), step) for frame in demuxer.receive_data(data[at : at + step])]


def told(found: list[Frame]) -> list[tuple[object, ...]]:
    """Without the identity of the Track."""
    return [(frame.track.id, frame.track.codec_config, *frame[1:]) for frame in found]


@cache
def fragmented(*arguments: str, spec: ffmpeg.SourceSpec = ffmpeg.B_FRAMES, seconds: float = 1.0) -> bytes:
    form = ["-movflags", "frag_keyframe+delay_moov+default_base_moof", "-f", "mp4", "-"]
    codecs = arguments or ("-c", "copy")
    made = ffmpeg.run(["-t", str(seconds), "-i", str(ffmpeg.source(spec)), *codecs, *form])
    assert made.returncode == 0, made.stderr.decode()
    return made.stdout


def sound() -> Track:
    return aac.track_from_config(1, bytes.fromhex("1190"))


def own(count: int = 4) -> bytes:
    track = sound()
    payloads = [bytes((number + 1,)) * (10 + number) for number in range(count)]
    run = [value for payload in payloads for value in (1024, len(payload))]
    return init_segment(track) + fragment(1, 48_000, run, payloads, video=False)


def test_what_our_own_writer_wrote() -> None:
    found = read(own())
    assert [(frame.pts, frame.dts, frame.duration, frame.keyframe) for frame in found] == [
        (48_000 + 1024 * number, 48_000 + 1024 * number, 1024, True) for number in range(4)
    ]
    assert [frame.payload for frame in found] == [bytes((number + 1,)) * (10 + number) for number in range(4)]
    track = found[0].track
    assert (track.codec, track.sample_rate, track.channels, track.timescale) == ("AAC", 48_000, 2, 48_000)


def test_every_frame_of_a_file_with_both() -> None:
    found = read(fragmented())
    pictures = [
        frames.Frame(Fraction(frame.pts, frame.track.timescale), Fraction(frame.dts, frame.track.timescale),
                     frame.keyframe, frames.slices_digest(frame.payload))
        for frame in found if frame.track.is_video
    ]  # fmt: skip
    source = frames.of_file(ffmpeg.source(ffmpeg.B_FRAMES), "video")
    assert frames.run_in(pictures, source) == 0
    assert [picture.keyframe for picture in pictures] == [frame.keyframe for frame in source[: len(pictures)]]
    heard = [frame for frame in found if frame.track.is_audio]
    assert len(heard) > 40
    # The edit lists put both on one time: the first sound is its priming.
    assert abs(pictures[0].pts - Fraction(heard[0].pts, heard[0].track.timescale)) < Fraction(1, 20)


@pytest.mark.parametrize(
    ("arguments", "codec"),
    [
        (("-c:v", "libx265", "-x265-params", "log-level=none", "-an"), "H265"),
        (("-c:v", "libsvtav1", "-preset", "12", "-an"), "AV1"),
        (("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-an"), "VP9"),
        (("-c:a", "libopus", "-vn"), "OPUS"),
    ],
)
def test_other_codecs(arguments: tuple[str, ...], codec: str) -> None:
    found = read(fragmented(*arguments, spec=ffmpeg.LONG, seconds=0.5))
    assert len(found) >= 15
    assert {frame.track.codec for frame in found} == {codec}
    assert found[0].keyframe
    track = found[0].track
    if track.is_video:
        assert (track.width, track.height) == (320, 180)
        assert not all(frame.keyframe for frame in found)
    else:
        assert (track.sample_rate, track.channels) == (48_000, 2)


def test_a_movie_of_ours_with_two_tracks() -> None:
    one = sound()
    other = opus.track_from_config(2, opus.OpusConfig(2).build_head())
    movie = MovieWriter([one, other])
    packets = [
        Packet(track, n * 1024, n * 1024, 1024, True, b"%d" % track.id * 9) for n in range(3) for track in (one, other)
    ]
    found = read(movie.head() + movie.fragment(packets))
    assert [frame.payload for frame in found if frame.track.codec == "AAC"] == [b"1" * 9] * 3
    assert [frame.payload for frame in found if frame.track.codec == "OPUS"] == [b"2" * 9] * 3


@settings(max_examples=25)
@given(st.integers(1, 3000))
def test_in_any_pieces(step: int) -> None:
    assert told(read(own(), step)) == told(read(own()))
    assert told(read(fragmented(), step * 37)) == told(read(fragmented()))


def moof(*runs: bytes, number: int = 1, flags: int = 0x020000) -> bytes:
    traf = box(b"traf", full_box(b"tfhd", 0, flags, struct.pack(">I", number)), *runs)
    return box(b"moof", full_box(b"mfhd", 0, 0, bytes(4)), traf)


def trun(flags: int, *words: int) -> bytes:
    return full_box(b"trun", 0, flags, struct.pack(f">{len(words)}I", *words))


HEAD = init_segment(sound())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (moof(), "before the init section"),
        (HEAD + moof(trun(1, 1 << 30, 8)), "more than 50000 samples"),
        (HEAD + moof(trun(0x201, 1, 200, 0xFFFFFFF)), "a sample of 268435455 bytes"),
        (HEAD + moof(trun(0x201, 1, 0, 50)) + box(b"mdat", bytes(60)), "overlaps another or lies outside"),
        (HEAD + moof(trun(0x201, 1, 100, 50)) + box(b"mdat", bytes(40)), "overlaps another or lies outside"),
        (HEAD + moof(trun(0x201, 2, 100)), "ends early"),
        (b"\0\0\0\2free", "impossible size"),
        (struct.pack(">I4sQ", 1, b"moov", 1 << 63), "impossible size"),
        (struct.pack(">I4sQ", 1, b"moov", 1 << 40), "a moov of"),
        (struct.pack(">I4s", 1 << 30, b"moof"), "a moof of"),
        (HEAD.replace(b"mp4a", b"enca"), "encrypted"),
        (HEAD.replace(b"esds", b"xxxx"), "without esds"),
        (box(b"moov", b"\0\0\0\xfftrak"), "larger than what it is in"),
    ],
)
def test_what_is_broken_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        read(data)


def test_what_is_not_carried_is_named() -> None:
    demuxer = Demuxer()
    list(demuxer.receive_data(HEAD.replace(b"mp4a", b"ec-3")))
    assert demuxer.unsupported == ["codec 'ec-3'"]
    assert demuxer.tracks == []
    list(demuxer.receive_data(moof(trun(0x201, 1, 88, 5)) + box(b"mdat", bytes(5))))


@settings(max_examples=200)
@given(st.data())
def test_whatever_is_in_it_it_is_read_or_refused(data: st.DataObject) -> None:
    """One word of a good file is another: the end is frames or RemoteProtocolError, whatever the pieces."""
    good = bytearray(own() if data.draw(st.booleans()) else fragmented()[:20_000])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(good), 3000) - 4))
        words = st.binary(min_size=4, max_size=4) | st.sampled_from([b"\xff\xff\xff\xff", bytes(4)])
        good[at : at + 4] = data.draw(words)

    def outcome(step: int) -> list[tuple[object, ...]] | str:
        demuxer = Demuxer()
        found: list[Frame] = []
        try:
            for at in range(0, len(good), step):
                found += demuxer.receive_data(bytes(good[at : at + step]))
        except RemoteProtocolError as error:
            return str(error)
        return told(found)

    assert outcome(data.draw(st.integers(1, 5000))) == outcome(1 << 30)


def test_a_picture_is_a_key_frame_by_its_flags() -> None:
    assert KEY_SAMPLE & 0x10000 == 0 != OTHER_SAMPLE & 0x10000


def test_memory_is_bounded_by_a_sample(tmp_path: Path) -> None:
    """What nobody asked for is let go of as it comes."""
    demuxer = Demuxer()
    list(demuxer.receive_data(HEAD + moof(trun(0x201, 1, 88, 5)) + struct.pack(">I4s", 1 << 30, b"mdat")))
    for _ in range(64):
        assert len(list(demuxer.receive_data(bytes(65536)))) in (0, 1)
    assert len(demuxer._buffer) == 0
