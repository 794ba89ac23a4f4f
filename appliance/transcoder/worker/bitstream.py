"""From what encoders put out to canonical payloads and codec configurations (`appliance.media.packet`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.media.codecs import nal
from appliance.media.codecs.h264 import config_from_parameter_sets
from appliance.media.track import Codec

if TYPE_CHECKING:
    from typing import Any

    from av.packet import Packet as AvPacket

    Packet = AvPacket[Any]

_H264_SETS = (7, 8)
_H265_SETS = (32, 33, 34)
#: Parameter sets, delimiters and filler have no place in a canonical payload.
_H264_ASIDE = (*_H264_SETS, 9, 12)
_H265_ASIDE = (*_H265_SETS, 35, 38)
_AV1_SEQUENCE_HEADER = 1
_AV1_TEMPORAL_DELIMITER = b"\x12\0"
#: Encoders that can be told to write length prefixes and so cost no rewriting.
_PREFIXED = ("libx264", "libx265")


class Canonical:
    """One encoder's output. ``config`` is the codec configuration as MP4 has it; ask `learn` before each `payload`."""

    def __init__(self, encoder: str, codec: Codec, extradata: bytes) -> None:
        self._codec = codec
        self._rewrite = codec in (Codec.H264, Codec.H265) and encoder not in _PREFIXED
        self._sets: tuple[bytes, ...] = ()
        self.config = self._from_extradata(extradata)

    def _from_extradata(self, extradata: bytes) -> bytes:
        if self._codec is Codec.H265 and extradata:
            units = nal.split_annexb(extradata) if self._rewrite else nal.split_prefixed(extradata)
            return hevc_config([unit for unit in units if unit[0] >> 1 & 63 in _H265_SETS])
        if self._codec is Codec.H264 and self._rewrite:
            units = nal.split_annexb(extradata) if extradata[:1] == b"\0" else []
            return config_from_parameter_sets(units) if units else b""
        if self._codec is Codec.AV1:
            return av1_config(extradata)
        return extradata

    def learn(self, packet: Packet) -> bool:
        """Look for a new codec configuration in the packet; True when ``config`` changed."""
        if not self._rewrite or not packet.is_keyframe:
            return False
        wanted = _H264_SETS if self._codec is Codec.H264 else _H265_SETS
        sets = tuple(unit for unit in nal.split_annexb(bytes(packet)) if self._type(unit) in wanted)
        if not sets or sets == self._sets:
            return False
        self._sets = sets
        config = config_from_parameter_sets(sets) if self._codec is Codec.H264 else hevc_config(sets)
        if config == self.config:
            return False
        self.config = config
        return True

    def _type(self, unit: bytes) -> int:
        return unit[0] & 31 if self._codec is Codec.H264 else unit[0] >> 1 & 63

    def payload(self, packet: Packet) -> Packet | bytes:
        if self._rewrite:
            h264 = self._codec is Codec.H264
            aside = _H264_ASIDE if h264 else _H265_ASIDE
            return nal.join_prefixed(u for u in nal.split_annexb(bytes(packet)) if self._type(u) not in aside)
        if self._codec is Codec.AV1:
            return bytes(packet).removeprefix(_AV1_TEMPORAL_DELIMITER)
        return packet


def hevc_config(sets: list[bytes] | tuple[bytes, ...]) -> bytes:
    """hvcC (ISO/IEC 14496-15 8.3.3.1) of 8-bit 4:2:0 video from its VPS, SPS and PPS."""
    sps = next(unit for unit in sets if unit[0] >> 1 & 63 == 33)
    raw = sps[:32].replace(b"\0\0\3", b"\0\0")
    layers, nested = (raw[2] >> 1 & 7) + 1, raw[2] & 1
    head = b"\x01" + raw[3:15] + b"\xf0\0\xfc\xfd\xf8\xf8\0\0" + bytes([layers << 3 | nested << 2 | 3])
    arrays = []
    for kind in _H265_SETS:
        units = [unit for unit in sets if unit[0] >> 1 & 63 == kind]
        if units:
            body = b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)
            arrays.append(bytes([0x80 | kind]) + len(units).to_bytes(2, "big") + body)
    return head + bytes([len(arrays)]) + b"".join(arrays)


def av1_config(sequence: bytes) -> bytes:
    """av1C (AV1 in ISOBMFF 2.3) from a low-overhead sequence header OBU of 8-bit 4:2:0 video, b"" without one.

    Profile, level and tier are read from the start of the sequence header (AV1 5.5.1) of a still-picture-free stream
    without timing information, which is what the encoder writes.
    """
    if len(sequence) < 4 or sequence[0] >> 3 & 15 != _AV1_SEQUENCE_HEADER:
        return b""
    bits = int.from_bytes(sequence[2:10].ljust(8, b"\0"), "big")

    def take(offset: int, count: int) -> int:
        return bits >> (64 - offset - count) & ((1 << count) - 1)

    profile = take(0, 3)
    if take(4, 1) or take(5, 1):
        # A reduced header or timing information: the level is elsewhere; 31 is "no constraint" (annex A.3).
        level, tier = 31, 0
    else:
        # initial_display_delay_present (1), operating points minus 1 (5), its idc (12), then the level.
        level = take(24, 5)
        tier = take(29, 1) if level > 7 else 0
    return bytes([0x81, profile << 5 | level, tier << 7 | 0x0C, 0]) + sequence
