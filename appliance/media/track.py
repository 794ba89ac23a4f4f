"""A track: what a decoder has to know about one elementary stream."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class MediaType(StrEnum):
    """The kinds of track, in the words of the API."""

    VIDEO = "Video"
    AUDIO = "Audio"
    DATA = "Data"
    SUBTITLE = "Subtitle"


class Codec(StrEnum):
    """The codecs, in the words of the API (catalogue 3.4)."""

    H264 = "H264"
    H265 = "H265"
    VP8 = "VP8"
    VP9 = "VP9"
    AV1 = "AV1"
    AAC = "AAC"
    OPUS = "OPUS"
    MP3 = "MP3"
    MP2 = "MP2"
    AC3 = "AC3"
    PCMA = "PCMA"
    PCMU = "PCMU"
    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    WEBVTT = "WEBVTT"
    ID3 = "ID3"
    RAW = "RAW"


class Track(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """One elementary stream of a Stream. Immutable and compared by identity.

    A new codec configuration is a new Track with the same ``id`` and the next ``generation``; every packet names
    the Track it belongs to, so a reader sees the change where ``packet.track`` is another object.

    ``timescale``: ticks a second of all times in its packets (90000 for video, the sample rate for audio).
    ``codec_config``: avcC, hvcC, AudioSpecificConfig, OpusHead, av1C … as the codec's MP4 mapping has it; empty for
    codecs without one and for RAW. ``width``, ``height`` in pixels, ``frame_rate`` in frames a second (0: unknown),
    ``sample_rate`` in Hz, ``channels`` a count. ``variant``: the variant name (encode name in an output stream,
    ``Video``/``Audio``/``Data`` in an input stream). ``bitrate``: configured bit/s (0: not configured).
    ``codec_string``: RFC 6381 form for CODECS attributes ("" when unknown).
    """

    id: int
    generation: int = 0
    media: MediaType
    codec: Codec
    timescale: int
    codec_config: bytes = b""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    bitrate: int = 0
    variant: str = ""
    public_name: str = ""
    language: str = ""
    characteristics: str = ""
    bypass: bool = True
    has_b_frames: bool = False
    codec_string: str = ""

    @property
    def is_video(self) -> bool:
        return self.media is MediaType.VIDEO

    @property
    def is_audio(self) -> bool:
        return self.media is MediaType.AUDIO
