"""Opus: identification header (RFC 7845), MP4's dOps box (Opus in ISOBMFF 4.3.2), packet durations (RFC 6716)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from appliance.errors import RemoteProtocolError
from appliance.media.track import Codec, MediaType, Track

SAMPLE_RATE = 48_000

_MAGIC = b"OpusHead"
_HEAD = Struct("<BBHIhB")
_BOX = Struct(">BBHIhB")
_MAX_SAMPLES = 5760

#: Samples at 48 kHz of one frame, by the configuration in the upper five bits of the TOC byte (RFC 6716 table 2).
_FRAME = (
    *(480, 960, 1920, 2880) * 3,
    *(480, 960) * 2,
    *(120, 240, 480, 960) * 4,
)


@dataclass(frozen=True, slots=True)
class OpusConfig:
    """What a decoder has to know (RFC 7845 5.1).

    ``pre_skip`` in samples at 48 kHz, ``input_rate`` in Hz (0: not told), ``gain`` in 1/256 dB. ``mapping_family`` 0
    means mono or stereo without a table; else ``streams``, ``coupled`` and a ``mapping`` byte a channel are there.
    """

    channels: int
    pre_skip: int = 312
    input_rate: int = SAMPLE_RATE
    gain: int = 0
    mapping_family: int = 0
    streams: int = 1
    coupled: int = 0
    mapping: bytes = b""

    @classmethod
    def parse_head(cls, data: bytes) -> OpusConfig:
        """Parse an OpusHead packet. Raises RemoteProtocolError."""
        if len(data) < 19 or data[:8] != _MAGIC or data[8] & 0xF0:
            raise RemoteProtocolError("not an OpusHead")
        return cls._parse(_HEAD, data[8:], "OpusHead")

    @classmethod
    def parse_box(cls, data: bytes) -> OpusConfig:
        """Parse the content of a dOps box. Raises RemoteProtocolError."""
        if len(data) < 11 or data[0] != 0:
            raise RemoteProtocolError("not a dOps box (version 0 expected)")
        return cls._parse(_BOX, data, "dOps")

    @classmethod
    def _parse(cls, layout: Struct, data: bytes, name: str) -> OpusConfig:
        _, channels, pre_skip, rate, gain, family = layout.unpack_from(data)
        if not channels or (family == 0 and channels > 2):
            raise RemoteProtocolError(f"{name} with {channels} channels in mapping family {family}")
        if family == 0:
            return cls(channels, pre_skip, rate, gain, 0, 1, channels - 1)
        if len(data) < 13 + channels:
            raise RemoteProtocolError(f"{name} ends early")
        streams, coupled, mapping = data[11], data[12], bytes(data[13 : 13 + channels])
        if not streams or coupled > streams or any(entry != 255 and entry >= streams + coupled for entry in mapping):
            raise RemoteProtocolError(f"{name} maps channels to streams that are not there")
        return cls(channels, pre_skip, rate, gain, family, streams, coupled, mapping)

    def build_head(self) -> bytes:
        """The OpusHead packet, which is the track's ``codec_config``."""
        return _MAGIC + self._build(_HEAD, 1)

    def build_box(self) -> bytes:
        """The content of a dOps box."""
        return self._build(_BOX, 0)

    def _build(self, layout: Struct, version: int) -> bytes:
        head = layout.pack(version, self.channels, self.pre_skip, self.input_rate, self.gain, self.mapping_family)
        return head + bytes((self.streams, self.coupled)) + self.mapping if self.mapping_family else head


def head_to_box(head: bytes) -> bytes:
    """The content of dOps for an OpusHead. Raises RemoteProtocolError."""
    return OpusConfig.parse_head(head).build_box()


def box_to_head(box: bytes) -> bytes:
    """The OpusHead for the content of dOps. Raises RemoteProtocolError."""
    return OpusConfig.parse_box(box).build_head()


def packet_samples(packet: bytes) -> int:
    """How long ``packet`` plays, in samples at 48 kHz (120 to 5760, so 2.5 to 120 ms). Raises RemoteProtocolError."""
    if not packet:
        raise RemoteProtocolError("empty Opus packet")
    toc = packet[0]
    code = toc & 3
    if code == 3:
        if len(packet) < 2:
            raise RemoteProtocolError("Opus packet ends early")
        frames = packet[1] & 63
    else:
        frames = 2 if code else 1
    samples = frames * _FRAME[toc >> 3]
    if not 0 < samples <= _MAX_SAMPLES:
        raise RemoteProtocolError("Opus packet of no frames or over 120 ms")
    return samples


def track_from_config(track_id: int, config: bytes, timescale: int = SAMPLE_RATE, variant: str = "Audio",
                      generation: int = 0) -> Track:  # fmt: skip
    """The Track of an OpusHead or of the content of a dOps box. Raises RemoteProtocolError."""
    parsed = OpusConfig.parse_head(config) if config[:8] == _MAGIC else OpusConfig.parse_box(config)
    return Track(
        id=track_id,
        generation=generation,
        media=MediaType.AUDIO,
        codec=Codec.OPUS,
        timescale=timescale,
        codec_config=parsed.build_head(),
        sample_rate=SAMPLE_RATE,
        channels=parsed.channels,
        variant=variant,
        codec_string="opus",
    )
