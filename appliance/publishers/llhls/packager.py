"""One stream into segments that begin at the same moments, under the same numbers, in every track. Sans-IO."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from appliance.media.events import EVENT_TRACK, Event, EventPacket, Target, TimedMetadata
from appliance.media.packet import Packet
from appliance.publishers.llhls.tracks import TrackPackager
from appliance.publishers.llhls.window import Boundary
from appliance.publishers.markers import Markers

log = logging.getLogger("kiln.llhls")

#: A segment may be so much longer than the target duration: EXTINF is rounded, and audio may run over by one frame.
OVERRUN = 0.35
#: Times of the source may jitter by so much before a duration counts as the next whole second.
ROUNDING = 0.05
#: A first group of pictures that is longer is cut, in seconds.
LONGEST_FIRST_GOP = 20.0
#: Seconds of media after which the others go on without a track that gives none.
PATIENCE = 4.0
#: The same before the leader has given anything: an encoder may take its time to start.
START_PATIENCE = 10.0
#: A new codec configuration may come so much before the boundary that another track's brings, in seconds.
EARLY_CHANGE = 0.1
#: What happens in two tracks within this time happens at once, in seconds.
SAME_MOMENT = 0.25


class Packager:
    """Takes the packets of a stream in the order they come.

    The leading track (the first video track, else the first audio track) decides where segments begin: at its key
    frames. The others wait until it has passed their time, so that they cut there too. A track that gives nothing
    while the others go on for ``PATIENCE`` gets gaps instead of segments until it is back; when that is the leader,
    another one leads so long.

    ``segment_duration`` in seconds; ``number`` gives the next media sequence number; ``wall_offset`` the nanosecond
    since 1970 of timestamp zero, asked at each boundary; ``on_target`` is told the target duration (seconds), once.

    Events come in the same order: timed metadata goes into the parts, cues and splices begin a segment at the next key
    frame, ``on_event`` is told all others.
    """

    def __init__(
        self,
        label: str,
        tracks: Sequence[TrackPackager],
        segment_duration: float,
        *,
        number: Callable[[], int],
        wall_offset: Callable[[], int],
        on_target: Callable[[int], None],
        on_discontinuity: Callable[[], None],
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.label = label
        self.tracks = {track.id: track for track in tracks}
        self.segment_duration = segment_duration
        self.target_duration = 0
        self.long_gops = 0
        self.departures = 0
        self.dropped = 0
        self._number = number
        self._wall_offset = wall_offset
        self._on_target = on_target
        self._on_discontinuity = on_discontinuity
        self._on_event = on_event
        self._markers = Markers()
        self._discontinuities = 0
        self._preferred = self._leader = min(tracks, key=lambda track: not track.video)
        self._gop_start = 0
        self._gop = 0
        self._delay = 0
        self._discontinuity_wanted = False
        self._long_gop_logged = False

    def push(self, packet: Packet) -> None:
        track = self.tracks.get(packet.track.id)
        if track is None:
            if packet.track is EVENT_TRACK and isinstance(packet, EventPacket):
                self._happen(packet)
            return
        if packet.track is not track.track and not track.takes(packet.track):
            self._drop(track, "no codec configuration")
            return
        track.silence = 0.0
        held = track.held
        if held is not None:
            track.held = None
            self._take(track, held, track.duration_of(held, packet))
        if packet.duration:
            self._take(track, packet, track.duration_of(packet, None))
        else:
            track.held = packet

    def _happen(self, packet: EventPacket) -> None:
        event = packet.event
        if isinstance(event, TimedMetadata):
            for track in self.tracks.values():
                if packet.target is Target.EVENT or (packet.target is Target.VIDEO) == track.video:
                    track.announce(packet)
        else:
            self._markers.add(packet)
            self._on_event(event)

    def finish(self) -> None:
        """The stream is over: everything that was taken becomes whole segments."""
        for track in sorted(self.tracks.values(), key=lambda track: track is not self._leader):
            if track.held is not None:
                held, track.held = track.held, None
                self._take(track, held, track.duration_of(held, None))
        leader = self._leader
        if leader.end is not None:
            waiting = [track.waiting[-1][0] for track in self.tracks.values() if track.waiting and not track.absent]
            for packet in waiting:
                self._bridge(leader, packet.dts * leader.timescale // packet.track.timescale)
            for track in self.tracks.values():
                while track.waiting and not track.absent:
                    self._follow(track, *track.waiting.popleft())
        self._fix_target(max(self.segment_duration, *map(_last_length, self.tracks.values())))
        for track in self.tracks.values():
            track.finish_segment()

    @property
    def complete(self) -> bool:
        """Every track has given a part, or is not waited for."""
        return all(track.window.started or track.absent for track in self.tracks.values())

    @property
    def due(self) -> float:
        """Time of the stream in seconds before which nothing can be published; 0.0 while that can't be told."""
        if not self.target_duration:
            return 0.0
        return min((track.due for track in self.tracks.values() if not track.absent), default=0.0)

    # Who may go on, and how far.

    def _take(self, track: TrackPackager, packet: Packet, duration: int) -> None:
        if track is self._leader:
            self._lead(track, packet, duration)
        elif track.absent:
            self._return(track, packet, duration)
        else:
            track.waiting.append((packet, duration))
            self._drain(track)
            if len(track.waiting) % 8 == 7:
                patience = START_PATIENCE if self._leader.end is None else PATIENCE
                if _seconds_waiting(track) > patience:
                    self._replace_leader()

    def _drain(self, track: TrackPackager) -> None:
        """What of ``track`` lies before the time that the leader has reached."""
        leader = self._leader
        passed, scale = leader.end, leader.timescale
        waiting = track.waiting
        while waiting and passed is not None:
            packet, duration = waiting[0]
            # A key frame may start a segment: where it is shown, not where it is decoded, decides.
            time = packet.pts + duration // 2 if track.video and packet.keyframe else packet.dts
            if time * scale >= passed * packet.track.timescale:
                return
            waiting.popleft()
            self._follow(track, packet, duration)

    def _lead(self, track: TrackPackager, packet: Packet, duration: int) -> None:
        if track.track is None and not self._begin(track, packet):
            return
        key = packet.keyframe or not track.video
        changed = packet.track is not track.track
        if changed and not key:
            self._drop(track, "no key frame at a new codec configuration")
            return
        jumped = track.end is not None and (changed or track.jumps(packet))
        paused = jumped and self._all_paused(track, packet)
        if jumped and not paused:
            self._bridge(track, packet.dts * track.timescale // packet.track.timescale)
        if key and track.video:
            self._learn_gop(track, packet.dts)
        if changed or (key and self._discontinuity_wanted):
            self._cut(track, packet, discontinuity=track.track is not None, independent=True)
        elif paused:
            self._cut(track, packet, discontinuity=True, independent=key)
        elif track.window.current is None:
            self._cut(track, packet, discontinuity=False, independent=key)
        elif key and (self._is_full(track, packet.dts, duration) or self._markers.due(packet.pts / track.timescale)):
            self._cut(track, packet, discontinuity=False, independent=True)
        elif self._overruns(track, packet.dts, duration):
            self._long_gop()
            self._cut(track, packet, discontinuity=False, independent=key)
        track.add(packet, duration, ends=self._expects_cut(track, packet.dts + duration))
        seconds = duration / track.timescale
        for other in self.tracks.values():
            if other is track:
                continue
            if other.waiting:
                self._drain(other)
            other.silence += seconds
            if other.silence > PATIENCE and not other.absent and not other.waiting:
                self._leave(other)

    def _all_paused(self, leader: TrackPackager, packet: Packet) -> bool:
        """Whether no track has anything in the time that the leader has jumped over."""
        scale = packet.track.timescale
        begin, end = (leader.end or 0) / scale + SAME_MOMENT, packet.dts / scale - SAME_MOMENT
        for track in self.tracks.values():
            if track is leader or track.absent:
                continue
            waiting = [one for one, _ in track.waiting]
            if track.held is not None:
                waiting.append(track.held)
            if any(begin < one.dts / one.track.timescale < end for one in waiting):
                return False
        return True

    def _begin(self, track: TrackPackager, packet: Packet) -> bool:
        """The very first sample of the leader: a key frame, or it is dropped."""
        if track.video and not packet.keyframe:
            self._drop(track, "no key frame yet")
            return False
        self._gop_start = packet.dts
        negative = packet.dts < 0 or any(one.has_b_frames for one in self.tracks.values())
        if negative and packet.dts < track.timescale:
            # A fragment can't say a time below zero: everything is a second later in the fragments.
            for one in self.tracks.values():
                one.shift = one.timescale
        if not track.video:
            self._fix_target(self.segment_duration)
        return True

    # Where segments begin.

    def _learn_gop(self, track: TrackPackager, dts: int) -> None:
        gop = dts - self._gop_start
        self._gop_start = dts
        if gop <= 0:
            return
        self._gop = gop
        if not self.target_duration:
            self._fix_target(max(self.segment_duration, gop / track.timescale))

    def _fix_target(self, longest: float) -> None:
        if self.target_duration:
            return
        self.target_duration = max(1, math.ceil(longest - ROUNDING))
        self._on_target(self.target_duration)

    def _is_full(self, track: TrackPackager, dts: int, duration: int) -> bool:
        length = track.segment_length(dts)
        if length + duration / 2 >= self.segment_duration * track.timescale:
            return True
        # Better a short segment than one that the next group of pictures makes longer than the target duration.
        longest = (self.target_duration + OVERRUN) * track.timescale
        return track.video and self.target_duration > 0 and length + self._gop > longest

    def _overruns(self, track: TrackPackager, dts: int, duration: int) -> bool:
        longest = self.target_duration + OVERRUN if self.target_duration else LONGEST_FIRST_GOP
        longest = max(longest, self.segment_duration)
        length = track.segment_length(dts)
        if length + duration <= longest * track.timescale:
            return False
        if not self.target_duration:
            self._fix_target(max(longest, length / track.timescale))
        return True

    def _expects_cut(self, track: TrackPackager, end: int) -> bool:
        """Whether the sample after ``end`` will probably begin a segment: groups of pictures tend to be equal."""
        if not track.video:
            return False
        if not self._gop or end - self._gop_start < self._gop - track.nominal // 2:
            return False
        length = track.segment_length(end)
        scale = track.timescale
        return length + track.nominal // 2 >= self.segment_duration * scale or (
            length + self._gop > (self.target_duration + OVERRUN) * scale
        )

    def _cut(self, track: TrackPackager, packet: Packet, *, discontinuity: bool, independent: bool) -> None:
        if track.window.current is not None:
            self._fix_target(max(self.segment_duration, track.segment_length(packet.dts) / track.timescale))
        if discontinuity:
            self._discontinuities += 1
            self._on_discontinuity()
            self._discontinuity_wanted = False
        if packet.keyframe:
            self._delay = packet.pts - packet.dts
        # Without a key frame the moment is where one would be shown: other frames are shown in another order.
        time = packet.dts + self._delay
        number, wall_offset = self._number(), self._wall_offset()
        tags = self._markers.at(time / packet.track.timescale, wall_offset, number)
        boundary = Boundary(
            number, time, packet.track.timescale, discontinuity, self._discontinuities, independent, wall_offset, tags
        )
        for other in self.tracks.values():
            if other is not track:
                self._announce(other, boundary)
        if track.pending:
            self._interrupt(track)
            track.pending.append(boundary)
            self._fill_gaps(track)
            track.pending.clear()
        track.cut(boundary, packet)

    def _bridge(self, track: TrackPackager, dts: int) -> None:
        """The leader stood still until ``dts`` while others went on: these get the boundaries it would have given."""
        scale = track.timescale
        step = int(self.segment_duration * scale)
        while self.target_duration and dts - track.segment_start > (self.target_duration + OVERRUN) * scale:
            rest = dts - track.segment_start
            start = track.segment_start + (step if rest * 2 > step * 3 else rest // 2)
            boundary = Boundary(
                self._number(), start + self._delay, scale, False, self._discontinuities, False, self._wall_offset()
            )
            for other in self.tracks.values():
                if other is not track:
                    self._announce(other, boundary)
            self._interrupt(track)
            track.pending.append(boundary)
            self._fill_gaps(track)
            track.segment_start = start

    def _announce(self, track: TrackPackager, boundary: Boundary) -> None:
        track.pending.append(boundary)
        if track.absent:
            self._fill_gaps(track)
            self._rejoin(track, boundary)

    def _follow(self, track: TrackPackager, packet: Packet, duration: int) -> None:
        changed = track.track is not None and packet.track is not track.track
        if changed and not self._may_change(track, packet):
            self._drop(track, "a new codec configuration waits for the next segment")
            return
        pending = track.pending
        early = changed or (track.jumps(packet) and self._discontinuity_soon(track, packet))
        if pending and (early or self._reached(track, packet, duration)):
            self._join(track, packet, early)
        elif track.window.current is None:
            # Not begun, or back from an absence: what lies before its boundary has no place.
            self.dropped += 1
            return
        if track.window.current is None:
            return
        end = packet.dts + duration
        ends = bool(pending) and (end + duration // 2) * pending[0].timescale > pending[0].time * packet.track.timescale
        track.add(packet, duration, ends=ends)

    def _reached(self, track: TrackPackager, packet: Packet, duration: int) -> bool:
        """Whether ``packet`` belongs to the segment of the next boundary."""
        pending = track.pending
        scale = packet.track.timescale
        # Key frames of two encodes of one picture may be rounded differently.
        early = duration // 2 if track.video else 0
        if (packet.pts + early) * pending[0].timescale < pending[0].time * scale:
            return False
        if not track.video or packet.keyframe:
            return True
        if track.window.current is None:
            return False
        if not pending[0].independent:
            return True
        if len(pending) > 1 and packet.pts * pending[1].timescale >= pending[1].time * scale:
            return True
        return self._overruns(track, packet.dts, duration)

    def _join(self, track: TrackPackager, packet: Packet, early: bool) -> None:
        """Begin the segment that ``packet`` belongs to; segments that it left empty become gaps.

        ``early``: it begins that of the next discontinuity, which is near.
        """
        pending = track.pending
        scale = packet.track.timescale
        boundary = pending.popleft()
        begun = track.track is not None
        empty = track.finish_segment()
        if empty is not None and empty is not boundary:
            track.window.skip(empty, empty.seconds_until(boundary))
        wanted = early and not boundary.discontinuity
        while pending and (wanted or packet.pts * pending[0].timescale >= pending[0].time * scale):
            if begun:
                track.window.skip(boundary, boundary.seconds_until(pending[0]))
            boundary = pending.popleft()
            wanted = wanted and not boundary.discontinuity
        if track.video and not packet.keyframe and boundary.independent:
            self._long_gop()
        track.cut(boundary, packet)

    def _may_change(self, track: TrackPackager, packet: Packet) -> bool:
        """A new codec configuration of a follower needs a boundary with a discontinuity, the same in all tracks."""
        if track.video and not packet.keyframe:
            return False
        if self._discontinuity_soon(track, packet):
            return True
        current = track.window.current
        if current is not None and current.boundary.discontinuity and not current.parts:
            # The others changed a moment ago: what this track still had of the old kind gives way.
            self.dropped += track.forget_segment()
            track.pending.appendleft(current.boundary)
            return True
        if not any(boundary.discontinuity for boundary in track.pending):
            self._discontinuity_wanted = True
        return False

    def _discontinuity_soon(self, track: TrackPackager, packet: Packet) -> bool:
        soon = packet.pts / packet.track.timescale + EARLY_CHANGE
        return any(one.discontinuity and one.time / one.timescale <= soon for one in track.pending)

    # Tracks that stay away.

    def _replace_leader(self) -> None:
        """The leader gives nothing while others wait: the best of these leads."""
        old = self._leader
        candidates = [track for track in self.tracks.values() if track.waiting]
        new = max(candidates, key=lambda track: (track.video, len(track.waiting)))
        log.warning("leader gives nothing, another leads stream=%s track=%d leader=%d", self.label, old.id, new.id)
        self.departures += 1
        self._leader = new
        self._gop = 0
        if new.video:
            self._gop_start = new.waiting[0][0].dts
        self._depart(old)
        backlog = list(new.waiting)
        new.waiting.clear()
        for packet, duration in backlog:
            if new.pending and new.track is packet.track and self._reached(new, packet, duration):
                self._join(new, packet, False)
            self._lead(new, packet, duration)

    def _leave(self, track: TrackPackager) -> None:
        log.warning("track gives nothing, the others go on stream=%s track=%d", self.label, track.id)
        self.departures += 1
        self._depart(track)

    def _depart(self, track: TrackPackager) -> None:
        held, track.held = track.held, None
        if held is not None and held.track is track.track and track.window.current is not None:
            track.add(held, track.duration_of(held, None))
        track.absent = True
        track.waiting.clear()
        self._interrupt(track)
        self._fill_gaps(track)

    def _interrupt(self, track: TrackPackager) -> None:
        """Nothing more comes for the open segment; when it got nothing at all it is a gap too."""
        empty = track.finish_segment()
        if empty is not None:
            track.pending.appendleft(empty)

    def _fill_gaps(self, track: TrackPackager) -> None:
        """Every interval that is over and in which ``track`` had nothing is a gap; the last boundary stays pending."""
        pending = track.pending
        if len(pending) > 1 and track.window.current is not None:
            self._interrupt(track)
        while len(pending) > 1:
            boundary = pending.popleft()
            if track.track is not None:
                track.window.skip(boundary, boundary.seconds_until(pending[0]))

    def _return(self, track: TrackPackager, packet: Packet, duration: int) -> None:
        if track is not self._preferred:
            # It rejoins at the next boundary; until then the newest samples wait.
            track.waiting.append((packet, duration))
            while _seconds_waiting(track) > PATIENCE:
                track.waiting.popleft()
                self.dropped += 1
        elif track.video and not packet.keyframe:
            self.dropped += 1
        else:
            self._lead_again(track, packet, duration)

    def _lead_again(self, track: TrackPackager, packet: Packet, duration: int) -> None:
        log.info("track is back and leads again stream=%s track=%d", self.label, track.id)
        acting, self._leader = self._leader, track
        acting.waiting.clear()
        track.absent = False
        self._gop_start = packet.dts
        self._gop = 0
        if acting.track is None:
            self._lead(track, packet, duration)
            return
        changed = track.track is not None and packet.track is not track.track
        track.segment_start = acting.segment_start * packet.track.timescale // acting.timescale
        self._bridge(track, packet.dts)
        self._cut(track, packet, discontinuity=changed, independent=True)
        track.add(packet, duration)

    def _rejoin(self, track: TrackPackager, boundary: Boundary) -> None:
        if not track.waiting:
            return
        log.info("track is back stream=%s track=%d msn=%d", self.label, track.id, boundary.msn)
        track.absent = False

    def _drop(self, track: TrackPackager, reason: str) -> None:
        self.dropped += 1
        if not track.dropped:
            log.warning("samples dropped stream=%s track=%d reason=%s", self.label, track.id, reason)
        track.dropped += 1

    def _long_gop(self) -> None:
        self.long_gops += 1
        if not self._long_gop_logged:
            self._long_gop_logged = True
            log.warning(
                "key frames further apart than the target duration, cut without one stream=%s target_duration=%d",
                self.label, self.target_duration,
            )  # fmt: skip


def _last_length(track: TrackPackager) -> float:
    return 0.0 if track.end is None else track.segment_length(track.end) / track.timescale


def _seconds_waiting(track: TrackPackager) -> float:
    return sum(duration for _, duration in track.waiting) / track.timescale
