"""The tracks of one rendition, multiplexed, into segments that begin at key frames. Sans-IO."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from appliance.errors import BadRequest
from appliance.media.events import EVENT_TRACK, EventPacket
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.protocols.mpegts.muxer import Muxer
from appliance.publishers.hls.window import RenditionWindow
from appliance.publishers.markers import Markers

log = logging.getLogger("kiln.hls")

#: What players of HLS know in a transport stream.
SUPPORTED_CODECS = frozenset({Codec.H264, Codec.H265, Codec.AAC, Codec.MP3, Codec.AC3})
#: What says all itself.
_SELF_CONTAINED = frozenset({Codec.MP3, Codec.AC3})
#: A segment may be so much longer than the target duration: EXTINF is rounded (RFC 8216 4.3.3.1).
OVERRUN = 0.35
#: Times of the source may jitter by so much before a duration counts as the next whole second.
ROUNDING = 0.05
#: A first group of pictures that is longer is cut, in seconds.
LONGEST_FIRST_GOP = 20.0
#: More missing between two frames of the leader is a hole in the time line (seconds).
HOLE = 1.0


class Segmenter:
    """Takes the packets of a stream in the order they come and fills ``window``.

    The first video track leads, else the first track. ``target`` is asked for the target duration of the stream (0:
    not fixed yet), ``fix_target`` is told the first length (seconds), ``wall_offset`` gives the date of timestamp zero.
    """

    def __init__(
        self,
        label: str,
        tracks: Sequence[Track],
        window: RenditionWindow,
        segment_duration: float,
        *,
        target: Callable[[], int],
        fix_target: Callable[[float], int],
        wall_offset: Callable[[], int],
    ) -> None:
        self.label = label
        self.dropped = 0
        self._tracks = {track.id: track for track in tracks}
        self._leader = next((track.id for track in tracks if track.is_video), tracks[0].id)
        self._pictures = self._tracks[self._leader].is_video
        self._window = window
        self._wished = segment_duration
        self._target = target
        self._fix_target = fix_target
        self._wall_offset = wall_offset
        self._markers = Markers()
        self._muxer: Muxer | None = None
        self._events: list[EventPacket] = []
        self._start = 0.0
        self._end = 0.0
        self._key = 0.0
        self._gop = 0.0
        self._frame = 0.0
        self._open = False
        self._changed = False
        self._long_gop_logged = False

    def push(self, packet: Packet) -> None:
        track = packet.track
        known = self._tracks.get(track.id)
        if known is None:
            if track is EVENT_TRACK and isinstance(packet, EventPacket):
                self._happen(packet)
            return
        if track is not known:
            if track.codec not in SUPPORTED_CODECS or not (track.codec_config or track.codec in _SELF_CONTAINED):
                self.dropped += 1
                return
            self._tracks[track.id] = track
            self._changed = self._open
        if track.id == self._leader:
            self._lead(packet)
        if not self._open:
            self.dropped += 1
            return
        if self._events:
            self._place_events(packet.dts / track.timescale)
        self._write(packet)

    def finish(self) -> None:
        """Nothing more comes: what is there is the last segment."""
        if self._open:
            self._close(self._end)

    def _happen(self, packet: EventPacket) -> None:
        if packet.payload:
            self._events.append(packet)
            del self._events[:-64]
        else:
            self._markers.add(packet)

    def _place_events(self, time: float) -> None:
        muxer = self._muxer
        assert muxer is not None
        for packet in [one for one in self._events if one.urgent or one.pts <= time * 1000]:
            self._events.remove(packet)
            self._window.add(muxer.id3(max(packet.pts, int(self._start * 1000)) * 90, packet.payload))

    def _lead(self, packet: Packet) -> None:
        scale = packet.track.timescale
        time = packet.dts / scale
        if self._open and time > self._end - self._frame:
            self._frame = min(HOLE, time - (self._end - self._frame))
        key = packet.keyframe or not self._pictures
        if key and self._open and self._pictures:
            self._gop = time - self._key
        hole = self._open and time - self._end > HOLE
        if hole:
            self._changed = True
        if not self._open:
            if key:
                self._cut(packet, time)
        elif hole:
            self._cut(packet, self._end)
        elif (key and self._due(packet, time)) or self._overruns(time):
            if not key:
                self._long_gop()
            self._cut(packet, time)
        if key:
            self._key = time
        self._end = time + (packet.duration / scale or self._frame)

    def _due(self, packet: Packet, time: float) -> bool:
        length = time - self._start
        if self._changed or length + self._frame / 2 >= self._wished:
            return True
        target = self._target()
        if self._pictures and target and length + self._gop > target + OVERRUN:
            # Better a short segment than one that the next group of pictures makes longer than the target duration.
            return True
        return self._markers.due(packet.pts / packet.track.timescale)

    def _overruns(self, time: float) -> bool:
        longest = self._target() + OVERRUN if self._target() else max(self._wished, LONGEST_FIRST_GOP)
        return time + self._frame - self._start > longest

    def _cut(self, packet: Packet, end: float) -> None:
        if self._open:
            self._close(end)
        if self._muxer is None:
            self._muxer = Muxer(list(self._tracks.values()), events=True)
        time = packet.pts / packet.track.timescale
        wall_offset = self._wall_offset()
        number = self._window.next_number
        self._window.open(
            wall_offset + int(time * 1e9),
            discontinuity=self._changed,
            tags=self._markers.at(time, wall_offset, number),
        )
        self._changed = False
        self._open = True
        self._start = packet.dts / packet.track.timescale
        self._end = self._start
        self._window.add(self._muxer.tables())

    def _close(self, end: float) -> None:
        length = max(end - self._start, 0.001)
        target = self._target() or self._fix_target(max(self._wished, length))
        self._window.close(length, target)
        self._open = False

    def _write(self, packet: Packet) -> None:
        muxer = self._muxer
        assert muxer is not None
        try:
            self._window.add(muxer.packet(packet))
        except BadRequest as fault:
            if not self.dropped:
                log.warning("samples dropped stream=%s track=%d reason=%s", self.label, packet.track.id, fault)
            self.dropped += 1

    def _long_gop(self) -> None:
        if not self._long_gop_logged:
            self._long_gop_logged = True
            log.warning(
                "key frames further apart than the target duration, cut without one stream=%s target_duration=%d",
                self.label, self._target(),
            )  # fmt: skip


def whole_seconds(length: float) -> int:
    """The target duration that a segment of ``length`` seconds asks for."""
    return max(1, math.ceil(length - ROUNDING))
