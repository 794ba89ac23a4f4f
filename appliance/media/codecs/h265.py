"""H.265 (ITU-T H.265, ISO/IEC 14496-15 clause 8): decoder configuration, parameter sets, canonical access units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import nal
from appliance.media.codecs.bits import BitReader, unescape
from appliance.media.codecs.h264 import SAMPLE_ASPECT, frame_rate
from appliance.media.track import Codec, MediaType, Track

BLA_W_LP, IDR_W_RADL, IDR_N_LP, CRA, VPS, SPS, PPS, AUD, END_OF_SEQUENCE, END_OF_STREAM, FILLER, SEI = (
    16, 19, 20, 21, 32, 33, 34, 35, 36, 37, 38, 39)  # fmt: skip

#: BLA, IDR and CRA pictures are where decoding may start.
_KIND_OF_TYPE = dict.fromkeys(range(BLA_W_LP, CRA + 1), nal.KEY) | {
    VPS: nal.COLLECT, SPS: nal.COLLECT, PPS: nal.COLLECT,
    AUD: nal.DROP, END_OF_SEQUENCE: nal.DROP, END_OF_STREAM: nal.DROP, FILLER: nal.DROP,
}  # fmt: skip
_KINDS = bytes(_KIND_OF_TYPE.get(byte >> 1 & 63, nal.KEEP) for byte in range(256))

_MAX_SIDE = 16384


@dataclass(frozen=True, slots=True)
class ProfileTierLevel:
    """The general part of profile_tier_level (H.265 7.3.3).

    ``compatibility`` holds 32 flags, ``constraints`` 6 bytes, ``level`` is 30 times the level's number.
    """

    space: int
    high_tier: bool
    profile: int
    compatibility: int
    constraints: bytes
    level: int

    @property
    def codec_string(self) -> str:
        """``hvc1.…`` (ISO/IEC 14496-15 E.3)."""
        space = ("", "A", "B", "C")[self.space]
        reversed_flags = int(f"{self.compatibility:032b}"[::-1], 2)
        tail = "".join(f".{byte:X}" for byte in self.constraints.rstrip(b"\0"))
        return f"hvc1.{space}{self.profile}.{reversed_flags:X}.{'H' if self.high_tier else 'L'}{self.level}{tail}"


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """What an SPS says (H.265 7.3.2.2, Annex E). Fields as in ``h264.SequenceParameterSet``."""

    id: int
    profile_tier_level: ProfileTierLevel
    temporal_layers: int
    temporal_nesting: bool
    chroma_format: int
    bit_depth_luma: int
    bit_depth_chroma: int
    width: int
    height: int
    reorder_frames: int
    interlaced: bool = False
    sample_aspect: tuple[int, int] = (0, 1)
    frame_rate: float = 0.0
    full_range: bool = False
    colour: tuple[int, int, int] = (2, 2, 2)

    @property
    def has_b_frames(self) -> bool:
        """Whether frames are reordered."""
        return self.reorder_frames > 0


def _type(unit: bytes) -> int:
    return unit[0] >> 1 & 63 if unit else -1


def _layer(unit: bytes) -> int:
    """nuh_layer_id: above 0 are the second eye and other extensions, which only some decoders use."""
    return (unit[0] & 1) << 5 | unit[1] >> 3 if len(unit) > 1 else 0


def _reader(unit: bytes, kind: int, name: str) -> BitReader:
    if len(unit) < 3 or _type(unit) != kind:
        raise RemoteProtocolError(f"not an H.265 {name} parameter set")
    return BitReader(unescape(unit), 16)


def _profile_tier_level(reader: BitReader, sub_layers: int) -> ProfileTierLevel:
    space, high_tier, profile, compatibility = reader.bits(2), reader.flag(), reader.bits(5), reader.bits(32)
    constraints, level = reader.bits(48).to_bytes(6, "big"), reader.bits(8)
    result = ProfileTierLevel(space, high_tier, profile, compatibility, constraints, level)
    present = [(reader.flag(), reader.flag()) for _ in range(sub_layers)]
    if sub_layers:
        reader.skip(2 * (8 - sub_layers))
    for profile, level in present:
        reader.skip(88 * profile + 8 * level)
    return result


def parse_vps_frame_rate(unit: bytes) -> float:
    """The frame rate that a VPS NAL unit tells, 0.0 when it tells none. Raises RemoteProtocolError."""
    reader = _reader(unit, VPS, "video")
    reader.skip(12)
    sub_layers = reader.bits(3)
    reader.skip(17)
    _profile_tier_level(reader, sub_layers)
    _skip_ordering(reader, sub_layers)
    layers = reader.bits(6) + 1
    reader.skip(reader.ue_below(1024, "vps_num_layer_sets_minus1") * layers)
    if not reader.flag():
        return 0.0
    units, scale = reader.bits(32), reader.bits(32)
    return frame_rate(scale, units)


def _skip_ordering(reader: BitReader, sub_layers: int) -> int:
    """Reads the sub-layer ordering info and gives the highest layer's reorder count."""
    reorder = 0
    for _ in range(sub_layers + 1 if reader.flag() else 1):
        reader.ue()
        reorder = reader.ue_below(17, "max_num_reorder_pics")
        reader.ue()
    return reorder


def parse_sps(unit: bytes) -> SequenceParameterSet:
    """Parse an SPS NAL unit (header included). Raises RemoteProtocolError."""
    reader = _reader(unit, SPS, "sequence")
    reader.skip(4)
    sub_layers = reader.bits(3)
    if sub_layers > 6:
        raise RemoteProtocolError("sps_max_sub_layers_minus1 is out of range")
    nesting = reader.flag()
    profile_tier_level = _profile_tier_level(reader, sub_layers)
    sps_id = reader.ue_below(16, "sps_seq_parameter_set_id")
    chroma_format = reader.ue_below(4, "chroma_format_idc")
    separate_planes = chroma_format == 3 and reader.flag()
    width = reader.ue_below(_MAX_SIDE + 1, "pic_width_in_luma_samples")
    height = reader.ue_below(_MAX_SIDE + 1, "pic_height_in_luma_samples")
    if reader.flag():
        left, right, top, bottom = reader.ue(), reader.ue(), reader.ue(), reader.ue()
        mono = chroma_format == 0 or separate_planes
        width -= (left + right) * (1 if mono or chroma_format == 3 else 2)
        height -= (top + bottom) * (1 if mono or chroma_format != 1 else 2)
    if width <= 0 or height <= 0:
        raise RemoteProtocolError("H.265 conformance window leaves no picture")
    depth_luma = 8 + reader.ue_below(9, "bit_depth_luma_minus8")
    depth_chroma = 8 + reader.ue_below(9, "bit_depth_chroma_minus8")
    order_bits = 4 + reader.ue_below(13, "log2_max_pic_order_cnt_lsb_minus4")
    reorder = _skip_ordering(reader, sub_layers)
    sps = SequenceParameterSet(
        id=sps_id,
        profile_tier_level=profile_tier_level,
        temporal_layers=sub_layers + 1,
        temporal_nesting=nesting,
        chroma_format=chroma_format,
        bit_depth_luma=depth_luma,
        bit_depth_chroma=depth_chroma,
        width=width,
        height=height,
        reorder_frames=reorder,
    )
    _skip_coding_tools(reader, order_bits)
    return _with_vui(reader, sps) if reader.flag() else sps


def _skip_coding_tools(reader: BitReader, order_bits: int) -> None:
    for _ in range(6):
        reader.ue()
    if reader.flag() and reader.flag():
        _skip_scaling_lists(reader)
    reader.skip(2)
    if reader.flag():
        reader.skip(8)
        reader.ue()
        reader.ue()
        reader.skip(1)
    _skip_reference_sets(reader, reader.ue_below(65, "num_short_term_ref_pic_sets"))
    if reader.flag():
        reader.skip(reader.ue_below(33, "num_long_term_ref_pics_sps") * (order_bits + 1))
    reader.skip(2)


def _skip_scaling_lists(reader: BitReader) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not reader.flag():
                reader.ue()
                continue
            if size > 1:
                reader.se()
            for _ in range(min(64, 1 << (4 + (size << 1)))):
                reader.se()


def _skip_reference_sets(reader: BitReader, count: int) -> None:
    """st_ref_pic_set (7.3.7) for each: a predicted one is as long as the one before it says."""
    entries = 0
    for index in range(count):
        if index and reader.flag():
            reader.skip(1)
            reader.ue()
            entries = sum(1 for _ in range(entries + 1) if reader.flag() or reader.flag())
            continue
        negative = reader.ue_below(17, "num_negative_pics")
        entries = negative + reader.ue_below(17, "num_positive_pics")
        for _ in range(entries):
            reader.ue()
            reader.skip(1)


def _with_vui(reader: BitReader, sps: SequenceParameterSet) -> SequenceParameterSet:
    """Annex E up to the timing. What comes after a point where the SPS ends early keeps its default."""
    aspect, full_range, colour, fields, rate = sps.sample_aspect, False, sps.colour, False, 0.0
    try:
        if reader.flag():
            index = reader.bits(8)
            if index == 255:
                aspect = (reader.bits(16), reader.bits(16))
            elif index < len(SAMPLE_ASPECT):
                aspect = SAMPLE_ASPECT[index]
        if reader.flag():
            reader.skip(1)
        if reader.flag():
            reader.skip(3)
            full_range = reader.flag()
            if reader.flag():
                colour = (reader.bits(8), reader.bits(8), reader.bits(8))
        if reader.flag():
            reader.ue()
            reader.ue()
        reader.skip(1)
        fields = reader.flag()
        reader.skip(1)
        if reader.flag():
            for _ in range(4):
                reader.ue()
        if reader.flag():
            units, scale = reader.bits(32), reader.bits(32)
            rate = frame_rate(scale, units)
    except RemoteProtocolError:
        pass
    return replace(sps, sample_aspect=aspect, full_range=full_range, colour=colour, interlaced=fields, frame_rate=rate)


@dataclass(frozen=True, slots=True)
class HevcConfig:
    """An HEVCDecoderConfigurationRecord, hvcC (ISO/IEC 14496-15 8.3.3.1).

    ``others`` are its SEI units except user data.
    """

    vps: tuple[bytes, ...]
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    others: tuple[bytes, ...] = ()
    length_size: int = 4

    @classmethod
    def parse(cls, data: bytes) -> HevcConfig:
        """Parse an hvcC. Raises RemoteProtocolError; there must be at least one SPS."""
        if len(data) < 23 or data[0] > 1:
            raise RemoteProtocolError("not an hvcC (version 1 expected)")
        length_size = (data[21] & 3) + 1
        if length_size == 3:
            raise RemoteProtocolError("hvcC with a NAL unit length size of 3")
        units: list[bytes] = []
        position = 23
        for _ in range(data[22]):
            count = int.from_bytes(data[position + 1 : position + 3], "big")
            position += 3
            for _ in range(count):
                start = position + 2
                position = start + int.from_bytes(data[position:start], "big")
                if start > len(data) or position > len(data):
                    raise RemoteProtocolError("parameter set in hvcC ends early")
                if position > start:
                    units.append(data[start:position])
        vps, sps, pps = (tuple(unit for unit in units if _type(unit) == kind) for kind in (VPS, SPS, PPS))
        if not sps:
            raise RemoteProtocolError("hvcC without a sequence parameter set")
        # An encoder's settings in words (user data, payload type 5) are long and of no use to a player.
        others = tuple(unit for unit in units if _type(unit) in (SEI, SEI + 1) and unit[2:3] not in (b"\5", b"\4"))
        return cls(vps, sps, pps, others, length_size)

    def build(self) -> bytes:
        """The hvcC that canonical access units go with: lengths of 4 bytes, all sets in it (``hvc1``)."""
        sps = parse_sps(self.sps[0])
        general = sps.profile_tier_level
        layers = sps.temporal_layers << 3 | sps.temporal_nesting << 2 | 3
        parts = [
            bytes((1, general.space << 6 | general.high_tier << 5 | general.profile)),
            general.compatibility.to_bytes(4, "big"), general.constraints,
            # No spatial segmentation known, parallelism unknown, average frame rate not given.
            bytes((general.level, 0xF0, 0, 0xFC, 0xFC | sps.chroma_format, 0xF8 | sps.bit_depth_luma - 8,
                   0xF8 | sps.bit_depth_chroma - 8, 0, 0, layers)),
        ]  # fmt: skip
        arrays = [group for group in (self.vps, self.sps, self.pps, self.others) if group]
        parts.append(bytes((len(arrays),)))
        for group in arrays:
            parts.append(bytes((0x80 | _type(group[0]),)) + len(group).to_bytes(2, "big"))
            for unit in group:
                parts.append(len(unit).to_bytes(2, "big"))
                parts.append(unit)
        return b"".join(parts)

    @property
    def parameter_sets(self) -> tuple[bytes, ...]:
        """All parameter sets in the order a decoder wants them."""
        return self.vps + self.sps + self.pps


def config_from_parameter_sets(sets: Iterable[bytes]) -> bytes:
    """An hvcC of VPS, SPS and PPS NAL units (others are ignored, doubles kept once). Raises RemoteProtocolError."""
    return _merged(HevcConfig((), (), ()), sets).build()


def updated_config(config: bytes, sets: Sequence[bytes]) -> bytes:
    """``config`` with the in-band parameter sets ``sets`` in place of those with the same ids.

    Returns the very object ``config`` when they change nothing. Raises RemoteProtocolError when the sets are broken.
    """
    old = HevcConfig.parse(config)
    sets = [unit for unit in sets if _layer(unit) == 0]
    if all(unit in old.vps or unit in old.sps or unit in old.pps for unit in sets):
        return config
    return _merged(old, sets).build()


def _merged(old: HevcConfig, sets: Iterable[bytes]) -> HevcConfig:
    vps, sps, pps = ({_set_id(unit): unit for unit in group} for group in (old.vps, old.sps, old.pps))
    for unit in nal.distinct(sets):
        if len(unit) > 0xFFFF:
            raise RemoteProtocolError("H.265 parameter set too long")
        kind = _type(unit) if _layer(unit) == 0 else -1
        if kind == VPS:
            vps[_set_id(unit)] = unit
        elif kind == SPS:
            key = _set_id(unit)
            if sps.get(key) not in (None, unit):
                # Another sequence: what hung on the old one is void.
                pps = {}
            sps[key] = unit
        elif kind == PPS:
            pps[_set_id(unit)] = unit
    if not sps:
        raise RemoteProtocolError("no H.265 sequence parameter set")
    return HevcConfig(tuple(vps.values()), tuple(sps.values()), tuple(pps.values()), old.others)


def _set_id(unit: bytes) -> int:
    kind = _type(unit)
    if kind == SPS:
        return parse_sps(unit).id
    reader = BitReader(unescape(unit[:16]), 16)
    return reader.bits(4) if kind == VPS else reader.ue_below(64, "pps_pic_parameter_set_id")


def codec_string(config: bytes) -> str:
    """``hvc1.…`` (ISO/IEC 14496-15 E.3) of an hvcC. Raises RemoteProtocolError."""
    if len(config) < 13:
        raise RemoteProtocolError("hvcC ends early")
    return _profile_tier_level(BitReader(config[1:13]), 0).codec_string


def track_from_config(track_id: int, config: bytes, timescale: int = 90_000, variant: str = "Video",
                      generation: int = 0) -> Track:  # fmt: skip
    """The Track of an hvcC as it came (any length size); its ``codec_config`` is for canonical access units.

    Raises RemoteProtocolError.
    """
    hvcc = HevcConfig.parse(config)
    sps = parse_sps(hvcc.sps[0])
    canonical_config = hvcc.build()
    rate = sps.frame_rate
    if not rate and hvcc.vps:
        rate = parse_vps_frame_rate(hvcc.vps[0])
    return Track(
        id=track_id,
        generation=generation,
        media=MediaType.VIDEO,
        codec=Codec.H265,
        timescale=timescale,
        codec_config=canonical_config,
        width=sps.width,
        height=sps.height,
        frame_rate=rate,
        variant=variant,
        has_b_frames=sps.has_b_frames,
        codec_string=codec_string(canonical_config),
    )


def canonical(payload: bytes, length_size: int = 4) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """A length-prefixed access unit as (canonical payload, is it a key frame, in-band parameter sets).

    As ``h264.canonical``; a key frame is an IDR, BLA or CRA picture. Raises RemoteProtocolError.
    """
    return nal.canonical(payload, length_size, _KINDS)


def canonical_annexb(payload: bytes) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """The same as ``canonical`` for an Annex B access unit."""
    return nal.canonical_units(nal.split_annexb(payload), _KINDS)


def is_open_gop(payload: bytes) -> bool:
    """Whether a canonical access unit is a CRA picture: pictures shown before it may need the ones before it too."""
    return any(_type(unit) == CRA for unit in nal.split_prefixed(payload))
