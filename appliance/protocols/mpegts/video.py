"""Pictures in a transport stream: access units out of PES packets, canonical, with the Track that they tell of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import h264, h265, nal
from appliance.media.track import Track

CLOCK: Final = 90_000
#: Parameter sets that wait for the others that a configuration needs.
_MOST_SETS: Final = 64


class Picture(NamedTuple):
    """One access unit: times in 90 kHz ticks, ``dts`` of a PES without one is its PTS."""

    track: Track
    pts: int
    dts: int
    keyframe: bool
    payload: bytes


class _Codec(NamedTuple):
    canonical: Callable[[bytes], tuple[bytes, bool, tuple[bytes, ...]]]
    config: Callable[[Sequence[bytes]], bytes]
    updated: Callable[[bytes, Sequence[bytes]], bytes]
    track: Callable[[int, bytes], Track]
    #: Whether a NAL unit of that first byte is an access unit delimiter.
    delimits: Callable[[int], bool]
    may_start: Callable[[bytes], bool]


def _never(_: bytes) -> bool:
    return False


def _recovers(payload: bytes) -> bool:
    try:
        return h264.is_recovery_point(payload)
    except RemoteProtocolError:
        return False


_H264: Final = _Codec(
    h264.canonical_annexb, h264.config_from_parameter_sets, h264.updated_config, h264.track_from_config,
    lambda head: head & 31 == 9, _recovers,
)  # fmt: skip
_H265: Final = _Codec(
    h265.canonical_annexb, h265.config_from_parameter_sets, h265.updated_config, h265.track_from_config,
    lambda head: head >> 1 & 63 == 35, _never,
)  # fmt: skip


class VideoReader:
    """Takes what PES packets carry. Pictures before the first parameter sets, and before a key frame, are left out."""

    def __init__(self, track_id: int, codec: str, generation: int) -> None:
        """``codec`` is ``h264`` or ``h265``."""
        self.track: Track | None = None
        self.skipped = 0
        self.track_id = track_id
        self._codec = _H264 if codec == "h264" else _H265
        self._sets: list[bytes] = []
        self._started = False
        self._generation = generation

    def take(self, data: bytes, pts: int, dts: int, entry: bool) -> list[Picture]:
        """The access units in ``data``, most often one. ``entry``: the packet is flagged as a place to start at."""
        try:
            units = self._split(data)
        except RemoteProtocolError:
            self.skipped += 1
            return []
        pictures = []
        for number, unit in enumerate(units):
            picture = self._picture(unit, entry and not number)
            if picture is not None:
                track, keyframe, payload = picture
                later = number * self._period(track)
                pictures.append(Picture(track, pts + later, dts + later, keyframe, payload))
        return pictures

    def _split(self, data: bytes) -> list[bytes]:
        """Most senders put one access unit into a PES packet; where there are several, each begins with a delimiter."""
        codec = self._codec
        first = data.find(b"\0\0\1")
        if first < 0 or first + 3 >= len(data) or not codec.delimits(data[first + 3]):
            return [data]
        at = data.find(data[first : first + 4], first + 4)
        if at < 0:
            return [data]
        starts = [0]
        while at >= 0 and len(starts) < 64:
            starts.append(at)
            at = data.find(data[first : first + 4], at + 4)
        return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]

    def _picture(self, data: bytes, entry: bool) -> tuple[Track, bool, bytes] | None:
        codec = self._codec
        try:
            payload, keyframe, sets = codec.canonical(data)
            if sets:
                self._learn(sets)
        except RemoteProtocolError:
            self.skipped += 1
            return None
        track = self.track
        if track is None or not payload:
            return None
        keyframe = keyframe or (entry and codec.may_start(payload))
        if not self._started:
            if not keyframe:
                return None
            self._started = True
        return track, keyframe, payload

    def _learn(self, sets: tuple[bytes, ...]) -> None:
        """Raises RemoteProtocolError when they are broken; the track stays as it was then."""
        track = self.track
        if track is None:
            self._sets = nal.distinct([*self._sets, *sets])[-_MOST_SETS:]
            try:
                config = self._codec.config(self._sets)
            except RemoteProtocolError:
                # Not all there yet.
                return
            self._sets = []
        else:
            config = self._codec.updated(track.codec_config, sets)
            if config is track.codec_config:
                return
        made = self._codec.track(self.track_id, config)
        self.track = msgspec.structs.replace(made, generation=self._generation)
        self._generation += 1

    @staticmethod
    def _period(track: Track) -> int:
        return round(CLOCK / track.frame_rate) if track.frame_rate else CLOCK // 30
