from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols.fmp4 import (
    KEY_SAMPLE,
    OTHER_SAMPLE,
    SUPPORTED_CODECS,
    codec_string,
    event_message,
    fragment,
    id3_message,
    init_segment,
)
from tests.publishers.llhls.kit import audio_track, video_track
from tests.publishers.llhls.media import decoded_frames, demuxed, encoded, source_samples


def fragments(packets: tuple[Packet, ...], size: int, shift: int = 0) -> bytes:
    """All packets, ``size`` of them in each fragment."""
    made = []
    for number, at in enumerate(range(0, len(packets), size)):
        group = packets[at : at + size]
        run: list[int] = []
        for packet in group:
            run += (packet.duration, len(packet.payload))
            if packet.track.is_video:
                run += (KEY_SAMPLE if packet.keyframe else OTHER_SAMPLE, packet.pts - packet.dts)
        decode_time = group[0].dts + shift * group[0].track.timescale
        payloads = [packet.payload for packet in group]
        made.append(fragment(number + 1, decode_time, run, payloads, video=group[0].track.is_video))
    return b"".join(made)


@pytest.mark.parametrize("codec", sorted(SUPPORTED_CODECS))
@pytest.mark.parametrize("size", [1, 7, 60])
def test_what_goes_in_comes_out(codec: Codec, size: int) -> None:
    track, packets = encoded(codec)
    shift = 1
    made = init_segment(track) + fragments(packets, size, shift)
    assert demuxed(made) == source_samples(packets, shift)
    if codec not in (Codec.AAC, Codec.OPUS):
        assert decoded_frames(made) == len(packets)


def test_b_frames_are_in_the_test_media() -> None:
    for codec in (Codec.H264, Codec.H265):
        _, packets = encoded(codec)
        assert any(packet.pts != packet.dts for packet in packets)
        assert [packet.pts for packet in packets] != sorted(packet.pts for packet in packets)


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert size >= 8
        found.append((kind, data[at + 8 : at + size]))
        at += size
    assert at == len(data)
    return found


def test_a_fragment_is_relative_to_itself() -> None:
    made = fragment(7, 1 << 40, [3000, 5, KEY_SAMPLE, -3000], [b"frame"], video=True)
    (moof, inner), (mdat, media) = boxes(made)
    assert (moof, mdat, media) == (b"moof", b"mdat", b"frame")
    assert boxes(inner)[0] == (b"mfhd", struct.pack(">II", 0, 7))
    (tfhd, tfdt, trun) = boxes(boxes(inner)[1][1])
    assert tfhd == (b"tfhd", struct.pack(">II", 0x020000, 1))
    assert tfdt == (b"tfdt", struct.pack(">IQ", 0x01000000, 1 << 40))
    flags, count, offset, *sample = struct.unpack(">IIIIIIi", trun[1])
    assert (flags, count, sample) == (0x01000F01, 1, [3000, 5, KEY_SAMPLE, -3000])
    assert made[offset:] == b"frame"


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=60), st.booleans(), st.integers(0, 2**63))
def test_the_offset_leads_to_the_media(payloads: list[bytes], video: bool, time: int) -> None:
    run = [number for payload in payloads for number in ((1, len(payload), 0, 0) if video else (1, len(payload)))]
    made = fragment(1, time, run, payloads, video=video, events=event_message("urn:x", "", 1000, time, 1, b"m"))
    found = boxes(made)
    assert [kind for kind, _ in found] == [b"emsg", b"moof", b"mdat"]
    assert found[2][1] == b"".join(payloads)
    moof_at = 8 + len(found[0][1])
    trun = boxes(boxes(found[1][1])[1][1])[2][1]
    offset = struct.unpack_from(">I", trun, 8)[0]
    assert made[moof_at + offset :] == b"".join(payloads)


def test_an_id3_event() -> None:
    ((kind, body),) = boxes(id3_message(90000, 450000, 3, b"ID3tag"))
    assert kind == b"emsg"
    assert struct.unpack_from(">IIQII", body) == (0x01000000, 90000, 450000, 0xFFFFFFFF, 3)
    assert body[24:] == b"https://aomedia.org/emsg/ID3\0Kiln\0ID3tag"


def test_hvc1_says_that_all_parameter_sets_are_there() -> None:
    track, _ = encoded(Codec.H265)
    made = init_segment(track)
    assert b"hvc1" in made
    assert b"hev1" not in made
    at = made.index(b"hvcC") + 4
    arrays = made[at + 22]
    assert arrays >= 3
    assert made[at + 23] & 0x80


HVCC = bytes([1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93]) + bytes(10)


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        (video_track(), "avc1.64001e"),
        (video_track(codec=Codec.H265, codec_config=HVCC), "hvc1.1.6.L93.90"),
        (video_track(codec=Codec.H265, codec_string="hev1.1.6.L120.90"), "hvc1.1.6.L120.90"),
        (video_track(codec=Codec.AV1, codec_config=bytes([0x81, 0x05, 0x0C, 0])), "av01.0.05M.08"),
        (video_track(codec=Codec.AV1, codec_config=bytes([0x81, 0x2D, 0xCC, 0])), "av01.1.13H.10"),
        (video_track(codec=Codec.VP9, codec_config=b"", width=1280, height=720), "vp09.00.31.08"),
        (audio_track(), "mp4a.40.2"),
        (audio_track(codec_config=bytes([0x2B, 0x92, 0x08, 0])), "mp4a.40.5"),
        (audio_track(codec_config=bytes([0xF8, 0x50, 0x20])), "mp4a.40.34"),
        (audio_track(codec=Codec.OPUS, codec_config=b""), "opus"),
    ],
)
def test_codec_strings(track: Track, expected: str) -> None:
    assert codec_string(track) == expected


@pytest.mark.parametrize(
    "track",
    [
        video_track(codec=Codec.VP8),
        video_track(codec_config=b""),
        audio_track(codec_config=b""),
        Track(id=2, media=MediaType.DATA, codec=Codec.ID3, timescale=1000),
    ],
)
def test_what_cannot_be_written_is_refused(track: Track) -> None:
    with pytest.raises(BadRequest):
        init_segment(track)


def test_opus_head_becomes_dops() -> None:
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 312, 44100, -256, 0)
    made = init_segment(audio_track(codec=Codec.OPUS, codec_config=head))
    at = made.index(b"dOps") + 4
    assert struct.unpack_from(">BBHIhB", made, at) == (0, 2, 312, 44100, -256, 0)
