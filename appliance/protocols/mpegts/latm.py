"""AAC in LATM with LOAS framing (ISO/IEC 14496-3 1.7): what stream type 0x11 carries. One program, one layer."""

from __future__ import annotations

from typing import Final

from appliance.errors import RemoteProtocolError
from appliance.media.codecs.bits import BitReader

#: AudioSyncStream: 11 bits of sync and 13 of length.
HEADER: Final = 3


def loas_size(data: bytes, at: int) -> int:
    """Bytes of the frame at ``at`` with its header of 3; 0 when there is none. Needs 3 bytes."""
    if data[at] != 0x56 or data[at + 1] & 0xE0 != 0xE0:
        return 0
    return HEADER + ((data[at + 1] & 0x1F) << 8 | data[at + 2])


class LatmReader:
    """Frames in, access units out; ``config`` is the AudioSpecificConfig, b"" until it was told."""

    def __init__(self) -> None:
        self.config = b""
        self._frames = 1
        self._other_bits = 0

    def units(self, frame: bytes) -> list[bytes]:
        """The access units of one LOAS frame (without its 3 bytes). Raises RemoteProtocolError; [] before a
        configuration came."""
        reader = BitReader(frame)
        if not reader.flag():
            self._configure(reader)
        if not self.config:
            return []
        return [self._unit(reader, frame) for _ in range(self._frames)]

    def _unit(self, reader: BitReader, frame: bytes) -> bytes:
        size = 0
        while True:
            step = reader.bits(8)
            size += step
            if step != 255:
                break
        if size * 8 > reader.left:
            raise RemoteProtocolError("LATM payload ends early")
        at = reader.position
        if at & 7 == 0:
            reader.skip(size * 8)
            return frame[at >> 3 : (at >> 3) + size]
        return reader.bits(size * 8).to_bytes(size, "big")

    def _configure(self, reader: BitReader) -> None:
        """StreamMuxConfig (1.7.3, table 1.42)."""
        version = reader.flag()
        if version and reader.flag():
            raise RemoteProtocolError("LATM of a version to come")
        if version:
            _latm_value(reader)
        same_framing = reader.flag()
        frames = reader.bits(6) + 1
        programs, layers = reader.bits(4), reader.bits(3)
        if programs or layers or not same_framing:
            raise RemoteProtocolError("LATM with several programs or layers is not carried")
        if version:
            size = _latm_value(reader)
            start = reader.position
            reader.skip(size)
            config = _cut(reader, start, size)
        else:
            config = _audio_config(reader)
        if reader.bits(3) != 0:
            raise RemoteProtocolError("LATM frames of a fixed length are not carried")
        reader.skip(8)
        self.config, self._frames = config, frames


def _latm_value(reader: BitReader) -> int:
    return reader.bits(8 * (reader.bits(2) + 1))


def _audio_config(reader: BitReader) -> bytes:
    """An AudioSpecificConfig that tells its own length: general audio without program config element."""
    start = reader.position
    kind = _object_type(reader)
    _rate(reader)
    channels = reader.bits(4)
    if kind in (5, 29):
        _rate(reader)
        kind = _object_type(reader)
    if kind not in (1, 2, 3, 4) or not channels:
        raise RemoteProtocolError(f"audio object type {kind} in LATM is not carried")
    reader.skip(1)
    if reader.flag():
        reader.skip(14)
    if reader.flag():
        raise RemoteProtocolError("AAC with an extension in LATM is not carried")
    return _cut(reader, start, reader.position - start)


def _cut(reader: BitReader, start: int, size: int) -> bytes:
    end, reader.position = reader.position, start
    value = reader.bits(size)
    reader.position = end
    padding = -size % 8
    return (value << padding).to_bytes((size + padding) // 8, "big")


def _object_type(reader: BitReader) -> int:
    kind = reader.bits(5)
    return 32 + reader.bits(6) if kind == 31 else kind


def _rate(reader: BitReader) -> None:
    if reader.bits(4) == 15:
        reader.skip(24)
