"""Steps of a steady rate on the monotonic clock."""

from __future__ import annotations

from fractions import Fraction

from appliance.media.clock import NANOSECONDS

#: Samples of sound made at once: a frame of AAC.
SOUND_SAMPLES = 1024


class Slots:
    """Numbers the steps of a steady rate from the epoch: step n is due at ``epoch + n / rate``."""

    def __init__(self, rate: Fraction, epoch: int) -> None:
        self._period = Fraction(NANOSECONDS) / rate
        self._epoch = epoch

    def due(self, step: int) -> int:
        return self._epoch + int(step * self._period)

    def next_after(self, now: int) -> int:
        """The first step that is due at ``now`` or later."""
        return max(0, -int(-(now - self._epoch) // self._period))
