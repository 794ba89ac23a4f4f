"""Time: durations are monotonic, the wall clock is for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the engine reads time, in nanoseconds: ``monotonic`` is CLOCK_MONOTONIC, ``wall`` counts since 1970."""

    monotonic: Callable[[], int] = time.monotonic_ns
    wall: Callable[[], int] = time.time_ns


def rescale(value: int, source: int, target: int) -> int:
    """``value`` ticks of ``source`` a second as ticks of ``target`` a second, rounded to nearest (halves up)."""
    if source == target:
        return value
    return (2 * value * target + source) // (2 * source)
