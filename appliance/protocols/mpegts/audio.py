"""Sound in a transport stream: frames found in what PES packets carry, and the Track that they tell of.

Each framer takes the bytes of one PES after another (``take``) and gives frames with the time of each; a frame may
begin in one PES and end in the next. Times are 90 kHz ticks in, ticks of the track out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from appliance.errors import RemoteProtocolError
from appliance.media.clock import rescale
from appliance.media.codecs import aac, opus
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols.mpegts.latm import HEADER as LOAS_HEADER
from appliance.protocols.mpegts.latm import LatmReader, loas_size

CLOCK: Final = 90_000
#: What may wait for the rest of a frame: the longest is 8 KiB (ADTS, LOAS).
_MOST_WAITING: Final = 16 * 1024


class Sound(NamedTuple):
    """One frame: ``pts`` and ``duration`` in ticks of the track."""

    track: Track
    pts: int
    payload: bytes
    duration: int


class Header(NamedTuple):
    """A frame as its head tells it: ``size`` with the ``head`` bytes that the payload leaves out, ``samples`` at
    ``rate``. ``codec`` and ``config`` are what a change of makes a new Track."""

    size: int
    head: int
    codec: Codec
    rate: int
    channels: int
    samples: int
    config: bytes = b""


#: Reads the head of the frame at a place; None when no frame begins there. Gets as many bytes as it said it needs.
ReadHeader = Callable[[bytes, int], Header | None]


def adts(data: bytes, at: int) -> Header | None:
    if data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return None
    try:
        head = aac.parse_adts(data, at)
        config = head.config
    except RemoteProtocolError:
        return None
    if head.blocks != 1:
        return None
    return Header(head.frame_size, head.header_size, Codec.AAC, head.sample_rate, head.channels, 1024, config)


_MPEG_RATES: Final = (44100, 48000, 32000)
_MPEG_BITRATES: Final = {
    # (MPEG-1, layer): kbit/s by index 1 to 14 (11172-3 2.4.2.3, 13818-3 2.4.2.3)
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def mpeg_audio(data: bytes, at: int) -> Header | None:
    """MPEG-1 and MPEG-2 sound, layers II and III."""
    if data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    bitrate, rate, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if version == 1 or layer not in (2, 3) or not 0 < bitrate < 15 or rate == 3:
        return None
    first = version == 3
    hertz = _MPEG_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if first or layer == 2 else 576
    size = samples // 8 * _MPEG_BITRATES[first, layer][bitrate - 1] * 1000 // hertz + padding
    codec = Codec.MP2 if layer == 2 else Codec.MP3
    return Header(size, 0, codec, hertz, 1 if data[at + 3] >> 6 == 3 else 2, samples)


_AC3_RATES: Final = (48000, 44100, 32000)
_AC3_BITRATES: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_CHANNELS: Final = (2, 1, 2, 3, 3, 4, 4, 5)


def ac3(data: bytes, at: int) -> Header | None:
    """ATSC A/52 5.3, 5.4.1. Not Enhanced AC-3."""
    if data[at] != 0x0B or data[at + 1] != 0x77:
        return None
    code, size_code, stream_id = data[at + 4] >> 6, data[at + 4] & 63, data[at + 5] >> 3
    if code == 3 or size_code >= 2 * len(_AC3_BITRATES) or stream_id > 10:
        return None
    rate, bitrate = _AC3_RATES[code], _AC3_BITRATES[size_code >> 1]
    words = bitrate * 96000 // rate
    if code == 1:
        words += size_code & 1
    mode = data[at + 6] >> 5
    # What stands between the mode and the bit of the low frequency channel depends on the mode.
    skip = 3 + (2 if mode & 1 and mode != 1 else 0) + (2 if mode & 4 else 0) + (2 if mode == 2 else 0)
    low = (data[at + 6] << 8 | data[at + 7]) >> (15 - skip) & 1
    return Header(words * 2, 0, Codec.AC3, rate, _AC3_CHANNELS[mode] + low, 1536)


class Framer:
    """Frames that follow one another, each with a head that tells its size."""

    def __init__(self, track_id: int, language: str, generation: int, read: ReadHeader, needs: int) -> None:
        self.track: Track | None = None
        self.skipped = 0
        self._id = track_id
        self._language = language
        self._generation = generation
        self._read = read
        self._needs = needs
        self._rest = b""
        self._next = 0
        self._pending: int | None = None
        self._known: Header | None = None

    def cut(self) -> None:
        """Something is missing here: what waits for its end gets none."""
        self._rest = b""
        self._pending = None

    def take(self, data: bytes, pts: int | None) -> list[Sound]:
        """The frames that are whole now. ``pts`` is that of the first frame that begins in ``data``."""
        begun, pending = len(self._rest), self._pending
        data = self._rest + data
        sounds: list[Sound] = []
        at, end = 0, len(data) - self._needs
        while at <= end:
            header = self._read(data, at)
            if header is None:
                at += 1
                self.skipped += 1
                continue
            if at + header.size > len(data):
                break
            if at >= begun:
                pending, pts = pts if pts is not None else pending, None
            if pending is not None:
                self._next, pending = rescale(pending, CLOCK, header.rate), None
            self._emit(sounds, header, data[at + header.head : at + header.size])
            at += header.size
        self._rest = data[at:] if len(data) - at <= _MOST_WAITING else b""
        # Whose time it is: the frame that has begun, or the one that begins next.
        self._pending = pts if at >= begun and pts is not None else pending
        return sounds

    def _emit(self, sounds: list[Sound], header: Header, payload: bytes) -> None:
        if self._known is None or header[2:] != self._known[2:]:
            self._change(header)
        assert self.track is not None
        sounds.append(Sound(self.track, self._next, payload, header.samples))
        self._next += header.samples

    def _change(self, header: Header) -> None:
        self._known = header
        self.track = plain_track(self._id, header, self._language, self._generation)
        self._generation += 1


_CODEC_STRINGS: Final = {Codec.MP2: "mp4a.40.33", Codec.MP3: "mp4a.40.34", Codec.AC3: "ac-3"}


def plain_track(track_id: int, header: Header, language: str, generation: int) -> Track:
    if header.codec is Codec.AAC:
        return Track(
            id=track_id, generation=generation, media=MediaType.AUDIO, codec=Codec.AAC, timescale=header.rate,
            codec_config=header.config, sample_rate=header.rate, channels=header.channels, variant="Audio",
            language=language, codec_string=aac.AudioConfig.parse(header.config).codec_string,
        )  # fmt: skip
    return Track(
        id=track_id, generation=generation, media=MediaType.AUDIO, codec=header.codec, timescale=header.rate,
        sample_rate=header.rate, channels=header.channels, variant="Audio", language=language,
        codec_string=_CODEC_STRINGS[header.codec],
    )  # fmt: skip


class LatmFramer(Framer):
    """AAC in LOAS frames, each of which may hold several access units."""

    def __init__(self, track_id: int, language: str, generation: int) -> None:
        super().__init__(track_id, language, generation, self._loas, LOAS_HEADER)
        self._latm = LatmReader()
        self._config = b""
        self._samples = 1024
        self._rate = CLOCK

    def _loas(self, data: bytes, at: int) -> Header | None:
        size = loas_size(data, at)
        return Header(size, LOAS_HEADER, Codec.AAC, self._rate, 0, 0) if size else None

    def _emit(self, sounds: list[Sound], header: Header, payload: bytes) -> None:
        try:
            units = self._latm.units(payload)
        except RemoteProtocolError:
            self.skipped += 1
            return
        if units and self._latm.config != self._config and not self._configure(self._latm.config):
            return
        for unit in units:
            assert self.track is not None
            sounds.append(Sound(self.track, self._next, unit, self._samples))
            self._next += self._samples

    def _configure(self, config: bytes) -> bool:
        try:
            parsed = aac.AudioConfig.parse(config)
        except RemoteProtocolError:
            self.skipped += 1
            return False
        self._config = config
        self._samples = parsed.frame_samples
        # The time of this frame was worked out before its rate was known.
        self._next = rescale(self._next, self._rate, parsed.sample_rate)
        self._rate = parsed.sample_rate
        header = Header(0, 0, Codec.AAC, parsed.sample_rate, parsed.channels, parsed.frame_samples, config)
        self.track = plain_track(self._id, header, self._language, self._generation)
        self._generation += 1
        return True


#: Streams and coupled ones of Vorbis' channel order (RFC 7845 5.1.1.2), by channels from 3.
_OPUS_LAYOUTS: Final = {
    3: (2, 1, b"\0\2\1"), 4: (2, 2, b"\0\1\2\3"), 5: (3, 2, b"\0\4\1\2\3"), 6: (4, 2, b"\0\4\1\2\3\5"),
    7: (5, 2, b"\0\4\1\2\3\5\6"), 8: (5, 3, b"\0\6\1\2\3\4\5\7"),
}  # fmt: skip


class OpusFramer:
    """Opus access units with their control headers (Opus in TS 4.1)."""

    def __init__(self, track_id: int, language: str, generation: int, channel_code: int) -> None:
        """Raises RemoteProtocolError for channels that are not told in one byte."""
        channels = channel_code or 2
        if channels > 8:
            raise RemoteProtocolError(f"Opus with channel configuration {channel_code} is not carried")
        if channels in _OPUS_LAYOUTS:
            streams, coupled, mapping = _OPUS_LAYOUTS[channels]
            config = opus.OpusConfig(channels, mapping_family=1, streams=streams, coupled=coupled, mapping=mapping)
        else:
            config = opus.OpusConfig(channels)
        self.skipped = 0
        made = opus.track_from_config(track_id, config.build_head())
        self.track: Track | None = Track(
            id=track_id, generation=generation, media=MediaType.AUDIO, codec=Codec.OPUS, timescale=opus.SAMPLE_RATE,
            codec_config=made.codec_config, sample_rate=opus.SAMPLE_RATE, channels=channels, variant="Audio",
            language=language, codec_string="opus",
        )  # fmt: skip
        self._next = 0

    def cut(self) -> None:
        """Nothing waits here."""

    def take(self, data: bytes, pts: int | None) -> list[Sound]:
        if pts is not None:
            self._next = rescale(pts, CLOCK, opus.SAMPLE_RATE)
        sounds: list[Sound] = []
        at, end = 0, len(data)
        while at + 3 <= end:
            start, size = _opus_unit(data, at)
            if not size or start + size > end:
                self.skipped += 1
                break
            unit = data[start : start + size]
            try:
                samples = opus.packet_samples(unit)
            except RemoteProtocolError:
                self.skipped += 1
                break
            assert self.track is not None
            sounds.append(Sound(self.track, self._next, unit, samples))
            self._next += samples
            at = start + size
        return sounds


def _opus_unit(data: bytes, at: int) -> tuple[int, int]:
    """Where the access unit behind the control header at ``at`` begins and its size (0: it is broken)."""
    if data[at] != 0x7F or data[at + 1] & 0xE0 != 0xE0:
        return at, 0
    flags, size = data[at + 1], 0
    at += 2
    while True:
        step = data[at] if at < len(data) else 0
        size += step
        at += 1
        if step != 255:
            break
    at += 2 * (flags >> 4 & 1) + 2 * (flags >> 3 & 1)
    if flags & 4:
        at += 1 + (data[at] if at < len(data) else 0)
    return at, size


AudioFramer = Framer | OpusFramer
