"""The codecs that FLV brings us: how a Track is made of their configuration, and a canonical payload of a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.media.codecs import aac, av1, h264, h265, opus, vp9
from appliance.media.track import Track

#: Canonical payload, key frame, parameter sets that were inside.
Canonical = tuple[bytes, bool, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """``canonical(body, NAL length size, flagged as key frame)``; ``updated(config, sets)`` gives the same object back
    when the sets are no news. ``size_byte`` is where the configuration tells the NAL length size (-1: no NAL units),
    ``size(key frame)`` width and height for codecs whose configuration leaves them out."""

    four_cc: str
    track: Callable[[int, bytes, int], Track]
    canonical: Callable[[bytes, int, bool], Canonical]
    size_byte: int = -1
    updated: Callable[[bytes, tuple[bytes, ...]], bytes] | None = None
    size: Callable[[bytes], tuple[int, int]] | None = None

    def length_size(self, config: bytes) -> int:
        return (config[self.size_byte] & 3) + 1 if 0 <= self.size_byte < len(config) else 4


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """``duration(payload)`` in ticks of the track, None where the timeline knows it from the configuration."""

    four_cc: str
    track: Callable[[int, bytes, int], Track]
    duration: Callable[[bytes], int] | None = None


def _h264_track(track_id: int, config: bytes, generation: int) -> Track:
    return h264.track_from_config(track_id, config, generation=generation)


def _h264_canonical(body: bytes, length_size: int, flagged: bool) -> Canonical:
    payload, keyframe, sets = h264.canonical(body, length_size)
    if flagged and not keyframe:
        # An encoder with open GOPs: its I pictures are where a decoder can start.
        keyframe = _first_slice(payload) == "I"
    return payload, keyframe, sets


def _first_slice(payload: bytes) -> str:
    position = 0
    while position + 4 < len(payload):
        size = int.from_bytes(payload[position : position + 4], "big")
        if payload[position + 4] & 31 in (h264.SLICE, h264.IDR):
            # The type stands in the first bytes of the slice.
            return h264.slice_type(payload[position + 4 : position + 4 + min(size, 32)])
        position += 4 + size
    return ""


def _h265_track(track_id: int, config: bytes, generation: int) -> Track:
    return h265.track_from_config(track_id, config, generation=generation)


def _h265_canonical(body: bytes, length_size: int, _flagged: bool) -> Canonical:
    return h265.canonical(body, length_size)


def _av1_track(track_id: int, config: bytes, generation: int) -> Track:
    return av1.track_from_config(track_id, config, generation=generation)


def _av1_canonical(body: bytes, _length_size: int, _flagged: bool) -> Canonical:
    return av1.canonical(body)


def _vp9_track(track_id: int, config: bytes, generation: int) -> Track:
    return vp9.track_from_config(track_id, config, generation=generation)


def _vp9_canonical(body: bytes, _length_size: int, _flagged: bool) -> Canonical:
    return body, vp9.is_keyframe(body), ()


def _vp9_size(frame: bytes) -> tuple[int, int]:
    header = vp9.parse_keyframe(frame)
    return header.width, header.height


def _aac_track(track_id: int, config: bytes, generation: int) -> Track:
    return aac.track_from_config(track_id, config, generation=generation)


def _opus_track(track_id: int, config: bytes, generation: int) -> Track:
    return opus.track_from_config(track_id, config, generation=generation)


VIDEO_FORMATS: Final[dict[str, VideoFormat]] = {
    form.four_cc: form
    for form in (
        VideoFormat("avc1", _h264_track, _h264_canonical, 4, h264.updated_config),
        VideoFormat("hvc1", _h265_track, _h265_canonical, 21, h265.updated_config),
        VideoFormat("av01", _av1_track, _av1_canonical, updated=av1.updated_config),
        VideoFormat("vp09", _vp9_track, _vp9_canonical, size=_vp9_size),
    )
}

AUDIO_FORMATS: Final[dict[str, AudioFormat]] = {
    form.four_cc: form
    for form in (AudioFormat("mp4a", _aac_track), AudioFormat("Opus", _opus_track, opus.packet_samples))
}
