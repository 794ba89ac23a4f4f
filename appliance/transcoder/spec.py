"""What the transcoder is asked to make: one `RenditionSpec` an output track."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import msgspec

from appliance.media.track import Codec, MediaType, Track

Kind = Literal["video", "audio", "image"]
IntervalType = Literal["frame", "time"]

#: Timescale of encoded video and images (wire catalogue 8.6).
VIDEO_TIMESCALE = 90000
#: What an AAC encoder takes (ISO/IEC 14496-3 table 1.18), without the two that the encoder lacks.
AAC_SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
OPUS_SAMPLE_RATE = 48000


class RenditionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One encode of one input track (wire catalogue 8.2). Equal specs make equal output.

    ``id``: output track id; ``input_id``: the input track it is made of. ``bitrate`` bit/s. ``width``, ``height``:
    0 keeps the input's. ``framerate`` 0 follows the input. ``key_frame_interval``: frames, or milliseconds for type
    ``time``; 0 is one second. ``skip_frames``, ``thread_count``, ``lookahead``: -1 is automatic or off.
    ``sample_rate`` 0 keeps the input's, ``channels`` 1 is mono and anything else stereo. ``encoders``: FFmpeg names
    to try in this order, () lets ``codec`` and ``modules`` decide (`appliance.transcoder.encoders`).
    """

    id: int
    input_id: int
    kind: Kind
    codec: Codec
    variant: str = ""
    bitrate: int = 0
    width: int = 0
    height: int = 0
    framerate: float = 0.0
    key_frame_interval: int = 0
    key_frame_interval_type: IntervalType = "frame"
    preset: str = ""
    profile: str = ""
    b_frames: int = 0
    skip_frames: int = -1
    thread_count: int = -1
    lookahead: int = -1
    sample_rate: int = 0
    channels: int = 0
    modules: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    public_name: str = ""
    language: str = ""
    characteristics: str = ""

    @property
    def media(self) -> MediaType:
        return MediaType.AUDIO if self.kind == "audio" else MediaType.VIDEO

    def names_aside(self) -> RenditionSpec:
        """The spec without what the encoder doesn't see: two that are equal so need one encoder."""
        return msgspec.structs.replace(self, variant="", public_name="", language="", characteristics="")


class EncodedTrack(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says of an output track before its first packet, and again when any of it changes."""

    id: int
    codec_config: bytes = b""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    has_b_frames: bool = False
    codec_string: str = ""
    encoder: str = ""

    def as_track(self, spec: RenditionSpec, generation: int) -> Track:
        return Track(
            id=spec.id,
            generation=generation,
            media=spec.media,
            codec=spec.codec,
            timescale=self.sample_rate if spec.kind == "audio" else VIDEO_TIMESCALE,
            codec_config=self.codec_config,
            width=self.width,
            height=self.height,
            frame_rate=self.frame_rate,
            sample_rate=self.sample_rate,
            channels=self.channels,
            bitrate=spec.bitrate,
            variant=spec.variant,
            public_name=spec.public_name,
            language=spec.language,
            characteristics=spec.characteristics,
            bypass=False,
            has_b_frames=self.has_b_frames,
            codec_string=self.codec_string,
        )


def frame_rate_fraction(rate: float) -> Fraction:
    """``rate`` frames a second as a fraction; what is within 0.02 % of an NTSC rate is that rate."""
    ntsc = Fraction(math.ceil(rate) * 1000, 1001)
    if rate != math.ceil(rate) and abs(float(ntsc) - rate) <= 0.0002 * rate:
        return ntsc
    return Fraction(rate).limit_denominator(1001)


def output_size(spec: RenditionSpec, width: int, height: int) -> tuple[int, int]:
    """Size of the picture to make from one of ``width`` x ``height`` (wire catalogue 8.2): an absent side keeps the
    aspect, rounded up to even, then both are rounded up to a multiple of 4; with no side given the input's size stays
    (made even, as 4:2:0 wants)."""
    if not spec.width and not spec.height:
        return width + width % 2, height + height % 2
    wide = spec.width or _up(-(-width * spec.height // height), 2)
    high = spec.height or _up(-(-height * spec.width // width), 2)
    return _up(wide, 4), _up(high, 4)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def output_sample_rate(spec: RenditionSpec, input_rate: int) -> int:
    """Opus is always 48 kHz; AAC takes the nearest rate above that it knows."""
    if spec.codec is Codec.OPUS:
        return OPUS_SAMPLE_RATE
    wanted = spec.sample_rate or input_rate
    return min((rate for rate in AAC_SAMPLE_RATES if rate >= wanted), default=AAC_SAMPLE_RATES[0])


def output_channels(spec: RenditionSpec) -> int:
    return 1 if spec.channels == 1 else 2
