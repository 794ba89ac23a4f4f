"""Packets into a Matroska segment that can be cut behind any cluster (RFC 9559)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from appliance.errors import BadRequest
from appliance.media.clock import rescale
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.protocols.matroska.ebml import UNKNOWN_SIZE, element, number, text, unsigned, void

EBML, SEGMENT, INFO, TRACKS, CLUSTER, CUES, SEEK_HEAD = (
    0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B, 0x114D9B74,
)  # fmt: skip
DURATION, CLUSTER_TIME, SIMPLE_BLOCK = 0x4489, 0xE7, 0xA3
#: Ticks are milliseconds.
MILLISECONDS = 1000
#: Room at the head of the segment for what is known only at its end.
SEEK_ROOM = 80
#: Block times are 16 bit, relative to their cluster.
_LONGEST_CLUSTER = 30_000

_IDS = {
    Codec.H264: "V_MPEG4/ISO/AVC", Codec.H265: "V_MPEGH/ISO/HEVC", Codec.VP8: "V_VP8", Codec.VP9: "V_VP9",
    Codec.AV1: "V_AV1", Codec.AAC: "A_AAC", Codec.OPUS: "A_OPUS", Codec.MP3: "A_MPEG/L3", Codec.MP2: "A_MPEG/L2",
    Codec.AC3: "A_AC3",
}  # fmt: skip
SUPPORTED_CODECS = frozenset(_IDS)
WEBM_CODECS = frozenset({Codec.VP8, Codec.VP9, Codec.AV1, Codec.OPUS})
#: The configuration stands in CodecPrivate for these; the others have none there.
_PRIVATE = frozenset({Codec.H264, Codec.H265, Codec.AV1, Codec.AAC, Codec.OPUS})


class SegmentWriter:
    """Turns packets into the head of a file and clusters. Track numbers are 1 and on, in the order of ``tracks``.

    Raises BadRequest for a codec that has no place in it.
    """

    def __init__(self, tracks: Sequence[Track], *, webm: bool = False) -> None:
        allowed = WEBM_CODECS if webm else SUPPORTED_CODECS
        for track in tracks:
            if track.codec not in allowed:
                raise BadRequest(f"{track.codec} can't be written into {'WebM' if webm else 'Matroska'}")
        if not tracks:
            raise BadRequest("no track to write into Matroska")
        self._numbers = {track.id: number for number, track in enumerate(tracks, 1)}
        head = element(
            EBML, unsigned(0x4286, 1), unsigned(0x42F7, 1), unsigned(0x42F2, 4), unsigned(0x42F3, 8),
            text(0x4282, "webm" if webm else "matroska"), unsigned(0x4287, 4), unsigned(0x4285, 2),
        )  # fmt: skip
        info = element(
            INFO, unsigned(0x2AD7B1, 1_000_000), number(DURATION, 0.0), text(0x4D80, "Kiln"), text(0x5741, "Kiln")
        )
        entries = [_track_entry(track, self._numbers[track.id]) for track in tracks]
        self._head = b"".join((
            head, struct.pack(">IQ", SEGMENT, UNKNOWN_SIZE), void(SEEK_ROOM), info, element(TRACKS, *entries),
        ))  # fmt: skip

    def head(self) -> bytes:
        return self._head

    def fragment(self, packets: Sequence[Packet]) -> bytes:
        """One cluster, more where the times lie far apart."""
        clusters: list[bytes] = []
        blocks: list[bytes] = []
        base = 0
        for packet in packets:
            track = packet.track
            shown = max(0, rescale(packet.pts, track.timescale, MILLISECONDS))
            if not blocks:
                base = shown
            elif not -_LONGEST_CLUSTER < shown - base < _LONGEST_CLUSTER:
                clusters.append(element(CLUSTER, unsigned(CLUSTER_TIME, base), *blocks))
                blocks, base = [], shown
            flags = 0x80 if packet.keyframe or track.is_audio else 0
            head = struct.pack(">BhB", 0x80 | self._numbers[track.id], shown - base, flags)
            blocks.append(element(SIMPLE_BLOCK, head, packet.payload))
        clusters.append(element(CLUSTER, unsigned(CLUSTER_TIME, base), *blocks))
        return b"".join(clusters)


def _track_entry(track: Track, number_: int) -> bytes:
    parts = [
        unsigned(0xD7, number_), unsigned(0x73C5, number_), unsigned(0x9C, 0),
        unsigned(0x83, 2 if track.is_audio else 1), text(0x86, _IDS[track.codec]),
    ]  # fmt: skip
    if track.codec in _PRIVATE:
        if not track.codec_config:
            raise BadRequest(f"{track.codec} track {track.id} has no codec configuration yet")
        parts.append(element(0x63A2, _private(track)))
    if track.variant:
        parts.append(text(0x536E, track.variant))
    if track.language:
        parts.append(text(0x22B59C, track.language))
    if track.is_audio:
        rate = number(0xB5, float(track.sample_rate or 48000))
        parts.append(element(0xE1, rate, unsigned(0x9F, track.channels or 2)))
    else:
        parts.append(element(0xE0, unsigned(0xB0, track.width or 1), unsigned(0xBA, track.height or 1)))
    return element(0xAE, *parts)


def _private(track: Track) -> bytes:
    config = track.codec_config
    if track.codec is Codec.OPUS and config[:8] != b"OpusHead":
        if len(config) >= 11 and config[0] == 0:
            channels, skip, rate, gain, family = struct.unpack_from(">xBHIhB", config)
            return b"OpusHead" + struct.pack("<BBHIhB", 1, channels, skip, rate, gain, family) + config[11:]
        return b"OpusHead" + struct.pack("<BBHIhB", 1, track.channels or 2, 312, track.sample_rate or 48000, 0, 0)
    return config
