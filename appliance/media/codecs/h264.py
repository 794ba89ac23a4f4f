"""H.264 (ITU-T H.264, ISO/IEC 14496-15 clause 5): decoder configuration, SPS, slice headers, canonical access units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import nal
from appliance.media.codecs.bits import BitReader, unescape
from appliance.media.track import Codec, MediaType, Track

SLICE, PARTITION_A, IDR, SEI, SPS, PPS, AUD, END_OF_SEQUENCE, END_OF_STREAM, FILLER, SPS_EXTENSION = (
    1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13)  # fmt: skip

_KIND_OF_TYPE = {
    IDR: nal.KEY, SPS: nal.COLLECT, PPS: nal.COLLECT, SPS_EXTENSION: nal.COLLECT,
    AUD: nal.DROP, END_OF_SEQUENCE: nal.DROP, END_OF_STREAM: nal.DROP, FILLER: nal.DROP,
}  # fmt: skip
_KINDS = bytes(_KIND_OF_TYPE.get(byte & 31, nal.KEEP) for byte in range(256))

#: Profiles whose SPS and avcC carry the chroma format and bit depths.
_HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
#: Profiles whose constraint_set3_flag says "intra only".
_INTRA_PROFILES = frozenset((44, 86, 100, 110, 122, 244))
SAMPLE_ASPECT = ((0, 1), (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33),
                  (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1))  # fmt: skip
_MAX_SIDE = 16384


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """What an SPS says (H.264 7.3.2.1.1, Annex E).

    ``width``, ``height`` in luma samples after cropping. ``sample_aspect`` is (0, 1) when not stated. ``frame_rate`` in
    frames a second, 0.0 when there is no timing information. ``reorder_frames`` is how many frames may have to be put
    back in order, None when the SPS leaves it open.
    """

    id: int
    profile: int
    constraints: int
    level: int
    chroma_format: int
    bit_depth_luma: int
    bit_depth_chroma: int
    width: int
    height: int
    interlaced: bool
    sample_aspect: tuple[int, int]
    frame_rate: float
    fixed_frame_rate: bool
    full_range: bool
    colour: tuple[int, int, int]
    reorder_frames: int | None
    separate_colour_planes: bool
    frame_num_bits: int

    @property
    def has_b_frames(self) -> bool:
        """Whether the SPS says that frames are reordered (False when it leaves it open)."""
        return bool(self.reorder_frames)

    @property
    def b_frames_possible(self) -> bool:
        """Whether frames may be reordered for all that the SPS says."""
        return self.reorder_frames != 0


def parse_sps(unit: bytes) -> SequenceParameterSet:
    """Parse an SPS NAL unit (header byte included). Raises RemoteProtocolError."""
    if len(unit) < 4 or unit[0] & 0x9F != SPS:
        raise RemoteProtocolError("not an H.264 sequence parameter set")
    profile, constraints, level = unit[1], unit[2], unit[3]
    reader = BitReader(unescape(unit), 32)
    sps_id = reader.ue_below(32, "seq_parameter_set_id")
    chroma_format, separate_planes, depth_luma, depth_chroma = 1, False, 8, 8
    if profile in _HIGH_PROFILES:
        chroma_format = reader.ue_below(4, "chroma_format_idc")
        separate_planes = chroma_format == 3 and reader.flag()
        depth_luma = 8 + reader.ue_below(7, "bit_depth_luma_minus8")
        depth_chroma = 8 + reader.ue_below(7, "bit_depth_chroma_minus8")
        reader.skip(1)
        if reader.flag():
            for index in range(12 if chroma_format == 3 else 8):
                if reader.flag():
                    _skip_scaling_list(reader, 16 if index < 6 else 64)
    frame_num_bits = 4 + reader.ue_below(13, "log2_max_frame_num_minus4")
    order_type = _skip_picture_order(reader)
    reader.ue()
    reader.skip(1)
    width = (reader.ue_below(_MAX_SIDE // 16, "pic_width_in_mbs") + 1) * 16
    height = (reader.ue_below(_MAX_SIDE // 16, "pic_height_in_map_units") + 1) * 16
    frames_only = reader.flag()
    if not frames_only:
        height *= 2
        reader.skip(1)
    reader.skip(1)
    if reader.flag():
        left, right, top, bottom = reader.ue(), reader.ue(), reader.ue(), reader.ue()
        mono = chroma_format == 0 or separate_planes
        unit_x = 1 if mono or chroma_format == 3 else 2
        unit_y = (1 if mono or chroma_format != 1 else 2) * (1 if frames_only else 2)
        width -= (left + right) * unit_x
        height -= (top + bottom) * unit_y
    if width <= 0 or height <= 0:
        raise RemoteProtocolError("H.264 cropping leaves no picture")
    usability = _parse_vui(reader) if reader.flag() else _Usability()
    reorder = usability.reorder_frames
    if reorder is None and (profile == 66 or order_type == 2 or (profile in _INTRA_PROFILES and constraints & 0x10)):
        reorder = 0
    return SequenceParameterSet(
        id=sps_id,
        profile=profile,
        constraints=constraints,
        level=level,
        chroma_format=chroma_format,
        bit_depth_luma=depth_luma,
        bit_depth_chroma=depth_chroma,
        width=width,
        height=height,
        interlaced=not frames_only,
        sample_aspect=usability.sample_aspect,
        frame_rate=usability.frame_rate,
        fixed_frame_rate=usability.fixed_frame_rate,
        full_range=usability.full_range,
        colour=usability.colour,
        reorder_frames=reorder,
        separate_colour_planes=separate_planes,
        frame_num_bits=frame_num_bits,
    )


def _skip_scaling_list(reader: BitReader, size: int) -> None:
    last = scale = 8
    for _ in range(size):
        if scale:
            scale = (last + reader.se()) % 256
        last = scale or last


def _skip_picture_order(reader: BitReader) -> int:
    kind = reader.ue_below(3, "pic_order_cnt_type")
    if kind == 0:
        reader.ue()
    elif kind == 1:
        reader.skip(1)
        reader.se()
        reader.se()
        for _ in range(reader.ue_below(256, "num_ref_frames_in_pic_order_cnt_cycle")):
            reader.se()
    return kind


@dataclass(slots=True)
class _Usability:
    sample_aspect: tuple[int, int] = (0, 1)
    frame_rate: float = 0.0
    fixed_frame_rate: bool = False
    full_range: bool = False
    colour: tuple[int, int, int] = (2, 2, 2)
    reorder_frames: int | None = None


def _parse_vui(reader: BitReader) -> _Usability:
    """Annex E. What comes after a point where the SPS ends early keeps its default: cameras cut it short."""
    vui = _Usability()
    try:
        if reader.flag():
            aspect = reader.bits(8)
            if aspect == 255:
                vui.sample_aspect = (reader.bits(16), reader.bits(16))
            elif aspect < len(SAMPLE_ASPECT):
                vui.sample_aspect = SAMPLE_ASPECT[aspect]
        if reader.flag():
            reader.skip(1)
        if reader.flag():
            reader.skip(3)
            vui.full_range = reader.flag()
            if reader.flag():
                vui.colour = (reader.bits(8), reader.bits(8), reader.bits(8))
        if reader.flag():
            reader.ue()
            reader.ue()
        if reader.flag():
            units, scale = reader.bits(32), reader.bits(32)
            vui.fixed_frame_rate = reader.flag()
            vui.frame_rate = frame_rate(scale, 2 * units)
        hrd = 0
        for _ in range(2):
            if reader.flag():
                hrd = 1
                _skip_hrd(reader)
        reader.skip(hrd + 1)
        if reader.flag():
            reader.skip(1)
            for _ in range(4):
                reader.ue()
            vui.reorder_frames = reader.ue_below(17, "max_num_reorder_frames")
    except RemoteProtocolError:
        pass
    return vui


def _skip_hrd(reader: BitReader) -> None:
    count = reader.ue_below(32, "cpb_cnt_minus1") + 1
    reader.skip(8)
    for _ in range(count):
        reader.ue()
        reader.ue()
        reader.skip(1)
    reader.skip(20)


def frame_rate(scale: int, units: int) -> float:
    """Frames a second, 0.0 for what no camera does (over 1000 or under one in 1000 seconds)."""
    if not units or not scale:
        return 0.0
    rate = scale / units
    return rate if 0.001 <= rate <= 1000 else 0.0


@dataclass(frozen=True, slots=True)
class AvcConfig:
    """An AVCDecoderConfigurationRecord, avcC (ISO/IEC 14496-15 5.3.3.1). ``length_size`` is 1, 2 or 4 bytes."""

    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    sps_extensions: tuple[bytes, ...] = ()
    length_size: int = 4

    @classmethod
    def parse(cls, data: bytes) -> AvcConfig:
        """Parse an avcC. Raises RemoteProtocolError; there must be at least one SPS."""
        if len(data) < 7 or data[0] != 1:
            raise RemoteProtocolError("not an avcC (version 1 expected)")
        length_size = (data[4] & 3) + 1
        if length_size == 3:
            raise RemoteProtocolError("avcC with a NAL unit length size of 3")
        sps, position = _read_sets(data, 6, data[5] & 31)
        if not sps:
            raise RemoteProtocolError("avcC without a sequence parameter set")
        if position >= len(data):
            raise RemoteProtocolError("avcC ends early")
        pps, position = _read_sets(data, position + 1, data[position])
        extensions: tuple[bytes, ...] = ()
        if data[1] in _HIGH_PROFILES and position + 4 <= len(data) and data[position] & 0xFC == 0xFC:
            extensions, position = _read_sets(data, position + 4, data[position + 3])
        return cls(sps, pps, extensions, length_size)

    def build(self) -> bytes:
        """The avcC that canonical access units go with: lengths of 4 bytes."""
        first = self.sps[0]
        parts = [b"\1", first[1:4], b"\xff", bytes((0xE0 | len(self.sps),))]
        _write_sets(parts, self.sps)
        parts.append(bytes((len(self.pps),)))
        _write_sets(parts, self.pps)
        if first[1] in _HIGH_PROFILES:
            sps = parse_sps(first)
            depths = 0xF8 | sps.bit_depth_luma - 8, 0xF8 | sps.bit_depth_chroma - 8
            parts.append(bytes((0xFC | sps.chroma_format, *depths)))
            parts.append(bytes((len(self.sps_extensions),)))
            _write_sets(parts, self.sps_extensions)
        return b"".join(parts)

    @property
    def parameter_sets(self) -> tuple[bytes, ...]:
        """All parameter sets in the order a decoder wants them."""
        return self.sps + self.sps_extensions + self.pps


def _read_sets(data: bytes, position: int, count: int) -> tuple[tuple[bytes, ...], int]:
    sets = []
    for _ in range(count):
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or position > len(data):
            raise RemoteProtocolError("parameter set in avcC ends early")
        if position > start:
            sets.append(data[start:position])
    return tuple(sets), position


def _write_sets(parts: list[bytes], sets: Iterable[bytes]) -> None:
    for unit in sets:
        parts.append(len(unit).to_bytes(2, "big"))
        parts.append(unit)


def config_from_parameter_sets(sets: Iterable[bytes]) -> bytes:
    """An avcC of SPS and PPS NAL units (others are ignored, doubles kept once). Raises RemoteProtocolError."""
    return _merged(AvcConfig((), ()), sets).build()


def updated_config(config: bytes, sets: Sequence[bytes]) -> bytes:
    """``config`` with the in-band parameter sets ``sets`` in place of those with the same ids.

    Returns the very object ``config`` when they change nothing. Raises RemoteProtocolError when the sets are broken.
    """
    old = AvcConfig.parse(config)
    if all(unit in old.sps or unit in old.pps or unit in old.sps_extensions for unit in sets):
        return config
    return _merged(old, sets).build()


def _merged(old: AvcConfig, sets: Iterable[bytes]) -> AvcConfig:
    sps, pps, extensions = (
        {_set_id(unit): unit for unit in group} for group in (old.sps, old.pps, old.sps_extensions))  # fmt: skip
    for unit in nal.distinct(sets):
        kind = unit[0] & 31 if unit else 0
        if len(unit) > 0xFFFF:
            raise RemoteProtocolError("H.264 parameter set too long")
        if kind == SPS:
            parse_sps(unit)
            key = _set_id(unit)
            if sps.get(key) not in (None, unit):
                # Another sequence: what hung on the old one is void.
                pps, extensions = {}, {}
            sps[key] = unit
        elif kind == PPS:
            pps[_set_id(unit)] = unit
        elif kind == SPS_EXTENSION:
            extensions[_set_id(unit)] = unit
    if not sps:
        raise RemoteProtocolError("no H.264 sequence parameter set")
    if len(sps) > 31 or len(pps) > 255:
        raise RemoteProtocolError("too many H.264 parameter sets")
    return AvcConfig(tuple(sps.values()), tuple(pps.values()), tuple(extensions.values()))


def _set_id(unit: bytes) -> int:
    skip = 32 if unit[0] & 31 == SPS else 8
    return BitReader(unescape(unit[:16]), skip).ue_below(256, "parameter set id")


def codec_string(config: bytes) -> str:
    """``avc1.PPCCLL`` (RFC 6381 3.3) of an avcC."""
    if len(config) < 4:
        raise RemoteProtocolError("avcC ends early")
    return f"avc1.{config[1:4].hex()}"


def track_from_config(track_id: int, config: bytes, timescale: int = 90_000, variant: str = "Video",
                      generation: int = 0) -> Track:  # fmt: skip
    """The Track of an avcC as it came (any length size); its ``codec_config`` is for canonical access units.

    Raises RemoteProtocolError.
    """
    avcc = AvcConfig.parse(config)
    sps = parse_sps(avcc.sps[0])
    canonical_config = avcc.build()
    return Track(
        id=track_id,
        generation=generation,
        media=MediaType.VIDEO,
        codec=Codec.H264,
        timescale=timescale,
        codec_config=canonical_config,
        width=sps.width,
        height=sps.height,
        frame_rate=sps.frame_rate,
        variant=variant,
        has_b_frames=sps.has_b_frames,
        codec_string=codec_string(canonical_config),
    )


def canonical(payload: bytes, length_size: int = 4) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """A length-prefixed access unit as (canonical payload, is it a key frame, in-band parameter sets).

    Drops access unit delimiters, filler, parameter sets and end markers, and makes the lengths 4 bytes. ``payload``
    itself comes back when there is nothing to do; the payload is empty when nothing is left. A key frame is an IDR
    picture. Raises RemoteProtocolError.
    """
    return nal.canonical(payload, length_size, _KINDS)


def canonical_annexb(payload: bytes) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """The same as ``canonical`` for an Annex B access unit."""
    return nal.canonical_units(nal.split_annexb(payload), _KINDS)


def slice_type(unit: bytes) -> str:
    """``P``, ``B``, ``I``, ``p`` (SP) or ``i`` (SI) of a slice NAL unit (H.264 table 7-6).

    Raises RemoteProtocolError.
    """
    if not unit or unit[0] & 31 not in (SLICE, PARTITION_A, IDR):
        raise RemoteProtocolError("not an H.264 slice")
    reader = BitReader(unescape(unit[:24]), 8)
    reader.ue()
    return "PBIpi"[reader.ue_below(10, "slice_type") % 5]


def has_b_slices(payload: bytes) -> bool:
    """Whether a canonical access unit holds a B slice. Raises RemoteProtocolError."""
    return any(slice_type(unit) == "B" for unit in nal.split_prefixed(payload) if unit[0] & 31 in (SLICE, PARTITION_A))


def is_recovery_point(payload: bytes) -> bool:
    """Whether a canonical access unit without an IDR is one that decoding may start at: all its slices are I and an SEI
    marks a recovery point (H.264 D.1.8). Open groups of pictures have these. Raises RemoteProtocolError."""
    marked = False
    for unit in nal.split_prefixed(payload):
        kind = unit[0] & 31
        if kind == SEI:
            marked = marked or _marks_recovery(unit)
        elif kind == IDR or (kind in (SLICE, PARTITION_A) and (not marked or slice_type(unit) not in "Ii")):
            return False
    return marked


def _marks_recovery(unit: bytes) -> bool:
    data = unescape(unit)
    position, end = 1, len(data)
    while position + 2 <= end and data[position:] != b"\x80":
        values = []
        for _ in range(2):
            value = 0
            while position < end and data[position] == 255:
                value += 255
                position += 1
            if position >= end:
                return False
            values.append(value + data[position])
            position += 1
        if values[0] == 6:
            return True
        position += values[1]
    return False
