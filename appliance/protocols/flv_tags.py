"""FLV tag bodies taken apart: the classic form (FLV 10.1 annex E.4) and that of Enhanced RTMP 2."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from appliance.errors import RemoteProtocolError

#: The classic codec numbers that we carry, under the names that Enhanced RTMP gives the same codecs.
CLASSIC_VIDEO: Final = {7: "avc1", 12: "hvc1"}
CLASSIC_AUDIO: Final = {10: "mp4a"}
#: Names for the log of what we do not carry.
OTHER_VIDEO: Final = {2: "H.263", 3: "Screen", 4: "VP6", 5: "VP6 alpha", 6: "Screen 2", 13: "AV1 in the classic form"}
OTHER_AUDIO: Final = {
    0: "PCM",
    1: "ADPCM",
    2: "MP3",
    3: "PCM",
    4: "Nellymoser",
    5: "Nellymoser",
    6: "Nellymoser",
    7: "G.711 A",
    8: "G.711 mu",
    11: "Speex",
    13: "Opus in the classic form",
    14: "MP3 at 8 kHz",
}

#: Video codecs whose frames carry a composition time.
_COMPOSED: Final = frozenset({"avc1", "hvc1"})

KEY_FRAME: Final = 1
COMMAND_FRAME: Final = 5

_MULTITRACK_VIDEO: Final = 6
_MULTITRACK_AUDIO: Final = 5
_MODEX: Final = 7
_CODED_FRAMES_X: Final = 3
_VIDEO_METADATA: Final = 4
_MANY_TRACKS: Final = 1
_MANY_TRACKS_MANY_CODECS: Final = 2
_EX_AUDIO: Final = 9


class Kind(IntEnum):
    """What a tag holds."""

    CONFIG = 0
    FRAME = 1
    END = 2
    OTHER = 3


class Tag(msgspec.Struct, frozen=True, gc=False):
    """One track's part of a tag.

    ``four_cc`` as in Enhanced RTMP, for the classic forms too; ``track`` the multitrack number (0 without multitrack).
    ``composition`` in ms, may be negative; ``nanoseconds`` to add to the tag's time (0 to 999999).
    """

    four_cc: str
    kind: Kind
    keyframe: bool
    payload: bytes
    composition: int = 0
    nanoseconds: int = 0
    track: int = 0


class Unsupported(RemoteProtocolError):
    """A tag that is well formed, of a kind or codec that is not carried."""


def composition_time(data: bytes, position: int) -> int:
    """The signed 24-bit number at ``position``."""
    value = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
    return value - 0x1000000 if value & 0x800000 else value


def parse_video(body: bytes) -> list[Tag]:
    """The tracks in a video tag; none for commands, metadata and tags without a body.

    Raises Unsupported for codecs that we do not carry, RemoteProtocolError for what is broken.
    """
    if not body:
        return []
    first = body[0]
    frame_type = first >> 4 & 7
    if first & 0x80:
        return _parse_enhanced(body, frame_type, video=True)
    if frame_type == COMMAND_FRAME:
        return []
    codec = first & 15
    four_cc = CLASSIC_VIDEO.get(codec)
    if four_cc is None:
        raise Unsupported(f"video codec {codec} ({OTHER_VIDEO.get(codec, 'unknown')})")
    if len(body) < 5:
        raise RemoteProtocolError("FLV video tag ends early")
    kind = Kind(min(body[1], Kind.OTHER))
    composition = composition_time(body, 2) if kind is Kind.FRAME else 0
    return [Tag(four_cc, kind, frame_type == KEY_FRAME, body[5:], composition)]


def parse_audio(body: bytes) -> list[Tag]:
    """The tracks in an audio tag. Raises as ``parse_video``."""
    if not body:
        return []
    sound_format = body[0] >> 4
    if sound_format == _EX_AUDIO:
        return _parse_enhanced(body, 0, video=False)
    four_cc = CLASSIC_AUDIO.get(sound_format)
    if four_cc is None:
        raise Unsupported(f"sound format {sound_format} ({OTHER_AUDIO.get(sound_format, 'unknown')})")
    if len(body) < 2:
        raise RemoteProtocolError("FLV audio tag ends early")
    return [Tag(four_cc, Kind.FRAME if body[1] else Kind.CONFIG, True, body[2:])]


class _Cursor:
    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        start = self.position
        end = start + count
        if end > len(self.data):
            raise RemoteProtocolError("FLV tag ends early")
        self.position = end
        return self.data[start:end]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.position)


def _parse_enhanced(body: bytes, frame_type: int, *, video: bool) -> list[Tag]:
    cursor = _Cursor(body, 1)
    packet_type, nanoseconds = _read_extensions(cursor, body[0] & 15)
    if video and frame_type == COMMAND_FRAME and packet_type != _VIDEO_METADATA:
        return []
    if packet_type != (_MULTITRACK_VIDEO if video else _MULTITRACK_AUDIO):
        four_cc = _four_cc(cursor)
        return [_track_tag(four_cc, packet_type, frame_type, nanoseconds, 0, cursor.rest(), video=video)]
    form = cursor.number(1)
    packet_type = form & 15
    form >>= 4
    if form > _MANY_TRACKS_MANY_CODECS:
        raise RemoteProtocolError(f"Enhanced RTMP multitrack form {form}")
    four_cc = "" if form == _MANY_TRACKS_MANY_CODECS else _four_cc(cursor)
    tags = []
    while cursor.position < len(body):
        codec = four_cc or _four_cc(cursor)
        track = cursor.number(1)
        payload = cursor.take(cursor.number(3)) if form else cursor.rest()
        tags.append(_track_tag(codec, packet_type, frame_type, nanoseconds, track, payload, video=video))
    return tags


def _read_extensions(cursor: _Cursor, packet_type: int) -> tuple[int, int]:
    """Skip the ModEx parts; the packet type behind them, and the sum of their nanosecond offsets."""
    nanoseconds = 0
    while packet_type == _MODEX:
        size = cursor.number(1) + 1
        if size == 256:
            size = cursor.number(2) + 1
        data = cursor.take(size)
        form = cursor.number(1)
        packet_type = form & 15
        if form >> 4 == 0:
            nanoseconds = min(int.from_bytes(data[:3], "big"), 999_999)
    return packet_type, nanoseconds


def _four_cc(cursor: _Cursor) -> str:
    return cursor.take(4).decode("ascii", "replace")


def _track_tag(
    four_cc: str, packet_type: int, frame_type: int, nanoseconds: int, track: int, payload: bytes, *, video: bool
) -> Tag:
    kind = Kind(min(packet_type, Kind.OTHER))
    composition = 0
    if video:
        if packet_type == _CODED_FRAMES_X:
            kind = Kind.FRAME
        elif packet_type == Kind.FRAME and four_cc in _COMPOSED:
            if len(payload) < 3:
                raise RemoteProtocolError("FLV video tag ends early")
            composition = composition_time(payload, 0)
            payload = payload[3:]
    keyframe = frame_type == KEY_FRAME or not video
    return Tag(four_cc, kind, keyframe, payload, composition, nanoseconds, track)
