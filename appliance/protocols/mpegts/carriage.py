"""How each codec travels in a transport stream: stream types, descriptors, and what is put around an access unit."""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import BadRequest, RemoteProtocolError
from appliance.media.codecs.aac import AudioConfig, adts_header
from appliance.media.codecs.h264 import AvcConfig
from appliance.media.codecs.h265 import HevcConfig
from appliance.media.codecs.nal import START_CODE, join_annexb
from appliance.media.codecs.opus import OpusConfig
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track

#: What can be carried.
SUPPORTED_CODECS = frozenset(
    {Codec.H264, Codec.H265, Codec.AAC, Codec.OPUS, Codec.MP2, Codec.MP3, Codec.AC3, Codec.ID3}
)

#: 13818-1 table 2-34; AC-3 as ATSC A/53 has it, Opus as private data with a registration.
STREAM_TYPES = {
    Codec.H264: 0x1B, Codec.H265: 0x24, Codec.AAC: 0x0F, Codec.OPUS: 0x06, Codec.MP2: 0x03, Codec.MP3: 0x03,
    Codec.AC3: 0x81, Codec.ID3: 0x15,
}  # fmt: skip

#: MPEG-1 audio (and so stream type 3) ends at this rate; lower ones are of MPEG-2 (stream type 4).
_MPEG1_LOWEST_RATE = 32000

_AVC_DELIMITER = START_CODE + b"\x09\xf0"
_HEVC_DELIMITER = START_CODE + b"\x46\x01\x50"
_ID3_FORMAT = b"\xff\xffID3 \xffID3 "

#: An access unit of a canonical packet as the elementary stream has it.
Wrap = Callable[[Packet], bytes]


def stream_type(track: Track) -> int:
    if track.codec in (Codec.MP2, Codec.MP3) and 0 < track.sample_rate < _MPEG1_LOWEST_RATE:
        return 0x04
    return STREAM_TYPES[track.codec]


def descriptors(track: Track) -> bytes:
    """The descriptors of a stream in the program map."""
    match track.codec:
        case Codec.OPUS:
            # Opus in TS 3.1: registration, and the extension with the channel configuration.
            text = b"\x05\x04Opus" + bytes((0x7F, 2, 0x80, _opus_channels(track)))
        case Codec.AC3:
            text = b"\x05\x04AC-3"
        case Codec.H265:
            text = b"\x05\x04HEVC"
        case Codec.ID3:
            # Timed metadata for HLS 2.3: a metadata descriptor.
            text = bytes((0x26, 13)) + _ID3_FORMAT + b"\0\x0f"
        case _:
            text = b""
    language = track.language.lower().encode("ascii", "replace")
    if track.is_audio and len(language) == 3 and language.isalpha():
        text += b"\x0a\x04" + language + b"\0"
    return text


def metadata_pointer(program: int) -> bytes:
    """The program's descriptor that points at its ID3 stream (Timed metadata for HLS 2.2)."""
    return bytes((0x25, 15)) + _ID3_FORMAT + bytes((0, 0x1F, program >> 8, program & 0xFF))


def _opus_channels(track: Track) -> int:
    config = _opus_config(track)
    if config is None:
        return track.channels or 2
    if config.mapping_family == 255:
        raise BadRequest("Opus with unnamed channels can't be carried in a transport stream")
    return config.channels


def _opus_config(track: Track) -> OpusConfig | None:
    return OpusConfig.parse_head(track.codec_config) if track.codec_config else None


def wrapper(track: Track) -> Wrap:
    """What makes access units of ``track``. Raises BadRequest when its codec or configuration can't be carried."""
    if track.codec not in SUPPORTED_CODECS:
        raise BadRequest(f"{track.codec} can't be carried in a transport stream")
    try:
        match track.codec:
            case Codec.H264:
                return _video(_AVC_DELIMITER, AvcConfig.parse(track.codec_config).parameter_sets)
            case Codec.H265:
                return _video(_HEVC_DELIMITER, HevcConfig.parse(track.codec_config).parameter_sets)
            case Codec.AAC:
                return _aac(track)
            case Codec.OPUS:
                return _opus
            case _:
                return _as_it_is
    except RemoteProtocolError as fault:
        raise BadRequest(f"{track.codec} track {track.id} can't be carried in a transport stream: {fault}") from fault


def _video(delimiter: bytes, parameter_sets: tuple[bytes, ...]) -> Wrap:
    before_key = delimiter + join_annexb(parameter_sets)

    def wrap(packet: Packet) -> bytes:
        payload = packet.payload
        data = bytearray(payload)
        at, end = 0, len(data) - 4
        # Lengths have the size of start codes: each unit stays where it is.
        while at <= end:
            size = int.from_bytes(payload[at : at + 4], "big")
            data[at : at + 4] = START_CODE
            at += 4 + size
        return (before_key if packet.keyframe else delimiter) + data

    return wrap


def _aac(track: Track) -> Wrap:
    config = AudioConfig.parse(track.codec_config)
    # Fails here, once, for what ADTS can't say.
    head = adts_header(config, 0)
    base = int.from_bytes(head, "big") & ~(0x1FFF << 13)

    def wrap(packet: Packet) -> bytes:
        size = len(packet.payload) + 7
        if size > 0x1FFF:
            raise BadRequest("an AAC frame is longer than ADTS can say")
        return (base | size << 13).to_bytes(7, "big") + packet.payload

    return wrap


def _opus(packet: Packet) -> bytes:
    """The control header of Opus in TS (4.1): no trimming, the size in steps of 255."""
    full, rest = divmod(len(packet.payload), 255)
    return b"\x7f\xe0" + b"\xff" * full + bytes((rest,)) + packet.payload


def _as_it_is(packet: Packet) -> bytes:
    return packet.payload
