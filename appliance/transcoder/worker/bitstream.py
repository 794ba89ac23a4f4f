"""From what encoders put out to canonical payloads and codec configurations (`appliance.media.packet`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.media.codecs import av1, h264, h265, nal, vp9
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
_AV1_TEMPORAL_DELIMITER = b"\x12\0"
#: Encoders that can be told to write length prefixes and so cost no rewriting.
_PREFIXED = ("libx264", "libx265")


class Canonical:
    """One encoder's output. ``config`` is the codec configuration as MP4 has it; ask `learn` before each `payload`."""

    def __init__(self, encoder: str, codec: Codec, extradata: bytes, rate: float) -> None:
        self._codec = codec
        self._rate = rate
        self._rewrite = codec in (Codec.H264, Codec.H265) and encoder not in _PREFIXED
        self._sets: tuple[bytes, ...] = ()
        self.config = self._from_extradata(extradata)

    def _from_extradata(self, extradata: bytes) -> bytes:
        if not extradata:
            return b""
        if self._codec is Codec.H265:
            units = nal.split_annexb(extradata) if self._rewrite else nal.split_prefixed(extradata)
            return h265.config_from_parameter_sets([unit for unit in units if self._type(unit) in _H265_SETS])
        if self._codec is Codec.H264 and self._rewrite:
            units = nal.split_annexb(extradata)
            return h264.config_from_parameter_sets([unit for unit in units if self._type(unit) in _H264_SETS])
        if self._codec is Codec.AV1:
            return av1.config_from_sequence_header(extradata)
        return extradata

    def learn(self, packet: Packet) -> bool:
        """Look for a codec configuration in the packet; True when ``config`` changed. Raises RemoteProtocolError."""
        if not packet.is_keyframe or not (self._rewrite or self._codec is Codec.VP9):
            return False
        config = self._in_band(bytes(packet))
        if not config or config == self.config:
            return False
        self.config = config
        return True

    def _in_band(self, payload: bytes) -> bytes:
        if self._codec is Codec.VP9:
            return vp9.config_from_keyframe(payload, self._rate)
        wanted = _H264_SETS if self._codec is Codec.H264 else _H265_SETS
        sets = tuple(unit for unit in nal.split_annexb(payload) if self._type(unit) in wanted)
        if not sets or sets == self._sets:
            return b""
        self._sets = sets
        if self._codec is Codec.H264:
            return h264.config_from_parameter_sets(sets)
        return h265.config_from_parameter_sets(sets)

    def _type(self, unit: bytes) -> int:
        return unit[0] & 31 if self._codec is Codec.H264 else unit[0] >> 1 & 63

    def payload(self, packet: Packet) -> Packet | bytes:
        if self._rewrite:
            aside = _H264_ASIDE if self._codec is Codec.H264 else _H265_ASIDE
            return nal.join_prefixed(u for u in nal.split_annexb(bytes(packet)) if self._type(u) not in aside)
        if self._codec is Codec.AV1:
            return bytes(packet).removeprefix(_AV1_TEMPORAL_DELIMITER)
        return packet

    @property
    def codec_string(self) -> str:
        """For CODECS attributes (RFC 6381)."""
        match self._codec:
            case Codec.H264 if self.config:
                return h264.codec_string(self.config)
            case Codec.H265 if self.config:
                return h265.codec_string(self.config)
            case Codec.VP9 if self.config:
                return vp9.VpConfig.parse(self.config).codec_string
            case Codec.AV1 if self.config:
                return av1.parse_config(self.config).codec_string
            case Codec.VP8:
                return "vp08.00.10.08"
        return ""
