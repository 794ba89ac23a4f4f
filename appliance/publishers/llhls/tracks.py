"""One track on its way into parts: samples in, fragments out. Sans-IO."""

from __future__ import annotations

import math
from collections import deque

from appliance.media.events import EventPacket
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.protocols.fmp4 import KEY_SAMPLE, OTHER_SAMPLE, SUPPORTED_CODECS, fragment, id3_message
from appliance.publishers.llhls.window import Boundary, TrackWindow

#: Codecs whose samples say everything: there may be no configuration.
_SELF_CONTAINED = frozenset({Codec.OPUS, Codec.VP9})
#: A part other than the last of its segment is at least this share of the part target (draft 4.4.4.9).
SHORTEST_PART = 0.85
#: Room in the part target, in seconds, for a source whose times are whole milliseconds.
ROUNDED_TIMES = 0.002
#: Room in it, as a factor, for a source whose frames last as long as they like.
UNEVEN_FRAMES = 1.05
#: Before the part target is known a sample is taken to last no longer than so many of the wished ones.
LONGEST_FIRST_SAMPLE = 4
#: Timed metadata that waits for its part.
MOST_EVENTS = 256

_TEMPORAL_DELIMITER = b"\x12\x00"


class TrackPackager:
    """Gathers samples of one track into parts and writes these into its window.

    ``part_seconds`` is the wished part duration. The part target is fixed when the first part closes, from the frames
    really seen: a whole number of them. Times are ticks of the track's timescale; ``shift`` seconds are added to all
    times in the fragments, which can't say a time below zero.
    """

    def __init__(self, track: Track, window: TrackWindow, part_seconds: float) -> None:
        self.id = track.id
        self.window = window
        self.video = track.is_video
        self.track: Track | None = None
        self.timescale = track.timescale
        self.held: Packet | None = None
        self.waiting: deque[tuple[Packet, int]] = deque()
        self.pending: deque[Boundary] = deque()
        self.absent = False
        #: Seconds of media that others gave since this track gave any.
        self.silence = 0.0
        self.has_b_frames = track.has_b_frames
        self.shift = 0
        #: The end of what has been taken, in ticks; None before the first sample.
        self.end: int | None = None
        self.nominal = 0
        self.holes = 0
        self.dropped = 0
        self.closed_ticks = 0
        self.segment_start = 0
        self._part_seconds = part_seconds
        self._target = 0
        self._limit = 0
        self._run: list[int] = []
        self._payloads: list[bytes | memoryview] = []
        self._start = 0
        self._part_end = 0
        self._independent = False
        self._sequence = 0
        self._strips_delimiter = track.codec is Codec.AV1
        self._events: deque[EventPacket] = deque(maxlen=MOST_EVENTS)
        self._event_count = 0

    @property
    def due(self) -> float:
        """Decoding time in seconds before which no packet can close a part; 0.0 while that can't be told."""
        if not self._target or self.end is None:
            return 0.0
        start = self._start if self._payloads else self.end
        # A packet closes the part with the sample before it, or with itself where its duration is known.
        return (start + self._limit - 2.5 * self.nominal) / self.timescale

    def segment_length(self, dts: int) -> int:
        """Ticks from the start of the open segment to a sample at ``dts``: its media, with holes."""
        media = self.closed_ticks + (self._part_end - self._start if self._payloads else 0)
        return max(media, dts - self.segment_start)

    def takes(self, track: Track) -> bool:
        """Whether ``track`` can be packaged as it is."""
        return track.codec in SUPPORTED_CODECS and bool(track.codec_config or track.codec in _SELF_CONTAINED)

    def jumps(self, packet: Packet) -> bool:
        """Whether more than a part's time is missing before ``packet``."""
        return self.end is not None and packet.track is self.track and packet.dts - self.end > self._limit

    def duration_of(self, packet: Packet, following: Packet | None) -> int:
        """Ticks that ``packet`` lasts: until the next one, but never longer than a part may be.

        Longer silence is a hole in the time line, not a very long frame.
        """
        if following is not None and following.track.timescale == packet.track.timescale:
            duration = following.dts - packet.dts
        else:
            duration = packet.duration or self.nominal
        if duration <= 0:
            duration = self.nominal or 1
        longest = self._limit
        if not self._target:
            longest = int(LONGEST_FIRST_SAMPLE * self._part_seconds * packet.track.timescale)
        if duration > longest:
            if duration > longest + self.nominal:
                self.holes += 1
            duration = longest
        return duration

    def announce(self, packet: EventPacket) -> None:
        """Timed metadata: it goes into the part of its time, or into the next one when that is gone or it is urgent."""
        self._events.append(packet)

    def cut(self, boundary: Boundary, packet: Packet) -> None:
        """End the segment and begin that of ``boundary`` with ``packet``."""
        empty = self.finish_segment()
        if empty is not None and empty is not boundary:
            self.window.skip(empty, empty.seconds_until(boundary))
        track = packet.track
        if track is not self.track:
            self._adopt(track)
        self.segment_start = packet.dts
        self.window.open(boundary, packet.pts, track.timescale)

    def finish_segment(self) -> Boundary | None:
        """Make a whole segment of what is there. Returns the boundary of a segment that was open and got nothing."""
        if self._payloads:
            self._close_part(ends=True)
        self.closed_ticks = 0
        return self.window.close()

    def forget_segment(self) -> int:
        """Drop the samples of the open segment, of which no part is out yet. Returns their number."""
        lost = len(self._payloads)
        self._run = []
        self._payloads = []
        return lost

    def add(self, packet: Packet, duration: int, *, ends: bool = False) -> None:
        """Take one sample. ``ends``: a segment boundary is expected right behind it."""
        dts = packet.dts
        if self._payloads:
            if dts != self._part_end:
                dts = self._mend(dts)
            if self._payloads and dts + duration - self._start > self._limit:
                length = dts - self._start
                if length >= SHORTEST_PART * self._limit:
                    self._close_part(ends=False)
                else:
                    # Too long for the rest of this part, which is too short to end here: a hole rather than that.
                    duration = self._limit - length
        if not self._payloads:
            self._start = dts
            self._independent = packet.keyframe or not self.video
            if not self._target:
                self._guess(duration)
            duration = min(duration, self._limit)
        payload: bytes | memoryview = packet.payload
        if self._strips_delimiter and packet.payload[:2] == _TEMPORAL_DELIMITER:
            payload = memoryview(packet.payload)[2:]
        if self.video:
            self._run += (duration, len(payload), KEY_SAMPLE if packet.keyframe else OTHER_SAMPLE, packet.pts - dts)
        else:
            self._run += (duration, len(payload))
        self._payloads.append(payload)
        self.end = self._part_end = end = dts + duration
        length = end - self._start
        if length + self.nominal > self._limit and (not self._target or length >= SHORTEST_PART * self._limit):
            self._close_part(ends=ends)

    def _adopt(self, track: Track) -> None:
        self.window.use(track)
        if track.timescale != self.timescale:
            factor = track.timescale / self.timescale
            self.shift = round(self.shift * factor)
            self._target = int(self._target * factor)
            self._limit = int(self._limit * factor)
            self.nominal = round(self.nominal * factor)
            self.timescale = track.timescale
        self.track = track
        self._strips_delimiter = track.codec is Codec.AV1

    def _guess(self, duration: int) -> None:
        """Before the first part: so many frames of this duration as come nearest to the wished part."""
        self.nominal = duration
        self._limit = max(duration, math.ceil(self._part_seconds * self.timescale + duration / 2) - 1)

    def _mend(self, dts: int) -> int:
        """The times of the source don't join: lengthen or shorten the last sample. Returns the dts to use."""
        step = 4 if self.video else 2
        mended = self._run[-step] + dts - self._part_end
        if mended <= 0:
            return self._part_end
        # The last picture stands as long as the part may last; what is missing beyond that is a hole.
        until = min(dts, self._start + self._limit)
        self._run[-step] += until - self._part_end
        self._part_end = self.end = until
        if until < dts:
            self._close_part(ends=False)
        return dts

    def _close_part(self, *, ends: bool) -> None:
        length = self._part_end - self._start
        if not self._target:
            self._fix_target(length)
        self._sequence += 1
        start = self._start + self.shift
        events = self._messages() if self._events else b""
        payload = fragment(self._sequence, start, self._run, self._payloads, video=self.video, events=events)
        self._run = []
        self._payloads = []
        self.closed_ticks += length
        self.window.add(payload, length / self.timescale, self._independent, ends=ends)

    def _messages(self) -> bytes:
        """Event messages of what belongs before the end of this part, none earlier than its start."""
        scale, start, end = self.timescale, self._start, self._part_end
        boxes = b""
        later: list[EventPacket] = []
        for packet in self._events:
            time = packet.pts * scale // packet.track.timescale
            if time >= end and not packet.urgent:
                later.append(packet)
                continue
            self._event_count += 1
            boxes += id3_message(
                scale, min(max(time, start), end - 1) + self.shift, self._event_count, packet.payload
            )
        self._events = deque(later, maxlen=MOST_EVENTS)
        return boxes

    def _fix_target(self, length: int) -> None:
        durations = self._run[:: 4 if self.video else 2]
        mean = length / len(durations)
        frames = max(1, round(self._part_seconds * self.timescale / mean))
        target = math.ceil(frames * mean)
        jitter = max(durations) - min(durations)
        if len(durations) == 1 or jitter > ROUNDED_TIMES * self.timescale:
            target = math.ceil(target * UNEVEN_FRAMES)
        elif jitter > 1:
            target += max(1, int(ROUNDED_TIMES * self.timescale))
        self._target = self._limit = max(target, length)
        self.nominal = max(1, int(mean))
        self.window.frame_rate = self.timescale / mean
        # Rounded up, as it is printed: no part may be longer.
        self.window.part_target = -(-self._target * 1_000_000 // self.timescale) / 1_000_000
