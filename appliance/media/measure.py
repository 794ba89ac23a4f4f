"""What a track really carries: bit rate, frame rate and key-frame interval, kept up to date packet by packet."""

from __future__ import annotations

from collections.abc import Callable

from appliance.media.clock import NANOSECONDS, rescale
from appliance.media.packet import Packet
from appliance.media.track import Track

#: Figures of the last second are zero when no second has been finished for this long (ns).
STALE = 3 * NANOSECONDS


class Measured:
    """Figures of one track, in the track's own time (DTS), so that a burst doesn't look like a high rate.

    ``clock`` (CLOCK_MONOTONIC nanoseconds) is asked once a second of media and when figures are read: with it, those of
    the last second fall to zero when nothing comes any more. ``dropped`` is for whoever drops packets of this track to
    count in. ``reordered`` tells whether frames came that are shown before ones that came earlier (B-frames).
    """

    __slots__ = (
        "_clock", "_first", "_gop", "_gops", "_gops_frames", "_last", "_last_size", "_latest_bits", "_latest_frames",
        "_latest_gop", "_rolled_at", "_scale", "_shown", "_track", "_window", "_window_bytes", "_window_packets",
        "bytes", "dropped", "packets", "reordered",
    )  # fmt: skip

    def __init__(self, track: Track, clock: Callable[[], int] | None = None) -> None:
        self._track = track
        self._scale = track.timescale
        self._clock = clock
        self._first = self._last = self._window = 0
        self._last_size = 0
        self._shown = -1
        self._window_bytes = self._window_packets = 0
        self._latest_bits = 0
        self._latest_frames = 0.0
        self._rolled_at = 0
        # Frames since the last key frame, itself not counted; -1 before the first.
        self._gop = -1
        self._gops = self._gops_frames = self._latest_gop = 0
        self.packets = 0
        self.bytes = 0
        self.dropped = 0
        self.reordered = False

    def add(self, packet: Packet) -> None:
        """Count one packet."""
        if packet.track is not self._track:
            self._change(packet.track)
        dts = packet.dts
        size = len(packet.payload)
        if not self.packets:
            self._first = self._window = dts
        elif dts - self._window >= self._scale:
            self._roll(dts)
        self.packets += 1
        self.bytes += size
        self._window_packets += 1
        self._window_bytes += size
        self._last = dts
        self._last_size = size
        pts = packet.pts
        if pts > self._shown:
            self._shown = pts
        else:
            self.reordered = True
        if not packet.keyframe:
            if self._gop >= 0:
                self._gop += 1
        else:
            if self._gop >= 0:
                self._latest_gop = self._gop + 1
                self._gops += 1
                self._gops_frames += self._gop + 1
            self._gop = 0

    def _roll(self, now: int) -> None:
        span = now - self._window
        self._latest_bits = self._window_bytes * 8 * self._scale // span
        self._latest_frames = self._window_packets * self._scale / span
        self._window = now
        self._window_bytes = self._window_packets = 0
        if self._clock is not None:
            self._rolled_at = self._clock()

    def _change(self, track: Track) -> None:
        self._track = track
        if track.timescale != self._scale:
            self._first, self._last, self._window, self._shown = (
                rescale(value, self._scale, track.timescale)
                for value in (self._first, self._last, self._window, self._shown))  # fmt: skip
            self._scale = track.timescale

    @property
    def _stale(self) -> bool:
        return self._clock is not None and self._rolled_at != 0 and self._clock() - self._rolled_at > STALE

    @property
    def bitrate_avg(self) -> int:
        """Bit/s since the first packet."""
        span = self._last - self._first
        return (self.bytes - self._last_size) * 8 * self._scale // span if span > 0 else 0

    @property
    def bitrate_latest(self) -> int:
        """Bit/s in the last whole second; the average before there was one."""
        if self._stale:
            return 0
        return self._latest_bits or self.bitrate_avg

    @property
    def framerate_avg(self) -> float:
        """Packets a second since the first one."""
        span = self._last - self._first
        return (self.packets - 1) * self._scale / span if span > 0 else 0.0

    @property
    def framerate_latest(self) -> float:
        """Packets a second in the last whole second; the average before there was one."""
        if self._stale:
            return 0.0
        return self._latest_frames or self.framerate_avg

    @property
    def key_frame_interval_avg(self) -> float:
        """Frames from key frame to key frame, 0.0 before the second one."""
        return self._gops_frames / self._gops if self._gops else 0.0

    @property
    def key_frame_interval_latest(self) -> float:
        """Frames between the last two key frames, 0.0 before the second one."""
        return float(self._latest_gop)

    @property
    def delta_frames_since_last_key_frame(self) -> int:
        """Frames after the last key frame."""
        return max(0, self._gop)

    def values(self) -> dict[str, int | float]:
        """The measured keys of the API's video or audio object (catalogue 3.4)."""
        rates: dict[str, int | float] = {"bitrateAvg": self.bitrate_avg, "bitrateLatest": self.bitrate_latest}
        if self._track.is_video:
            rates |= {
                "framerateAvg": self.framerate_avg,
                "framerateLatest": self.framerate_latest,
                "keyFrameIntervalAvg": self.key_frame_interval_avg,
                "keyFrameIntervalLatest": self.key_frame_interval_latest,
                "deltaFramesSinceLastKeyFrame": self.delta_frames_since_last_key_frame,
            }
        return rates
