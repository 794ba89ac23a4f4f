"""From what libavformat reads out of a file to our tracks and canonical payloads."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import aac, h264, h265, nal, opus
from appliance.media.track import Codec, MediaType, Track

VIDEO_TIMESCALE = 90_000
#: Broken packets in a row after which the file is given up.
MOST_BROKEN = 500

Frame = tuple[int, int, int, bool, bytes]
_PICTURES: dict[str, tuple[Codec, ModuleType]] = {"h264": (Codec.H264, h264), "hevc": (Codec.H265, h265)}


class FileTrack:
    """One elementary stream of an open file. ``track`` changes with its configuration. Times count from ``origin``
    (s), the start of the file."""

    def __init__(self, track: Track, stream: Any, origin: Fraction, module: ModuleType | None) -> None:
        self.track = track
        self._module = module
        self._base: Fraction = stream.time_base
        self._origin = origin
        self._annexb = False
        self._length_size = 4
        self._adts = False
        self._next: int | None = None
        self._last = -(1 << 62)
        self._broken = 0
        self._reorder = int(getattr(stream.codec_context, "has_b_frames", 0) or 0)
        config = bytes(stream.codec_context.extradata or b"")
        if module is not None:
            self._annexb = config[:1] != b"\1"
            if not self._annexb:
                parsed = h264.AvcConfig.parse(config) if module is h264 else h265.HevcConfig.parse(config)
                self._length_size = parsed.length_size
        elif track.codec is Codec.AAC:
            self._adts = not config

    def frames(self, packet: Any) -> Iterator[Frame]:
        """``(pts, dts, duration, keyframe, payload)`` in ticks of ``track``. Raises RemoteProtocolError when nothing of
        the file can be made sense of."""
        duration = self._ticks(packet.duration or 0)
        shown = self._ticks_from_origin(packet.pts)
        dts = self._ticks_from_origin(packet.dts)
        if dts is None:
            # Matroska tells no decoding times of the first frames.
            dts = self._next if self._next is not None else (shown or 0) - self._reorder * duration
        dts = self._last = max(dts, self._last + 1)
        pts = dts if shown is None else max(dts, shown)
        self._next = dts + duration
        try:
            if self._module is not None:
                yield from self._picture(bytes(packet), pts, dts, duration)
            elif self._adts:
                yield from self._adts_frames(bytes(packet), pts)
            else:
                yield pts, pts, duration, True, bytes(packet)
            self._broken = 0
        except RemoteProtocolError:
            self._broken += 1
            if self._broken > MOST_BROKEN:
                raise

    def _picture(self, data: bytes, pts: int, dts: int, duration: int) -> Iterator[Frame]:
        assert self._module is not None
        if self._annexb:
            payload, keyframe, sets = self._module.canonical_annexb(data)
        else:
            payload, keyframe, sets = self._module.canonical(data, self._length_size)
        if sets:
            config = self._module.updated_config(self.track.codec_config, sets)
            if config is not self.track.codec_config:
                self._change(config)
        if payload:
            yield pts, min(dts, pts), duration, keyframe, payload

    def _change(self, config: bytes) -> None:
        assert self._module is not None
        old = self.track
        made = self._module.track_from_config(old.id, config, VIDEO_TIMESCALE, old.variant, old.generation + 1)
        self.track = msgspec.structs.replace(made, frame_rate=old.frame_rate, has_b_frames=old.has_b_frames)

    def _adts_frames(self, data: bytes, pts: int) -> Iterator[Frame]:
        for header, payload in aac.split_adts(data):
            yield pts, pts, 1024, True, payload
            pts += 1024
            if header.config != self.track.codec_config:
                self.track = aac.track_from_config(self.track.id, header.config, 0, "Audio", self.track.generation + 1)

    def _ticks(self, value: int) -> int:
        return round(value * self._base * self.track.timescale)

    def _ticks_from_origin(self, value: int | None) -> int | None:
        return None if value is None else round((value * self._base - self._origin) * self.track.timescale)


def file_tracks(container: Any, origin: Fraction) -> dict[int, FileTrack]:
    """Those that can be carried, by the index of the stream; ids count from 0, pictures first."""
    found: dict[int, FileTrack] = {}
    for stream in (*container.streams.video, *container.streams.audio):
        if "attached_pic" in str(getattr(stream, "disposition", "")):
            continue
        try:
            made = _track(stream, len(found), container)
        except RemoteProtocolError:
            continue
        if made is not None:
            module = _PICTURES.get(stream.codec_context.name, (None, None))[1]
            found[stream.index] = FileTrack(made, stream, origin, module)
    return found


def _track(stream: Any, track_id: int, container: Any) -> Track | None:
    context = stream.codec_context
    config = bytes(context.extradata or b"")
    known = _PICTURES.get(context.name)
    if known is not None:
        return _picture_track(stream, track_id, config, known[1])
    name = context.codec.canonical_name if hasattr(context.codec, "canonical_name") else context.name
    if name == "aac":
        return aac.track_from_config(track_id, config or _first_adts(stream, container))
    if name in ("opus", "libopus"):
        return opus.track_from_config(track_id, config)
    if name in ("mp3", "mp3float"):
        return Track(id=track_id, media=MediaType.AUDIO, codec=Codec.MP3, timescale=context.sample_rate,
                     sample_rate=context.sample_rate, channels=context.channels, variant="Audio",
                     codec_string="mp4a.40.34")  # fmt: skip
    return None


def _picture_track(stream: Any, track_id: int, config: bytes, module: ModuleType) -> Track:
    if config[:1] != b"\1":
        config = module.config_from_parameter_sets(_parameter_sets(config, module))
    made: Track = module.track_from_config(track_id, config, VIDEO_TIMESCALE)
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    ordered = bool(stream.codec_context.has_b_frames)
    return msgspec.structs.replace(
        made, frame_rate=rate or made.frame_rate, has_b_frames=ordered, bitrate=stream.codec_context.bit_rate or 0
    )


def _parameter_sets(extradata: bytes, module: ModuleType) -> list[bytes]:
    units = nal.split_annexb(extradata)
    if module is h264:
        return [unit for unit in units if unit and unit[0] & 31 in (7, 8, 13)]
    return [unit for unit in units if unit and unit[0] >> 1 & 63 in (32, 33, 34)]


def _first_adts(stream: Any, container: Any) -> bytes:
    """What libavformat found out about an AAC stream whose configuration is in each frame."""
    context = stream.codec_context
    return aac.AudioConfig(2, context.sample_rate, context.sample_rate, context.channels).build()
