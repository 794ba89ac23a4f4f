"""AAC (ISO/IEC 14496-3): AudioSpecificConfig and ADTS headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from appliance.errors import RemoteProtocolError
from appliance.media.codecs.bits import BitReader
from appliance.media.track import Codec, MediaType, Track

SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
#: Channels of each channelConfiguration (table 1.19); 0 for reserved values.
_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8)
_CONFIGURATION = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 8: 7, 7: 11, 24: 13}

MAIN, LC, SSR, LTP, SBR, PS, LD, ELD = 1, 2, 3, 4, 5, 29, 23, 39
#: Object types whose configuration goes on with a GASpecificConfig.
_GENERAL_AUDIO = frozenset((1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23))


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """An AudioSpecificConfig (14496-3 1.6.2.1).

    ``object_type`` is that of the core (2: AAC-LC), ``core_rate`` its rate in Hz; ``sbr`` and ``ps`` say whether the
    extensions are signalled, ``sample_rate`` the rate of the decoded sound (twice the core's with SBR), ``channels`` a
    count (2 for parametric stereo). ``frame_length`` in samples at the core rate (1024, 960, 512 or 480).
    """

    object_type: int
    core_rate: int
    sample_rate: int
    channels: int
    frame_length: int = 1024
    sbr: bool = False
    ps: bool = False

    @classmethod
    def parse(cls, data: bytes) -> AudioConfig:
        """Parse an AudioSpecificConfig. Raises RemoteProtocolError, also for channels told by a program config element.

        SBR that is signalled implicitly (nothing in the configuration) can't be seen here: times and sizes are then
        those of the core, as MP4 has them too.
        """
        reader = BitReader(data)
        object_type = _object_type(reader)
        core_rate = sample_rate = _sample_rate(reader)
        configuration = reader.bits(4)
        sbr = ps = False
        if object_type in (SBR, PS):
            sbr, ps = True, object_type == PS
            sample_rate = _sample_rate(reader)
            object_type = _object_type(reader)
        channels = _channel_count(configuration)
        frame_length = 1024
        if object_type == ELD:
            frame_length = 480 if reader.flag() else 512
        elif object_type in _GENERAL_AUDIO:
            short = reader.flag()
            frame_length = (480 if short else 512) if object_type == LD else 960 if short else 1024
            if not sbr and object_type != LD:
                sbr, ps, sample_rate = _backward_compatible(reader, core_rate)
        else:
            raise RemoteProtocolError(f"audio object type {object_type} is not an AAC that Kiln carries")
        if ps:
            channels = 2
        return cls(object_type, core_rate, sample_rate, channels, frame_length, sbr, ps)

    def build(self) -> bytes:
        """The AudioSpecificConfig, extensions signalled explicitly in the backward compatible way (14496-3 1.6.6)."""
        writer = _Writer()
        writer.object_type(self.object_type)
        writer.sample_rate(self.core_rate)
        configuration = _CONFIGURATION.get(1 if self.ps else self.channels)
        if configuration is None:
            raise RemoteProtocolError(f"AAC can't carry {self.channels} channels without a program config element")
        writer.bits(configuration, 4)
        if self.object_type == ELD:
            writer.bits(int(self.frame_length == 480), 1)
            # No error resilience tools, no low delay SBR, no extension.
            writer.bits(0, 3 + 1 + 4)
        else:
            writer.bits(int(self.frame_length in (960, 480)), 1)
            writer.bits(0, 2)
        if self.sbr:
            writer.bits(0x2B7, 11)
            writer.object_type(SBR)
            writer.bits(1, 1)
            writer.sample_rate(self.sample_rate)
            if self.ps:
                writer.bits(0x548, 11)
                writer.bits(1, 1)
        return writer.bytes()

    @property
    def frame_samples(self) -> int:
        """Samples a frame decodes to, at ``sample_rate`` (1024; 2048 with SBR): the packet duration in a track that has
        ``sample_rate`` as its timescale."""
        return self.frame_length * self.sample_rate // self.core_rate

    @property
    def codec_string(self) -> str:
        """``mp4a.40.N`` (RFC 6381 3.3), N = 5 or 29 when SBR or PS is signalled."""
        return f"mp4a.40.{PS if self.ps else SBR if self.sbr else self.object_type}"


class _Writer:
    __slots__ = ("_count", "_value")

    def __init__(self) -> None:
        self._value = self._count = 0

    def bits(self, value: int, count: int) -> None:
        self._value = self._value << count | value
        self._count += count

    def object_type(self, value: int) -> None:
        if value < 31:
            self.bits(value, 5)
        else:
            self.bits(31, 5)
            self.bits(value - 32, 6)

    def sample_rate(self, rate: int) -> None:
        if rate in SAMPLE_RATES:
            self.bits(SAMPLE_RATES.index(rate), 4)
        else:
            self.bits(15, 4)
            self.bits(rate, 24)

    def bytes(self) -> bytes:
        padding = -self._count % 8
        return (self._value << padding).to_bytes((self._count + padding) // 8, "big")


def _object_type(reader: BitReader) -> int:
    value = reader.bits(5)
    return 32 + reader.bits(6) if value == 31 else value


def _sample_rate(reader: BitReader) -> int:
    index = reader.bits(4)
    if index == 15:
        rate = reader.bits(24)
        if not 1000 <= rate <= 384_000:
            raise RemoteProtocolError(f"AAC sample rate {rate} Hz is out of range")
        return rate
    if index >= len(SAMPLE_RATES):
        raise RemoteProtocolError(f"AAC sampling frequency index {index} is reserved")
    return SAMPLE_RATES[index]


def _channel_count(configuration: int) -> int:
    if configuration == 0:
        raise RemoteProtocolError("AAC channels given by a program config element are not supported")
    channels = _CHANNELS[configuration] if configuration < len(_CHANNELS) else 0
    if not channels:
        raise RemoteProtocolError(f"AAC channel configuration {configuration} is reserved")
    return channels


def _backward_compatible(reader: BitReader, core_rate: int) -> tuple[bool, bool, int]:
    """What the extension after a GASpecificConfig says: SBR, PS, output rate."""
    try:
        if reader.flag():
            reader.skip(14)
        reader.skip(1)
        if reader.bits(11) != 0x2B7 or _object_type(reader) != SBR or not reader.flag():
            return False, False, core_rate
        rate = _sample_rate(reader)
    except RemoteProtocolError:
        return False, False, core_rate
    if rate not in (core_rate, 2 * core_rate):
        return False, False, core_rate
    try:
        return True, reader.bits(11) == 0x548 and reader.flag(), rate
    except RemoteProtocolError:
        return True, False, rate


def track_from_config(track_id: int, config: bytes, timescale: int = 0, variant: str = "Audio",
                      generation: int = 0) -> Track:  # fmt: skip
    """The Track of an AudioSpecificConfig; ``timescale`` 0 means the sample rate. Raises RemoteProtocolError."""
    parsed = AudioConfig.parse(config)
    return Track(
        id=track_id,
        generation=generation,
        media=MediaType.AUDIO,
        codec=Codec.AAC,
        timescale=timescale or parsed.sample_rate,
        codec_config=bytes(config),
        sample_rate=parsed.sample_rate,
        channels=parsed.channels,
        variant=variant,
        codec_string=parsed.codec_string,
    )


@dataclass(frozen=True, slots=True)
class AdtsHeader:
    """An ADTS header (14496-3 1.A.2.2). Sizes in bytes: ``frame_size`` with the header."""

    object_type: int
    sample_rate: int
    channels: int
    header_size: int
    frame_size: int
    blocks: int

    @property
    def config(self) -> bytes:
        """The AudioSpecificConfig that the header stands for."""
        return AudioConfig(self.object_type, self.sample_rate, self.sample_rate, self.channels).build()


def parse_adts(data: bytes, position: int = 0) -> AdtsHeader:
    """The ADTS header at ``position`` (7 bytes are enough). Raises RemoteProtocolError."""
    head = data[position : position + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        raise RemoteProtocolError("no ADTS header")
    rate_index = head[2] >> 2 & 15
    if rate_index >= len(SAMPLE_RATES):
        raise RemoteProtocolError(f"ADTS sampling frequency index {rate_index} is reserved")
    channels = _channel_count((head[2] & 1) << 2 | head[3] >> 6)
    header_size = 7 if head[1] & 1 else 9
    frame_size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if frame_size < header_size:
        raise RemoteProtocolError("ADTS frame shorter than its header")
    blocks = (head[6] & 3) + 1
    return AdtsHeader((head[2] >> 6) + 1, SAMPLE_RATES[rate_index], channels, header_size, frame_size, blocks)


def split_adts(data: bytes) -> Iterator[tuple[AdtsHeader, bytes]]:
    """The frames of a run of whole ADTS frames, without headers.

    Raises RemoteProtocolError at the first that is broken, cut off, or holds several raw data blocks.
    """
    position = 0
    while position < len(data):
        header = parse_adts(data, position)
        end = position + header.frame_size
        if end > len(data):
            raise RemoteProtocolError("ADTS frame is cut off")
        if header.blocks != 1:
            raise RemoteProtocolError("ADTS frames with several raw data blocks are not supported")
        yield header, data[position + header.header_size : end]
        position = end


def adts_header(config: AudioConfig, payload_size: int) -> bytes:
    """The 7-byte ADTS header of a raw frame of ``payload_size`` bytes (0 to 8184).

    Raises RemoteProtocolError for what ADTS can't say (core types over 4, odd rates, more than 8 channels, too long).
    """
    size = payload_size + 7
    configuration = _CONFIGURATION.get(1 if config.ps else config.channels, 8)
    if config.object_type > 4 or config.core_rate not in SAMPLE_RATES or configuration > 7 or size > 0x1FFF:
        raise RemoteProtocolError("this AAC can't be carried in ADTS")
    rate = SAMPLE_RATES.index(config.core_rate)
    return bytes((0xFF, 0xF1, config.object_type - 1 << 6 | rate << 2 | configuration >> 2,
                  (configuration & 3) << 6 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC))  # fmt: skip
