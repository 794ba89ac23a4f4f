"""Constant frame rates: the exact period of a rate, and finding the rate in times that were rounded."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

#: How far times on a constant rate may lie from their grid, least to most (s): rounding to a millisecond, and a little.
_SPREAD = Fraction(13, 10_000)


def grid_period(rate: float, scale: int) -> Fraction | None:
    """Ticks between frames at ``rate`` frames a second, exact for television's rates; None below 1 and over 240."""
    if not 1 <= rate <= 240:
        return None
    if abs(rate - round(rate)) < 0.0005:
        exact = Fraction(round(rate))
    elif abs(rate * 1.001 - round(rate * 1.001)) < 0.005:
        exact = Fraction(round(rate * 1.001) * 1000, 1001)
    else:
        exact = Fraction(rate).limit_denominator(1000)
    return scale / exact


def constant_rate(times: list[int], scale: int) -> tuple[Fraction, int] | None:
    """The period (ticks) and phase of ``times`` if they lie on the grid of a usual rate to within rounding, else None.

    A usual rate is a whole number of frames a second, that over 1.001, or 12.5. Missing frames are allowed.
    """
    steps = sorted(after - before for before, after in pairwise(times))
    middle = steps[len(steps) // 2]
    if middle <= 0 or steps[0] <= 0:
        return None
    periods = sum((2 * step + middle) // (2 * middle) for step in steps)
    rate = scale * periods / (times[-1] - times[0])
    best: tuple[Fraction, int] | None = None
    best_spread = int(_SPREAD * scale)
    for candidate in (12.5, round(rate * 1.001) / 1.001, float(round(rate))):
        period = grid_period(candidate, scale) if abs(candidate - rate) < 0.02 * rate else None
        if period is None:
            continue
        # A few are enough to turn down most of what has no constant rate.
        for sample in (times[:12], times):
            low, high = _distances(sample, period)
            if high - low > best_spread:
                break
        else:
            best, best_spread = (period, times[0] + (low + high) // 2), high - low
    return best


def _distances(times: list[int], period: Fraction) -> tuple[int, int]:
    """How far ``times`` lie from the grid of ``period`` that starts at the first: least and most."""
    num, den, origin = period.numerator, period.denominator, times[0]
    offsets = [time - origin - ((time - origin) * 2 * den + num) // (2 * num) * num // den for time in times]
    return min(offsets), max(offsets)
