"""How each codec is named and described in MP4: sample entries, their configuration boxes, RFC 6381 strings."""

from __future__ import annotations

import struct

from appliance.errors import BadRequest
from appliance.media.track import Codec, Track
from appliance.protocols.fmp4.boxes import box, full_box

#: What can be packaged.
SUPPORTED_CODECS = frozenset({Codec.H264, Codec.H265, Codec.AV1, Codec.VP9, Codec.AAC, Codec.OPUS})

_VISUAL_ENTRY = struct.Struct(">6xH16xHHII4xH32sHh")
_AUDIO_ENTRY = struct.Struct(">6xH8xHH4xHH")
_VPCC_HEADER = b"\x01\x00\x00\x00"
#: Picture sizes (luma samples) up to each VP9 level, level as ``vpcC`` writes it.
_VP9_LEVELS = ((36864, 10), (73728, 11), (122880, 20), (245760, 21), (552960, 30), (983040, 31), (2228224, 40),
               (8912896, 50), (35651584, 60))  # fmt: skip
_AAC_LC = 2
#: For a track whose configuration doesn't tell: what most encoders send.
_COMMON_STRINGS = {Codec.H264: "avc1.42001e", Codec.H265: "hvc1.1.6.L93", Codec.AV1: "av01.0.05M.08"}
_72_DPI = 72 << 16


def sample_entry(track: Track) -> bytes:
    """The one entry of ``stsd``. Raises BadRequest when the codec, or its configuration, can't be written."""
    writer = _ENTRIES.get(track.codec)
    if writer is None:
        raise BadRequest(f"{track.codec} can't be packaged into MP4")
    return writer(track)


def codec_string(track: Track) -> str:
    """The CODECS form (RFC 6381) that is true for the sample entry written here: ``hvc1`` for H.265, never ``hev1``."""
    given = track.codec_string
    if given:
        return "hvc1" + given[4:] if given.startswith("hev1") else given
    config = track.codec_config
    match track.codec:
        case Codec.H264 if len(config) >= 4:
            return f"avc1.{config[1:4].hex()}"
        case Codec.H265 if len(config) >= 13:
            return _hevc_string(config)
        case Codec.AV1 if len(config) >= 3:
            return _av1_string(config)
        case Codec.VP9:
            profile, level, depth = _vpcc(track)[:3]
            return f"vp09.{profile:02d}.{level:02d}.{depth >> 4:02d}"
        case Codec.AAC:
            return f"mp4a.40.{_audio_object_type(config)}"
        case Codec.OPUS:
            return "opus"
        case _:
            return _COMMON_STRINGS.get(track.codec, "")


def _visual(kind: bytes, track: Track, config: bytes) -> bytes:
    size = (track.width & 0xFFFF, track.height & 0xFFFF)
    entry = _VISUAL_ENTRY.pack(1, *size, _72_DPI, _72_DPI, 1, b"", 0x18, -1)
    return box(kind, entry, config)


def _audio(kind: bytes, track: Track, rate: int, config: bytes) -> bytes:
    # The field is 16.16: a rate over 65535 has no place in it and is told by the decoder configuration alone.
    rate = rate if rate <= 0xFFFF else 0
    return box(kind, _AUDIO_ENTRY.pack(1, track.channels or 2, 16, rate, 0), config)


def _avc1(track: Track) -> bytes:
    return _visual(b"avc1", track, box(b"avcC", _required(track)))


def _hvc1(track: Track) -> bytes:
    return _visual(b"hvc1", track, box(b"hvcC", _complete_arrays(_required(track))))


def _av01(track: Track) -> bytes:
    return _visual(b"av01", track, box(b"av1C", _required(track)))


def _vp09(track: Track) -> bytes:
    return _visual(b"vp09", track, full_box(b"vpcC", 1, 0, _vpcc(track)))


def _mp4a(track: Track) -> bytes:
    return _audio(b"mp4a", track, track.sample_rate, _esds(_required(track), track.bitrate))


def _opus(track: Track) -> bytes:
    return _audio(b"Opus", track, 48000, box(b"dOps", _dops(track)))


_ENTRIES = {
    Codec.H264: _avc1,
    Codec.H265: _hvc1,
    Codec.AV1: _av01,
    Codec.VP9: _vp09,
    Codec.AAC: _mp4a,
    Codec.OPUS: _opus,
}


def _required(track: Track) -> bytes:
    if not track.codec_config:
        raise BadRequest(f"{track.codec} track {track.id} has no codec configuration yet")
    return track.codec_config


def _complete_arrays(hvcc: bytes) -> bytes:
    """``hvc1`` promises that all parameter sets are here: say so in each array (14496-15, 8.3.3.1)."""
    patched = bytearray(hvcc)
    at = 23
    for _ in range(patched[22] if len(patched) > 22 else 0):
        if at + 3 > len(patched):
            break
        patched[at] |= 0x80
        units = int.from_bytes(patched[at + 1 : at + 3], "big")
        at += 3
        for _ in range(units):
            at += 2 + int.from_bytes(patched[at : at + 2], "big")
    return bytes(patched)


def _descriptor(tag: int, body: bytes) -> bytes:
    """An MPEG-4 descriptor with its length in the four-byte form (14496-1, 8.3.3)."""
    size = len(body)
    return bytes((tag, 0x80 | size >> 21 & 0x7F, 0x80 | size >> 14 & 0x7F, 0x80 | size >> 7 & 0x7F, size & 0x7F)) + body


def _esds(audio_specific_config: bytes, bitrate: int) -> bytes:
    decoder = struct.pack(">BBBHII", 0x40, 0x15, 0, 0, bitrate, bitrate) + _descriptor(0x05, audio_specific_config)
    stream = struct.pack(">HB", 0, 0) + _descriptor(0x04, decoder) + _descriptor(0x06, b"\x02")
    return full_box(b"esds", 0, 0, _descriptor(0x03, stream))


def _dops(track: Track) -> bytes:
    """``dOps`` is OpusHead without its magic, version 0 and big-endian (Opus in ISOBMFF, 4.3.2)."""
    head = track.codec_config
    if head[:8] == b"OpusHead" and len(head) >= 19:
        channels, skip, rate, gain, family = struct.unpack_from("<xBHIhB", head, 8)
        return struct.pack(">BBHIhB", 0, channels, skip, rate, gain, family) + head[19:]
    if len(head) >= 11 and head[0] == 0:
        return head
    return struct.pack(">BBHIhB", 0, track.channels or 2, 312, track.sample_rate or 48000, 0, 0)


def _vpcc(track: Track) -> bytes:
    config = track.codec_config
    if config[:4] == _VPCC_HEADER:
        config = config[4:]
    if len(config) >= 8:
        return config
    pixels = track.width * track.height
    level = next((level for limit, level in _VP9_LEVELS if pixels <= limit), 62)
    # Profile 0, 8 bit 4:2:0 (colocated), limited range, colours not stated.
    return bytes((0, level, 0x82, 2, 2, 2, 0, 0))


def _audio_object_type(config: bytes) -> int:
    if not config:
        return _AAC_LC
    kind = config[0] >> 3
    if kind == 31 and len(config) > 1:
        return 32 + ((config[0] & 7) << 3 | config[1] >> 5)
    return kind or _AAC_LC


def _hevc_string(hvcc: bytes) -> str:
    """14496-15 annex E.3: profile space and profile, compatibility flags bit-reversed, tier and level, constraints."""
    space = ("", "A", "B", "C")[hvcc[1] >> 6]
    flags = int(f"{int.from_bytes(hvcc[2:6], 'big'):032b}"[::-1], 2)
    tier = "H" if hvcc[1] & 0x20 else "L"
    constraints = hvcc[6:12].rstrip(b"\0")
    words = ["hvc1", f"{space}{hvcc[1] & 0x1F}", f"{flags:X}", f"{tier}{hvcc[12]}"]
    return ".".join(words + [f"{byte:X}" for byte in constraints])


def _av1_string(av1c: bytes) -> str:
    """AV1 codec ISO media file format binding, section 5."""
    level = av1c[1] & 0x1F
    tier = "H" if av1c[2] & 0x80 else "M"
    depth = 12 if av1c[2] & 0x20 else 10 if av1c[2] & 0x40 else 8
    return f"av01.{av1c[1] >> 5}.{level:02d}{tier}.{depth:02d}"
