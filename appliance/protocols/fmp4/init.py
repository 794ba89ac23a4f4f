"""The init segment of one track: what a decoder has to know before the first fragment."""

from __future__ import annotations

import struct

from appliance.media.track import Codec, Track
from appliance.protocols.fmp4.boxes import box, full_box
from appliance.protocols.fmp4.codecs import sample_entry
from appliance.protocols.fmp4.fragment import KEY_SAMPLE, OTHER_SAMPLE, TRACK_ID

_UNITY_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED = 0x55C4


def init_segment(track: Track) -> bytes:
    """``ftyp`` and ``moov`` of ``track``; its timescale is that of the track.

    Raises BadRequest when the codec can't be written into MP4 or has no configuration.
    """
    return _ftyp(track) + box(b"moov", _mvhd(track.timescale), _trak(track), box(b"mvex", _trex(track)))


def _ftyp(track: Track) -> bytes:
    brands = [b"iso6", b"mp42", b"dash", b"hlsf", b"cmfc", b"aid3"]
    if track.codec is Codec.H264:
        brands.insert(2, b"avc1")
    return box(b"ftyp", b"iso6", bytes(4), *brands)


def _mvhd(timescale: int) -> bytes:
    return full_box(
        b"mvhd", 0, 0, struct.pack(">4I", 0, 0, timescale, 0), struct.pack(">IH10x", 0x10000, 0x100), _UNITY_MATRIX,
        bytes(24), b"\xff\xff\xff\xff",
    )  # fmt: skip


def _trak(track: Track) -> bytes:
    volume = 0x100 if track.is_audio else 0
    tkhd = full_box(
        b"tkhd", 0, 7, struct.pack(">5I8x", 0, 0, TRACK_ID, 0, 0), struct.pack(">HHH2x", 0, 0, volume), _UNITY_MATRIX,
        struct.pack(">II", track.width << 16 & 0xFFFFFFFF, track.height << 16 & 0xFFFFFFFF),
    )  # fmt: skip
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">4IHH", 0, 0, track.timescale, 0, _UNDETERMINED, 0))
    return box(b"trak", tkhd, box(b"mdia", mdhd, _hdlr(track), _minf(track)))


def _hdlr(track: Track) -> bytes:
    kind, name = (b"soun", b"Audio\0") if track.is_audio else (b"vide", b"Video\0")
    return full_box(b"hdlr", 0, 0, bytes(4), kind, bytes(12), name)


def _minf(track: Track) -> bytes:
    header = full_box(b"smhd", 0, 0, bytes(4)) if track.is_audio else full_box(b"vmhd", 0, 1, bytes(8))
    here = full_box(b"url ", 0, 1)
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), here))
    stbl = box(
        b"stbl",
        full_box(b"stsd", 0, 0, struct.pack(">I", 1), sample_entry(track)),
        full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)),
        full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )
    return box(b"minf", header, dinf, stbl)


def _trex(track: Track) -> bytes:
    flags = KEY_SAMPLE if track.is_audio else OTHER_SAMPLE
    return full_box(b"trex", 0, 0, struct.pack(">5I", TRACK_ID, 1, 0, 0, flags))
