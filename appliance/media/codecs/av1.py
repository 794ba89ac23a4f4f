"""AV1 (AV1 Bitstream specification, AV1 Codec ISO Media File Format Binding): sequence header, av1C, temporal units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from appliance.errors import RemoteProtocolError
from appliance.media.codecs.bits import BitReader
from appliance.media.codecs.h264 import frame_rate
from appliance.media.track import Codec, MediaType, Track

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, METADATA, FRAME, TILE_LIST, PADDING = 1, 2, 3, 5, 6, 8, 15

#: More OBUs than this in one temporal unit are an attack, not video (there are 4096 tiles at most).
MAX_UNITS = 8192

_DROPPED = frozenset((TEMPORAL_DELIMITER, TILE_LIST, PADDING))


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """What a sequence header OBU says (5.5). ``width``, ``height`` are the largest, ``frame_rate`` 0.0 when not told,
    ``subsampling`` is (x, y), ``colour`` (primaries, transfer, matrix)."""

    profile: int
    level_index: int
    high_tier: bool
    width: int
    height: int
    frame_rate: float
    bit_depth: int
    monochrome: bool
    subsampling: tuple[int, int]
    sample_position: int
    colour: tuple[int, int, int]
    full_range: bool
    still: bool

    @property
    def codec_string(self) -> str:
        """``av01.P.LLT.DD``, with colours only where they are not the usual ones (ISOBMFF binding, section 5)."""
        tier = "H" if self.high_tier else "M"
        head = f"av01.{self.profile}.{self.level_index:02d}{tier}.{self.bit_depth:02d}"
        usual = self.colour in ((1, 1, 1), (2, 2, 2)) and not self.full_range
        if usual and not self.monochrome and self.subsampling == (1, 1):
            return head
        x, y = self.subsampling
        position = self.sample_position if (x, y) == (1, 1) else 0
        primaries, transfer, matrix = self.colour
        return (f"{head}.{int(self.monochrome)}.{x}{y}{position}.{primaries:02d}.{transfer:02d}.{matrix:02d}"
                f".{int(self.full_range)}")  # fmt: skip


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """leb128() (4.10.5): the value and where it ends."""
    value = 0
    for index in range(8):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position
    raise RemoteProtocolError("AV1 OBU size is broken")


def _write_leb128(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _units(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Each OBU as (type, where it begins, where its payload begins, where it ends). One without a size is the last."""
    position, end = 0, len(data)
    for _ in range(MAX_UNITS):
        if position >= end:
            return
        start = position
        head = data[position]
        if head & 0x80:
            raise RemoteProtocolError("AV1 OBU with the forbidden bit set")
        position += 2 if head & 4 else 1
        if head & 2:
            size, position = _leb128(data, position)
            stop = position + size
        else:
            stop = end
        if stop > end or position > end:
            raise RemoteProtocolError("AV1 OBU points past the end of the temporal unit")
        yield head >> 3 & 15, start, position, stop
        position = stop
    if position < end:
        raise RemoteProtocolError(f"more than {MAX_UNITS} OBUs in one AV1 temporal unit")


def parse_sequence_header(payload: bytes) -> SequenceHeader:
    """Parse the payload of a sequence header OBU (after header and size). Raises RemoteProtocolError."""
    reader = BitReader(payload)
    profile = reader.bits(3)
    if profile > 2:
        raise RemoteProtocolError(f"AV1 profile {profile} is reserved")
    still, reduced = reader.flag(), reader.flag()
    rate = 0.0
    if reduced:
        level, high_tier = reader.bits(5), False
    else:
        rate, delay_bits = _timing(reader)
        level, high_tier = _operating_points(reader, delay_bits)
    width_bits, height_bits = reader.bits(4) + 1, reader.bits(4) + 1
    width, height = reader.bits(width_bits) + 1, reader.bits(height_bits) + 1
    _skip_tools(reader, reduced)
    depth, mono, colour, full_range, subsampling, position = _colour_config(reader, profile)
    return SequenceHeader(
        profile, level, high_tier, width, height, rate, depth, mono, subsampling, position, colour, full_range, still
    )


def _timing(reader: BitReader) -> tuple[float, int]:
    """Frame rate and the size of a decoder model's buffer delays (0: no decoder model)."""
    if not reader.flag():
        return 0.0, 0
    units, scale = reader.bits(32), reader.bits(32)
    # One picture every so many ticks is only told when they are equally far apart.
    rate = frame_rate(scale, units * (reader.ue() + 1)) if reader.flag() else 0.0
    if not reader.flag():
        return rate, 0
    delay_bits = reader.bits(5) + 1
    reader.skip(32 + 5 + 5)
    return rate, delay_bits


def _operating_points(reader: BitReader, delay_bits: int) -> tuple[int, bool]:
    """Level and tier of the first operating point."""
    display_delay = reader.flag()
    level, high_tier = 0, False
    for index in range(reader.bits(5) + 1):
        reader.skip(12)
        this_level = reader.bits(5)
        this_tier = this_level > 7 and reader.flag()
        if index == 0:
            level, high_tier = this_level, this_tier
        if delay_bits and reader.flag():
            reader.skip(2 * delay_bits + 1)
        if display_delay and reader.flag():
            reader.skip(4)
    return level, high_tier


def _skip_tools(reader: BitReader, reduced: bool) -> None:
    if not reduced and reader.flag():
        reader.skip(7)
    reader.skip(3)
    if not reduced:
        reader.skip(4)
        order_hint = reader.flag()
        if order_hint:
            reader.skip(2)
        screen_tools = reader.flag() or reader.flag()
        if screen_tools and not reader.flag():
            reader.skip(1)
        if order_hint:
            reader.skip(3)
    reader.skip(3)


def _colour_config(reader: BitReader, profile: int
                   ) -> tuple[int, bool, tuple[int, int, int], bool, tuple[int, int], int]:  # fmt: skip
    high = reader.flag()
    depth = (12 if reader.flag() else 10) if profile == 2 and high else 10 if high else 8
    mono = profile != 1 and reader.flag()
    colour = (reader.bits(8), reader.bits(8), reader.bits(8)) if reader.flag() else (2, 2, 2)
    if mono:
        return depth, True, colour, reader.flag(), (1, 1), 0
    if colour == (1, 13, 0):
        return depth, False, colour, True, (0, 0), 0
    full_range = reader.flag()
    if profile == 0:
        subsampling = 1, 1
    elif profile == 1:
        subsampling = 0, 0
    elif depth == 12:
        x = int(reader.flag())
        subsampling = x, int(x and reader.flag())
    else:
        subsampling = 1, 0
    return depth, False, colour, full_range, subsampling, reader.bits(2) if subsampling == (1, 1) else 0


def find_sequence_header(data: bytes) -> bytes:
    """The first sequence header OBU of a run of OBUs, whole and with a size; b"" when there is none."""
    for kind, start, body, stop in _units(data):
        if kind == SEQUENCE_HEADER:
            return _with_size(data, start, body, stop)
    return b""


def _with_size(data: bytes, start: int, body: int, stop: int) -> bytes:
    if data[start] & 2:
        return data[start:stop]
    header = bytes((data[start] | 2,)) + data[start + 1 : body]
    return header + _write_leb128(stop - body) + data[body:stop]


def parse_config(config: bytes) -> SequenceHeader:
    """The sequence header in an av1C. Raises RemoteProtocolError.

    An av1C may come without one: then size and rate are 0 and colours unknown until the first key frame brings it.
    """
    if len(config) < 4 or config[0] != 0x81:
        raise RemoteProtocolError("not an av1C (version 1 expected)")
    units = config[4:]
    for kind, _, body, stop in _units(units):
        if kind == SEQUENCE_HEADER:
            return parse_sequence_header(units[body:stop])
    profile, flags = config[1] >> 5, config[2]
    depth = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    return SequenceHeader(
        profile, config[1] & 31, bool(flags & 0x80), 0, 0, 0.0, depth, bool(flags & 0x10),
        (flags >> 3 & 1, flags >> 2 & 1), flags & 3, (2, 2, 2), False, False,
    )  # fmt: skip


def config_from_sequence_header(unit: bytes) -> bytes:
    """The av1C of a whole sequence header OBU (as ``canonical`` and ``find_sequence_header`` give it).

    Raises RemoteProtocolError.
    """
    for kind, start, body, stop in _units(unit):
        if kind == SEQUENCE_HEADER:
            header = parse_sequence_header(unit[body:stop])
            x, y = header.subsampling
            flags = header.high_tier << 7 | (header.bit_depth > 8) << 6 | (header.bit_depth == 12) << 5
            flags |= header.monochrome << 4 | x << 3 | y << 2 | header.sample_position
            return bytes((0x81, header.profile << 5 | header.level_index, flags, 0)) + _with_size(
                unit, start, body, stop)  # fmt: skip
    raise RemoteProtocolError("no AV1 sequence header")


def updated_config(config: bytes, headers: tuple[bytes, ...]) -> bytes:
    """``config`` for the last of the in-band sequence headers; ``config`` itself when it is the same."""
    if not headers or find_sequence_header(config[4:]) == headers[-1]:
        return config
    return config_from_sequence_header(headers[-1])


def canonical(payload: bytes) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """A temporal unit as (canonical: no delimiters, padding, tile lists; is it a key frame; its sequence header OBUs).

    ``payload`` itself comes back when there is nothing to do. The sequence headers stay in it. A key frame is a shown
    frame of type KEY_FRAME, with its sequence header or without. Raises RemoteProtocolError.
    """
    kept: list[bytes] | None = None
    headers: list[bytes] = []
    keyframe: bool | None = None
    for kind, start, body, stop in _units(payload):
        if kind in _DROPPED or not payload[start] & 2:
            if kept is None:
                kept = [payload[:start]]
            if kind not in _DROPPED:
                kept.append(_with_size(payload, start, body, stop))
        elif kept is not None:
            kept.append(payload[start:stop])
        if kind == SEQUENCE_HEADER:
            headers.append(_with_size(payload, start, body, stop))
        elif keyframe is None and kind in (FRAME, FRAME_HEADER) and body < stop:
            # show_existing_frame 0, frame_type KEY_FRAME, show_frame 1
            keyframe = payload[body] & 0xF0 == 0x10
    return payload if kept is None else b"".join(kept), bool(keyframe), tuple(headers)


def track_from_config(track_id: int, config: bytes, timescale: int = 90_000, variant: str = "Video",
                      generation: int = 0) -> Track:  # fmt: skip
    """The Track of an av1C. Raises RemoteProtocolError."""
    header = parse_config(config)
    return Track(
        id=track_id,
        generation=generation,
        media=MediaType.VIDEO,
        codec=Codec.AV1,
        timescale=timescale,
        codec_config=bytes(config),
        width=header.width,
        height=header.height,
        frame_rate=header.frame_rate,
        variant=variant,
        codec_string=header.codec_string,
    )
