"""What goes out in place of a track: frames of the slate or of silence, one behind the other in the stream's time."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

import msgspec

from appliance.engine.slate_silence import silence
from appliance.media.clock import NANOSECONDS
from appliance.media.timeline import Timeline
from appliance.media.track import Track
from appliance.transcoder.fault_slate import Slate
from appliance.transcoder.spec import frame_rate_fraction

#: Where no slate can be had, the last key frame is shown again so many times a second.
STILL_RATE = 4


class Put(Protocol):
    """One packet of the slate: track, DTS (which is its PTS), duration, key frame, payload."""

    def __call__(self, track: Track, time: int, duration: int, keyframe: bool, payload: bytes) -> None: ...


class Fill(Protocol):
    """``end_ns``: the stream time at which the next packet ends."""

    @property
    def end_ns(self) -> int: ...
    def emit(self, put: Put) -> None:
        """Give out the next packet."""


class _Steps:
    """Times of a steady rate from ``begin`` on, in ticks."""

    def __init__(self, track: Track, timeline: Timeline, begin_ns: int, period: Fraction) -> None:
        self.track = track
        self.period = period
        self._timeline = timeline
        own = timeline.end(track)
        behind = -(-begin_ns * track.timescale // NANOSECONDS)
        # A track goes on where it ends itself, unless that is long ago.
        self._base = own if 0 <= (behind - own) <= track.timescale * 4 and own else behind
        self._step = 0

    @property
    def end_ns(self) -> int:
        return self._at(self._step + 1) * NANOSECONDS // self.track.timescale

    def _at(self, step: int) -> int:
        return self._base + int(step * self.period)

    def take(self) -> tuple[int, int]:
        """The next time and duration."""
        time = self._at(self._step)
        self._step += 1
        duration = self._at(self._step) - time
        return self._timeline.place(self.track, time, duration), duration


class SilenceFill:
    """Silence in the place of ``track``. ``of`` is None for codecs that have no silence."""

    def __init__(self, track: Track, timeline: Timeline, begin_ns: int, payload: bytes, duration: int) -> None:
        self._payload = payload
        self._steps = _Steps(track, timeline, begin_ns, Fraction(duration))

    @classmethod
    def of(cls, track: Track, timeline: Timeline, begin_ns: int) -> SilenceFill | None:
        made = silence(track)
        return None if made is None else cls(track, timeline, begin_ns, *made)

    @property
    def end_ns(self) -> int:
        return self._steps.end_ns

    def emit(self, put: Put) -> None:
        time, duration = self._steps.take()
        put(self._steps.track, time, duration, True, self._payload)


class PictureFill:
    """The loop of ``slate`` that says ``text``, in the place of ``track``; another text begins with the next loop."""

    def __init__(self, track: Track, timeline: Timeline, begin_ns: int, slate: Slate, rate: float, text: str) -> None:
        self.track = slate_track(track, slate)
        self.text = text
        self._slate = slate
        self._loop = slate.loops[text]
        self._position = 0
        self._steps = _Steps(self.track, timeline, begin_ns, track.timescale / frame_rate_fraction(rate))

    @property
    def end_ns(self) -> int:
        return self._steps.end_ns

    def emit(self, put: Put) -> None:
        if self._position == 0:
            self._loop = self._slate.loops[self.text]
        time, duration = self._steps.take()
        put(self.track, time, duration, self._position == 0, self._loop[self._position])
        self._position = (self._position + 1) % len(self._loop)


class StillFill:
    """The last key frame again and again: for codecs without a slate, and until the slate is there."""

    def __init__(self, track: Track, timeline: Timeline, begin_ns: int, payload: bytes) -> None:
        self._payload = payload
        self._steps = _Steps(track, timeline, begin_ns, Fraction(track.timescale, STILL_RATE))

    @property
    def end_ns(self) -> int:
        return self._steps.end_ns

    def emit(self, put: Put) -> None:
        time, duration = self._steps.take()
        put(self._steps.track, time, duration, True, self._payload)


def slate_track(track: Track, slate: Slate) -> Track:
    """The next generation of ``track``, with the configuration of its slate."""
    return msgspec.structs.replace(
        track, generation=track.generation + 1, codec_config=slate.codec_config,
        codec_string=slate.codec_string or track.codec_string, has_b_frames=False,
    )  # fmt: skip
