"""A movie of several tracks in one file, written so that it can be cut anywhere (ISO/IEC 14496-12).

While it grows it is a fragmented MP4: ``ftyp``, 16 spare bytes, ``moov``, then ``moof`` and ``mdat`` in turn.
``finishing.py`` tells what makes a plain one of it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from appliance.errors import BadRequest
from appliance.media.clock import rescale
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.protocols.fmp4.boxes import box, full_box
from appliance.protocols.fmp4.codecs import sample_entry
from appliance.protocols.fmp4.fragment import KEY_SAMPLE, OTHER_SAMPLE

#: Ticks a second of what concerns the whole movie.
MOVIE_TIMESCALE = 90_000
#: Becomes the header of one ``mdat`` around everything up to the final ``moov``: 32 bit "1", type, 64 bit size.
SPARE_HEADER = struct.pack(">I4s8x", 16, b"free")
UNITY_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)

_MFHD = struct.Struct(">I4sII")
_TRAF = struct.Struct(">I4s I4sII I4sIQ I4sIIi")
_BOX = struct.Struct(">I4s")
_DEFAULT_BASE_IS_MOOF = 0x020000
VIDEO_RUN = 0x01000F01
AUDIO_RUN = 0x00000301
_UNDETERMINED = 0x55C4


class MovieWriter:
    """Turns packets into the head of a file and its fragments. Track numbers are 1 and on, in the order of ``tracks``.

    Times of the packets count from the start of the movie; decoding times may be below zero by up to ``lead``, a
    (ticks, timescale) pair: what B-frames need. Every packet carries its true duration.

    Raises BadRequest when a track can't be written into MP4.
    """

    def __init__(self, tracks: Sequence[Track], lead: tuple[int, int] = (0, 1)) -> None:
        if not tracks:
            raise BadRequest("no track to write into MP4")
        self._numbers = {track.id: number for number, track in enumerate(tracks, 1)}
        self._shifts = {track.id: rescale(lead[0], lead[1], track.timescale) for track in tracks}
        traks = [_trak(track, self._numbers[track.id], self._shifts[track.id]) for track in tracks]
        extends = [_trex(track, self._numbers[track.id]) for track in tracks]
        self._head = b"".join((
            _ftyp(tracks), SPARE_HEADER, box(b"moov", mvhd(0, len(tracks) + 1), *traks, box(b"mvex", *extends)),
        ))  # fmt: skip
        self._sequence = 0

    def head(self) -> bytes:
        """``ftyp``, the spare 16 bytes and ``moov``."""
        return self._head

    def fragment(self, packets: Sequence[Packet]) -> bytes:
        """``moof`` and ``mdat`` of ``packets``, which are in the order of decoding within each track; not empty."""
        runs: dict[int, list[Packet]] = {}
        for packet in packets:
            runs.setdefault(packet.track.id, []).append(packet)
        sizes = [len(run) * (16 if run[0].track.is_video else 8) for run in runs.values()]
        moof_size = 8 + 16 + sum(64 + size for size in sizes)
        self._sequence += 1
        out = [_BOX.pack(moof_size, b"moof"), _MFHD.pack(16, b"mfhd", 0, self._sequence)]
        payloads: list[bytes] = []
        at = moof_size + 8
        for (track_id, run), size in zip(runs.items(), sizes, strict=True):
            video = run[0].track.is_video
            shift = self._shifts[track_id]
            out.append(_TRAF.pack(
                64 + size, b"traf",
                16, b"tfhd", _DEFAULT_BASE_IS_MOOF, self._numbers[track_id],
                20, b"tfdt", 0x01000000, max(0, run[0].dts + shift),
                20 + size, b"trun", VIDEO_RUN if video else AUDIO_RUN, len(run), at,
            ))  # fmt: skip
            out.append(_video_run(run) if video else _audio_run(run))
            for packet in run:
                payloads.append(packet.payload)
                at += len(packet.payload)
        out.append(_BOX.pack(at - moof_size, b"mdat"))
        return b"".join((*out, *payloads))


def _video_run(run: Sequence[Packet]) -> bytes:
    values: list[int] = []
    for packet in run:
        flags = KEY_SAMPLE if packet.keyframe else OTHER_SAMPLE
        values += (packet.duration, len(packet.payload), flags, packet.pts - packet.dts)
    return struct.pack(">" + "IIIi" * len(run), *values)


def _audio_run(run: Sequence[Packet]) -> bytes:
    values: list[int] = []
    for packet in run:
        values += (packet.duration, len(packet.payload))
    return struct.pack(f">{len(values)}I", *values)


def _ftyp(tracks: Sequence[Track]) -> bytes:
    brands = [b"isom", b"iso6", b"mp42"]
    if any(track.codec is Codec.H264 for track in tracks):
        brands.append(b"avc1")
    return box(b"ftyp", b"isom", struct.pack(">I", 0x200), *brands)


def mvhd(duration: int, next_track: int) -> bytes:
    """``duration`` in ticks of MOVIE_TIMESCALE."""
    return full_box(
        b"mvhd", 1, 0, struct.pack(">QQIQ", 0, 0, MOVIE_TIMESCALE, duration), struct.pack(">IH10x", 0x10000, 0x100),
        UNITY_MATRIX, bytes(24), struct.pack(">I", next_track),
    )  # fmt: skip


def _trak(track: Track, number: int, shift: int) -> bytes:
    volume = 0x100 if track.is_audio else 0
    # Renditions of one kind exclude each other: a player takes one of them.
    tkhd = full_box(
        b"tkhd", 1, 7, struct.pack(">QQI4xQ8x", 0, 0, number, 0),
        struct.pack(">HHH2x", 0, 1 if track.is_audio else 0, volume), UNITY_MATRIX,
        struct.pack(">II", track.width << 16 & 0xFFFFFFFF, track.height << 16 & 0xFFFFFFFF),
    )  # fmt: skip
    edits = box(b"edts", full_box(b"elst", 1, 0, struct.pack(">IQqI", 1, 0, shift, 0x10000))) if shift else b""
    mdhd = full_box(b"mdhd", 1, 0, struct.pack(">QQIQHH", 0, 0, track.timescale, 0, _language(track), 0))
    return box(b"trak", tkhd, edits, box(b"mdia", mdhd, _hdlr(track), _minf(track)))


def _language(track: Track) -> int:
    """Three letters, five bits each; "und" for what isn't three letters."""
    code = track.language.lower()
    if len(code) != 3 or not all("a" <= letter <= "z" for letter in code):
        return _UNDETERMINED
    first, second, third = (ord(letter) - 0x60 for letter in code)
    return first << 10 | second << 5 | third


def _hdlr(track: Track) -> bytes:
    kind = b"soun" if track.is_audio else b"vide"
    name = (track.variant or track.media).encode()[:100]
    return full_box(b"hdlr", 0, 0, bytes(4), kind, bytes(12), name, b"\0")


def _minf(track: Track) -> bytes:
    header = full_box(b"smhd", 0, 0, bytes(4)) if track.is_audio else full_box(b"vmhd", 0, 1, bytes(8))
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
    stbl = box(
        b"stbl",
        full_box(b"stsd", 0, 0, struct.pack(">I", 1), sample_entry(track)),
        full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)),
        full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )
    return box(b"minf", header, dinf, stbl)


def _trex(track: Track, number: int) -> bytes:
    flags = KEY_SAMPLE if track.is_audio else OTHER_SAMPLE
    return full_box(b"trex", 0, 0, struct.pack(">5I", number, 1, 0, 0, flags))
