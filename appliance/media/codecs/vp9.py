"""VP9 (Bitstream specification 6.2, ISO Media File Format Binding): frame headers and vpcC. And VP8's (RFC 6386)."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.errors import RemoteProtocolError
from appliance.media.codecs.bits import BitReader
from appliance.media.track import Codec, MediaType, Track

_SYNC = 0x498342
_RGB = 7
#: color_space of the frame header as (primaries, transfer, matrix) of ISO/IEC 23091-2.
_COLOURS = {0: (2, 2, 2), 1: (5, 6, 5), 2: (1, 1, 1), 3: (6, 6, 6), 4: (7, 7, 7), 5: (9, 14, 9), 7: (1, 13, 0)}

#: Level, luma samples a second, luma samples a picture (VP9 levels, as webmproject.org/vp9/levels lists them).
_LEVELS = (
    (10, 829_440, 36_864), (11, 2_764_800, 73_728), (20, 4_608_000, 122_880), (21, 9_216_000, 245_760),
    (30, 20_736_000, 552_960), (31, 36_864_000, 983_040), (40, 83_558_400, 2_228_224), (41, 160_432_128, 2_228_224),
    (50, 311_951_360, 8_912_896), (51, 588_251_136, 8_912_896), (52, 1_176_502_272, 8_912_896),
    (60, 1_176_502_272, 35_651_584), (61, 2_353_004_544, 35_651_584), (62, 4_706_009_088, 35_651_584),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """What the header of a key frame says. ``chroma`` as in vpcC: 0 4:2:0 vertical, 1 colocated, 2 4:2:2, 3 4:4:4."""

    profile: int
    width: int
    height: int
    bit_depth: int = 8
    chroma: int = 1
    colour: tuple[int, int, int] = (2, 2, 2)
    full_range: bool = False


def is_keyframe(frame: bytes) -> bool:
    """Whether a VP9 frame (or superframe) starts with a shown or hidden key frame. Never raises."""
    if not frame or frame[0] >> 6 != 2:
        return False
    head = frame[0]
    if head & 0x30 == 0x30:
        # Profile 3: one reserved bit before show_existing_frame and frame_type.
        return head & 0x06 == 0
    return head & 0x0C == 0


def parse_keyframe(frame: bytes) -> KeyFrame:
    """Parse the uncompressed header of a VP9 key frame. Raises RemoteProtocolError."""
    reader = BitReader(frame[:32])
    if reader.bits(2) != 2:
        raise RemoteProtocolError("not a VP9 frame")
    profile = reader.bits(1) | reader.bits(1) << 1
    if profile == 3 and reader.flag():
        raise RemoteProtocolError("VP9 profile is reserved")
    if reader.flag() or reader.flag():
        raise RemoteProtocolError("not a VP9 key frame")
    reader.skip(2)
    if reader.bits(24) != _SYNC:
        raise RemoteProtocolError("VP9 key frame without its sync code")
    depth = (12 if reader.flag() else 10) if profile >= 2 else 8
    space = reader.bits(3)
    if space == _RGB:
        full_range, chroma = True, 3
        if profile in (0, 2):
            raise RemoteProtocolError("VP9 RGB in a profile without it")
        reader.skip(1)
    else:
        full_range, chroma = reader.flag(), 1
        if profile in (1, 3):
            x, y = reader.flag(), reader.flag()
            chroma = 1 if x and y else 2 if x else 3
            reader.skip(1)
    width, height = reader.bits(16) + 1, reader.bits(16) + 1
    return KeyFrame(profile, width, height, depth, chroma, _COLOURS.get(space, (2, 2, 2)), full_range)


@dataclass(frozen=True, slots=True)
class VpConfig:
    """A VPCodecConfigurationRecord (section 2.2). ``level`` is ten times its number, 0 when unknown."""

    profile: int
    level: int
    bit_depth: int
    chroma: int
    full_range: bool
    colour: tuple[int, int, int]

    @classmethod
    def parse(cls, data: bytes) -> VpConfig:
        """Parse the content of a vpcC box, with its version and flags or without. Raises RemoteProtocolError."""
        record = data[4:] if data[:4] == b"\1\0\0\0" and len(data) >= 12 else data
        if len(record) < 8:
            raise RemoteProtocolError("vpcC ends early")
        profile, level, packed = record[:3]
        if profile > 3 or packed >> 4 not in (8, 10, 12):
            raise RemoteProtocolError("vpcC with a profile or bit depth that VP9 hasn't got")
        return cls(profile, level, packed >> 4, packed >> 1 & 7, bool(packed & 1), (record[3], record[4], record[5]))

    def build(self) -> bytes:
        """The content of the vpcC box, version and flags included."""
        packed = self.bit_depth << 4 | self.chroma << 1 | self.full_range
        return bytes((1, 0, 0, 0, self.profile, self.level, packed, *self.colour, 0, 0))

    @property
    def codec_string(self) -> str:
        """``vp09.PP.LL.DD``, with colours only where they are not the usual ones (section 4)."""
        head = f"vp09.{self.profile:02d}.{self.level:02d}.{self.bit_depth:02d}"
        if self.chroma <= 1 and self.colour in ((1, 1, 1), (2, 2, 2)) and not self.full_range:
            return head
        primaries, transfer, matrix = self.colour
        return f"{head}.{self.chroma:02d}.{primaries:02d}.{transfer:02d}.{matrix:02d}.{int(self.full_range):02d}"


def level_for(width: int, height: int, rate: float) -> int:
    """The lowest VP9 level (ten times its number) for a picture size and frame rate (0: 30 is assumed)."""
    picture = width * height
    samples = picture * (rate or 30.0)
    for level, most_samples, most_picture in _LEVELS:
        if samples <= most_samples and picture <= most_picture:
            return level
    return _LEVELS[-1][0]


def config_from_keyframe(frame: bytes, rate: float = 0.0) -> bytes:
    """The vpcC content for a stream with this key frame and frame rate. Raises RemoteProtocolError."""
    key = parse_keyframe(frame)
    level = level_for(key.width, key.height, rate)
    return VpConfig(key.profile, level, key.bit_depth, key.chroma, key.full_range, key.colour).build()


def track_from_config(track_id: int, config: bytes, timescale: int = 90_000, variant: str = "Video",
                      generation: int = 0, *, width: int = 0, height: int = 0, rate: float = 0.0) -> Track:  # fmt: skip
    """The Track of a vpcC; sizes and rate are not in it, so they are handed in. Raises RemoteProtocolError."""
    parsed = VpConfig.parse(config)
    return Track(
        id=track_id,
        generation=generation,
        media=MediaType.VIDEO,
        codec=Codec.VP9,
        timescale=timescale,
        codec_config=parsed.build(),
        width=width,
        height=height,
        frame_rate=rate,
        variant=variant,
        codec_string=parsed.codec_string,
    )


def is_vp8_keyframe(frame: bytes) -> bool:
    """Whether a VP8 frame is a key frame (RFC 6386 9.1). Never raises."""
    return bool(frame) and not frame[0] & 1


def parse_vp8_keyframe(frame: bytes) -> tuple[int, int]:
    """Width and height of a VP8 key frame (RFC 6386 9.1). Raises RemoteProtocolError."""
    if len(frame) < 10 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        raise RemoteProtocolError("not a VP8 key frame")
    width, height = int.from_bytes(frame[6:8], "little") & 0x3FFF, int.from_bytes(frame[8:10], "little") & 0x3FFF
    if not width or not height:
        raise RemoteProtocolError("VP8 key frame without a size")
    return width, height
