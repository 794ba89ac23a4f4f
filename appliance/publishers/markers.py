"""Breaks and splice points as playlists tell them: the next boundary at or behind their time carries the tags."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from appliance.media.clock import NANOSECONDS
from appliance.media.events import Cue, CueType, EventPacket, Splice
from appliance.protocols import hls
from appliance.protocols.mpegts.muxer import CLOCK
from appliance.protocols.scte35 import splice_insert

#: What nobody fetched a boundary for; more at once are an accident.
MOST_WAITING = 64
MOST_BREAKS = 64


@dataclass(frozen=True, slots=True)
class _Break:
    """A splice out that is not back in yet: how its date range was named and when it began (ns since 1970)."""

    name: str
    date: int


class Markers:
    """Those of one stream. ``add`` takes cues and splices, ``at`` gives the tags of a boundary.

    While a cue is out, each further boundary says for how long (EXT-X-CUE-OUT-CONT), until it is in or its duration is
    over.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[tuple[float, Cue | Splice]] = deque()
        self._out: tuple[float, float] | None = None
        self._breaks: dict[int, _Break] = {}

    def add(self, packet: EventPacket) -> None:
        """Nothing happens for events of other kinds."""
        event = packet.event
        if not isinstance(event, Cue | Splice):
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        time = float("-inf") if packet.urgent else packet.pts / packet.track.timescale
        self._waiting.append((time, event))

    def due(self, time: float) -> bool:
        """Whether a boundary at ``time`` (seconds of the stream) would carry one of those that wait."""
        return any(when <= time for when, _ in self._waiting)

    def at(self, time: float, wall_offset: int, msn: int) -> str:
        """The tags of the boundary at ``time`` seconds; ``wall_offset`` is the date of time zero (ns since 1970)."""
        if self._out is None and not self._waiting:
            return ""
        text = ""
        told = False
        date = wall_offset + int(time * NANOSECONDS)
        for entry in [entry for entry in self._waiting if entry[0] <= time]:
            self._waiting.remove(entry)
            event = entry[1]
            if isinstance(event, Splice):
                text += self._splice(event, time, date, msn)
            else:
                told = True
                text += self._cue(event, time)
        return text if told else text + self._going_on(time)

    def _cue(self, event: Cue, time: float) -> str:
        if event.type is CueType.OUT:
            self._out = time, event.duration / 1000
            return hls.cue_out(event.duration / 1000)
        if event.type is CueType.IN:
            self._out = None
            return hls.cue_in()
        if self._out is None:
            self._out = time, event.duration / 1000
        return self._going_on(time)

    def _going_on(self, time: float) -> str:
        if self._out is None:
            return ""
        began, duration = self._out
        if duration and time - began >= duration:
            self._out = None
            return ""
        return hls.cue_out_cont(time - began, duration)

    def _splice(self, event: Splice, time: float, date: int, msn: int) -> str:
        section = splice_insert(
            event.id, int(time * CLOCK), out=event.out, duration=event.duration * CLOCK // 1000,
            auto_return=event.auto_return,
        )  # fmt: skip
        if event.out:
            begun = _Break(f"splice-{event.id}-{msn}", date)
            self._breaks.pop(event.id, None)
            if len(self._breaks) >= MOST_BREAKS:
                del self._breaks[next(iter(self._breaks))]
            self._breaks[event.id] = begun
            return hls.splice_out(begun.name, hls.date_time(date), event.duration / 1000, section)
        ended = self._breaks.pop(event.id, None) or _Break(f"splice-{event.id}-{msn}", date)
        return hls.splice_in(ended.name, hls.date_time(ended.date), (date - ended.date) / NANOSECONDS, section)
