"""Frame times: from an input's own, through a steady grid, to each rendition's frame rate and key frames.

All times are ticks of 90 kHz on the stream's timeline. The grid of an input starts at the phase of its first frame, so
renditions of any frame rate put their key frames on the same ticks: ``phase + k x interval``.
"""

from __future__ import annotations

from fractions import Fraction

from appliance.transcoder.spec import VIDEO_TIMESCALE, RenditionSpec

#: How far (in frames) a frame may stray from the next slot of the grid before it counts as early or late.
STRAY = 0.75
#: A rendition takes the frame that is at most this much (in its frames) before the middle between two slots.
_HALF = Fraction(49, 100)
#: Gaps up to this long are filled with the picture before them (wire catalogue 8.5: at most 100 frames).
FILL_SECONDS = 1
FILL_FRAMES = 100


class InputGrid:
    """Snaps jittering frame times of one input to its steady frame rate."""

    def __init__(self, rate: Fraction, phase: int) -> None:
        self.rate = rate
        self.phase = phase
        self._slot: int | None = None

    def snap(self, time: int) -> int | None:
        """The steady time of the frame at ``time``, or None for a frame too many (faster than the rate)."""
        position = (time - self.phase) * self.rate / VIDEO_TIMESCALE
        slot = round(position)
        if self._slot is not None:
            following = self._slot + 1
            if abs(position - following) < STRAY:
                slot = following
            elif slot <= self._slot:
                return None
        self._slot = slot
        return self.phase + round(slot * VIDEO_TIMESCALE / self.rate)


class FrameSlots:
    """The slots of one rendition: which frames it takes, at what time, and which are key frames."""

    def __init__(self, rate: Fraction, interval: Fraction, phase: int) -> None:
        self.rate = rate
        self.phase = phase
        self.duration = round(VIDEO_TIMESCALE / rate)
        self.last: int | None = None
        self._tick_numerator = VIDEO_TIMESCALE * rate.denominator
        self._numerator = rate.numerator
        # Slot s lies in key-frame interval s * a // b.
        frames = rate * interval
        self._interval_a = frames.denominator
        self._interval_b = frames.numerator
        self._half = round(_HALF * self._tick_numerator)
        self._key_index: int | None = None

    def slot_at(self, time: int) -> int:
        """The slot that a frame at ``time`` belongs to."""
        return ((time - self.phase) * self._numerator + self._half) // self._tick_numerator

    def first_slot_from(self, time: int) -> int:
        """The first slot whose time is ``time`` or later (a tick before counts)."""
        return -(-((time - self.phase - 1) * self._numerator) // self._tick_numerator)

    def time_of(self, slot: int) -> int:
        ticks = slot * self._tick_numerator
        return self.phase + (2 * ticks + self._numerator) // (2 * self._numerator)

    def begins_interval(self, slot: int) -> bool:
        """Whether ``slot`` is the first one taken of its key-frame interval. Asked once for each slot taken."""
        index = slot * self._interval_a // self._interval_b
        begins = index != self._key_index
        self._key_index = index
        return begins

    def step_from(self, slot: int, skip: int) -> int:
        """Ticks from ``slot`` to the next taken: one of ``skip + 1`` slots, and the first of each interval."""
        regular = slot - slot % (skip + 1) + skip + 1
        interval = slot * self._interval_a // self._interval_b + 1
        following = min(regular, -(-interval * self._interval_b // self._interval_a))
        return self.time_of(following) - self.time_of(slot)

    def gap(self, slot: int) -> int:
        """How many slots before ``slot`` to fill with the last picture."""
        if self.last is None:
            return 0
        missing = slot - self.last - 1
        return missing if missing <= FILL_FRAMES and missing <= FILL_SECONDS * self.rate else 0


def key_frame_interval(spec: RenditionSpec, rate: Fraction) -> Fraction:
    """Seconds between key frames (wire catalogue 8.2: frames or milliseconds, default one second of frames)."""
    if spec.key_frame_interval_type == "time" and spec.key_frame_interval:
        return Fraction(spec.key_frame_interval, 1000)
    frames = spec.key_frame_interval if spec.key_frame_interval_type == "frame" else 0
    return Fraction(frames or max(1, round(rate))) / rate


class RateMeter:
    """Finds the frame rate of an input that does not declare one, from its first frames."""

    #: Frames looked at, and for how long at most (ticks) when they come slowly.
    FRAMES = 12
    PATIENCE = VIDEO_TIMESCALE

    def __init__(self) -> None:
        self._times: list[int] = []

    def add(self, time: int) -> Fraction | None:
        """The frame rate, once known: the measured one, to the next common rate when it is near one."""
        times = self._times
        times.append(time)
        span = times[-1] - times[0]
        if len(times) < 2 or span <= 0 or (len(times) < self.FRAMES and span < self.PATIENCE):
            return None
        return near_common_rate((len(times) - 1) * VIDEO_TIMESCALE / span)


class RateWatch:
    """Notices that an input's frame rate is not what it was taken for, or has changed."""

    WINDOW = 3 * VIDEO_TIMESCALE
    #: A longer step than this is a hole, not a frame rate.
    HOLE = VIDEO_TIMESCALE // 2
    #: How far off a rate has to be, in two windows in a row.
    OFF = 0.07

    def __init__(self, rate: Fraction) -> None:
        self._rate = rate
        self._first: int | None = None
        self._previous = 0
        self._count = 0
        self._suspected: Fraction | None = None

    def start_over(self) -> None:
        """Frames are missing here for another reason."""
        self._first = None

    def add(self, at: int) -> Fraction | None:
        """A frame at ``at``; the new rate when there is one."""
        if self._first is None or not 0 < at - self._previous <= self.HOLE:
            self._first, self._previous, self._count = at, at, 0
            return None
        self._previous = at
        self._count += 1
        span = at - self._first
        if span < self.WINDOW:
            return None
        measured = self._count * VIDEO_TIMESCALE / span
        self._first, self._count = at, 0
        if abs(measured - self._rate) <= self.OFF * self._rate:
            self._suspected = None
            return None
        found = near_common_rate(measured)
        if found != self._suspected:
            self._suspected = found
            return None
        return found


_COMMON = (
    Fraction(5), Fraction(10), Fraction(12), Fraction(15), Fraction(20), Fraction(24000, 1001), Fraction(24),
    Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(48), Fraction(50), Fraction(60000, 1001), Fraction(60),
    Fraction(120),
)  # fmt: skip


def near_common_rate(rate: float) -> Fraction:
    """The common frame rate within 3 % of a roughly measured one (whole numbers win), else the nearest whole number."""
    best = min(_COMMON, key=lambda common: (abs(float(common) - rate) / rate, common.denominator))
    if abs(float(best) - rate) <= 0.03 * rate:
        whole = Fraction(round(best))
        return whole if abs(float(whole) - rate) < 0.01 * rate else best
    return Fraction(max(1, min(240, round(rate))))
