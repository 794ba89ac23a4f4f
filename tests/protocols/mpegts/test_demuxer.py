"""Transport streams that ffmpeg made: whole, in pieces, broken, and changing on the way."""

from __future__ import annotations

import io
import time
import tracemalloc
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import pytest
from av.container import InputContainer
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.clock import rescale
from appliance.media.events import Splice, TimedMetadata
from appliance.protocols.mpegts.demuxer import Demuxer, Frame
from appliance.protocols.mpegts.psi import section, section_packets
from appliance.protocols.scte35 import splice_insert

CORPUS = Path(__file__).parents[1] / "corpus" / "mpegts"
NAMES = sorted(path.stem for path in CORPUS.glob("*.ts"))
WRAP = 1 << 33


@cache
def capture(name: str) -> bytes:
    return (CORPUS / f"{name}.ts").read_bytes()


def demux(data: bytes, sizes: list[int] | None = None) -> tuple[list[Frame], Demuxer]:
    demuxer, frames, at = Demuxer(), [], 0
    for size in sizes or []:
        frames += demuxer.receive_data(data[at : at + size])
        at += size
    frames += demuxer.receive_data(data[at:])
    return frames + demuxer.flush(), demuxer


def told(frames: list[Frame]) -> list[tuple[object, ...]]:
    """All that a frame tells, without the identity of its track."""
    return [(frame.track.id, frame.track.generation, frame.track.codec_config, *frame[1:]) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("h264-aac", ["H264", "AAC"]), ("h264-ac3", ["H264", "AC3"]), ("h264-latm", ["H264", "AAC"]),
        ("h264-mp2", ["H264", "MP2"]), ("h265-opus", ["H265", "OPUS"]), ("mp3", ["MP3"]), ("wrap", ["H264", "AAC"]),
    ],
)  # fmt: skip
def test_every_frame_is_there_with_its_times(name: str, codecs: list[str]) -> None:
    frames, demuxer = demux(capture(name))
    assert [track.codec for track in demuxer.tracks] == codecs
    assert demuxer.complete
    assert not any((demuxer.skipped, demuxer.unsupported, *vars_of(demuxer)))
    with av.open(io.BytesIO(capture(name)), format="mpegts") as container:
        assert isinstance(container, InputContainer)
        packets = [
            (packet.stream.id, packet.pts, packet.dts, packet.is_keyframe)
            for packet in container.demux() if packet.pts is not None and packet.dts is not None
        ]  # fmt: skip
    for track in demuxer.tracks:
        mine = [frame for frame in frames if frame.track.id == track.id]
        theirs = [packet for packet in packets if packet[0] == track.id]
        assert len(mine) == len(theirs) > 20
        shift = mine[0].dts - rescale(theirs[0][2], 90000, track.timescale)
        for frame, (_, pts, dts, keyframe) in zip(mine, theirs, strict=True):
            assert frame.dts - shift == pytest.approx(rescale(dts, 90000, track.timescale), abs=1)
            assert frame.pts - shift == pytest.approx(rescale(pts, 90000, track.timescale), abs=1)
            assert frame.keyframe == keyframe
        assert all(after.dts > before.dts for before, after in pairwise(mine))


def vars_of(demuxer: Demuxer) -> list[int]:
    damage = demuxer.damage
    return [damage.garbage, damage.continuity, damage.tables, damage.broken, damage.scrambled, damage.errors]


def test_what_a_track_tells() -> None:
    _, demuxer = demux(capture("h264-aac"))
    video, audio = demuxer.tracks
    assert (video.id, video.width, video.height, video.frame_rate, video.has_b_frames) == (0x100, 128, 72, 25, True)
    assert video.codec_config[0] == 1
    assert (audio.id, audio.sample_rate, audio.channels, audio.language) == (0x101, 48000, 1, "deu")
    assert audio.codec_string == "mp4a.40.2"
    assert audio.codec_config == bytes.fromhex("1188")


def test_payloads_are_canonical() -> None:
    frames, _ = demux(capture("h264-aac"))
    for frame in frames:
        if frame.track.is_video:
            at, kinds = 0, []
            while at < len(frame.payload):
                kinds.append(frame.payload[at + 4] & 31)
                at += 4 + int.from_bytes(frame.payload[at : at + 4], "big")
            assert at == len(frame.payload)
            assert not {7, 8, 9} & set(kinds)
        else:
            assert frame.payload[:2] != b"\xff\xf1"
            assert frame.duration == 1024


def test_times_go_on_over_the_wrap() -> None:
    frames, _ = demux(capture("wrap"))
    assert min(frame.dts for frame in frames if frame.track.is_video) < WRAP
    assert max(frame.dts for frame in frames if frame.track.is_video) > WRAP


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte_gives_the_same(name: str) -> None:
    data = b"garbage" + capture(name)
    assert told(demux(data, [1] * len(data))[0]) == told(demux(data)[0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.lists(st.integers(1, 3000), max_size=60))
def test_split_anywhere_gives_the_same(name: str, sizes: list[int]) -> None:
    assert told(demux(capture(name), sizes)[0]) == told(demux(capture(name))[0])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_comes_it_is_read_or_counted(data: st.DataObject) -> None:
    raw = bytearray(capture(data.draw(st.sampled_from(NAMES))))
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "fill"])):
            case "flip":
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 700))]
            case "insert":
                raw[at:at] = data.draw(st.binary(max_size=400))
            case _:
                raw[at : at + 188] = bytes((data.draw(st.integers(0, 255)),)) * 188
        if not raw:
            return
    sizes = data.draw(st.lists(st.integers(1, 5000), max_size=20))
    frames, _ = demux(bytes(raw), sizes)
    assert told(frames) == told(demux(bytes(raw))[0])
    assert all(type(frame.payload) is bytes and frame.payload for frame in frames)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=4000), st.integers(1, 500))
def test_garbage_is_counted(data: bytes, size: int) -> None:
    frames, demuxer = demux(data, [size] * (len(data) // size))
    assert frames == []
    assert demuxer.damage.garbage <= len(data)


def test_packets_that_are_lost_cost_the_frames_they_were_of() -> None:
    data = capture("h264-aac")
    whole = [frame.payload for frame in demux(data)[0]]
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    lost = [packet for number, packet in enumerate(packets) if number not in (30, 70, 71)]
    frames, demuxer = demux(b"".join(lost))
    kept = [frame.payload for frame in frames]
    assert set(kept) < set(whole)
    assert len(whole) - 4 <= len(kept) < len(whole)
    assert demuxer.damage.continuity in (2, 3)


def test_a_picture_that_breaks_off_at_the_end_is_left_out() -> None:
    """ffmpeg does not say how long a picture is: only the stuffing of its last packet tells that it is whole."""
    data = capture("h264-aac")
    whole = [frame.payload for frame in demux(data)[0] if frame.track.is_video]
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    pid = demux(data)[1].tracks[0].id
    for end in range(len(packets) - 60, len(packets)):
        if int.from_bytes(packets[end][1:3], "big") & 0x1FFF == pid:
            pictures = [frame.payload for frame in demux(b"".join(packets[:end]))[0] if frame.track.is_video]
            assert pictures == whole[: len(pictures)]
            assert len(pictures) >= len(whole) - 60


def test_packets_that_come_twice_count_once() -> None:
    data = capture("h264-aac")
    twice = b"".join(data[at : at + 188] * 2 if at // 188 % 5 == 3 else data[at : at + 188]
                     for at in range(0, len(data), 188))  # fmt: skip
    frames, _ = demux(twice)
    assert [frame.payload for frame in frames] == [frame.payload for frame in demux(data)[0]]


def test_garbage_between_packets_is_left_out() -> None:
    data = capture("h264-aac")
    at = 188 * 60
    frames, demuxer = demux(data[:at] + b"\x47\x00rubbish" * 99 + data[at:])
    assert demuxer.damage.garbage > 600
    assert len(frames) >= len(demux(data)[0]) - 2


def test_a_new_program_map_changes_the_codecs_and_keeps_the_ids() -> None:
    frames, demuxer = demux(capture("h264-aac") + capture("h265-opus") + capture("h264-aac"))
    seen = [(frame.track.codec, frame.track.id, frame.track.generation) for frame in frames if frame.track.is_video]
    assert list(dict.fromkeys(seen)) == [("H264", 0x100, 0), ("H265", 0x100, 1), ("H264", 0x100, 2)]
    sounds = [(frame.track.codec, frame.track.id, frame.track.generation) for frame in frames if frame.track.is_audio]
    assert list(dict.fromkeys(sounds)) == [("AAC", 0x101, 0), ("OPUS", 0x101, 1), ("AAC", 0x101, 2)]
    assert len(frames) == 2 * len(demux(capture("h264-aac"))[0]) + len(demux(capture("h265-opus"))[0])
    assert demuxer.version == 0


def test_what_is_not_carried_is_named() -> None:
    pat = section(0, 1, 0, bytes((0, 1, 0xE1, 0)))
    rows = bytes((0x02, 0xE1, 1, 0xF0, 0)) + bytes((0x87, 0xE1, 2, 0xF0, 0)) + bytes((0x77, 0xE1, 3, 0xF0, 0))
    pmt = section(2, 1, 5, bytes((0xE1, 1, 0xF0, 0)) + rows)
    data = b"".join(section_packets(0, pat) + section_packets(0x100, pmt) + section_packets(0x1FFF, b"") * 4)
    _, demuxer = demux(data)
    assert demuxer.version == 5
    assert demuxer.unsupported == {
        0x101: "MPEG-2 video is not carried", 0x102: "Enhanced AC-3 is not carried",
        0x103: "stream type 0x77 is not carried",
    }  # fmt: skip
    assert not demuxer.complete


def with_data(scte: bytes, tag: bytes, tag_time: int) -> bytes:
    """A capture whose program has splice points and timed metadata besides, sent ahead of all pictures."""
    registration = b"\x05\x04ID3 "
    rows = b"".join(
        bytes((kind, 0xE1, low, 0xF0, len(more))) + more
        for kind, low, more in ((0x1B, 0, b""), (0x0F, 1, b""), (0x15, 2, registration), (0x86, 3, b""))
    )
    pmt = b"".join(section_packets(0x1000, section(2, 1, 7, bytes((0xE1, 0, 0xF0, 0)) + rows)))
    stamp = bytes((0x21 | tag_time >> 29 & 14, tag_time >> 22 & 255, tag_time >> 14 & 254 | 1, tag_time >> 7 & 255,
                   tag_time << 1 & 254 | 1))  # fmt: skip
    pes = b"\0\0\1\xbd" + (len(tag) + 8).to_bytes(2, "big") + b"\x84\x80\x05" + stamp + tag
    metadata = b"\x47\x41\x02\x30" + bytes((183 - len(pes), 0)) + b"\xff" * (182 - len(pes)) + pes
    out: list[bytes] = []
    data = capture("h264-aac")
    for at in range(0, len(data), 188):
        packet = data[at : at + 188]
        if (packet[1] & 0x1F) << 8 | packet[2] == 0x1000:
            packet = pmt
            if len(out) < 5:
                packet += metadata + b"".join(section_packets(0x103, scte))
        out.append(packet)
    return b"".join(out)


def test_splice_points_and_metadata_come_when_the_pictures_are_there() -> None:
    times = [frame.pts for frame in demux(capture("h264-aac"))[0] if frame.track.is_video]
    tag = b"ID3\x04\0\0\0\0\0\0"
    scte = splice_insert(9, times[20], out=True, duration=450_000, auto_return=True)
    data = with_data(scte, tag, times[10])
    demuxer, seen, frames = Demuxer(), {}, []
    for at in range(0, len(data), 188):
        frames += demuxer.receive_data(data[at : at + 188])
        for event in demuxer.events:
            seen[type(event)] = event, max(frame.pts for frame in frames if frame.track.is_video)
        demuxer.events.clear()
    assert not demuxer.unsupported
    assert demuxer.complete
    assert not any(vars_of(demuxer))
    metadata, when = seen[TimedMetadata]
    assert metadata == TimedMetadata(tag)
    assert abs(when - times[10]) <= 3 * 3600
    splice, when = seen[Splice]
    assert splice == Splice(9, True, 5000, True)
    assert abs(when - times[20]) <= 3 * 3600
    whole = demux(capture("h264-aac"))[0]
    assert [frame.payload for frame in frames] == [frame.payload for frame in whole[: len(frames)]]


def test_a_table_with_a_wrong_check_sum_is_left_out() -> None:
    pat = section(0, 1, 0, bytes((0, 1, 0xE1, 0)))
    data = b"".join(section_packets(0, pat[:-1] + bytes((pat[-1] ^ 1,))) + section_packets(0x1FFF, b"") * 4)
    assert demux(data)[1].damage.tables == 1


def test_an_endless_frame_does_not_fill_the_memory() -> None:
    head = demux_head()
    body = b"".join(bytes((0x47, 0x01, 0x00, 0x10 | number & 15)) + bytes(184) for number in range(1, 4097))
    demuxer = Demuxer()
    demuxer.receive_data(head)
    tracemalloc.start()
    try:
        for _ in range(60):
            demuxer.receive_data(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 8 * 1024 * 1024


def demux_head() -> bytes:
    """Tables, and the first packet of a picture that never ends."""
    data = capture("h264-aac")
    for at in range(0, len(data), 188):
        if data[at + 1] == 0x41 and data[at + 2] == 0:
            return data[: at + 188]
    raise AssertionError("no picture")


def test_it_is_quick() -> None:
    data = capture("h264-aac") * 20
    began = time.process_time()
    demux(data, [1316] * (len(data) // 1316))
    # 8 Mbit/s are 5300 packets a second; far less of a core than this even on a busy machine.
    assert (time.process_time() - began) / (len(data) / 188) < 60e-6
