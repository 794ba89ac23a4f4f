"""How much of a long test is run: KILN_LONG_SHARE (0 to 1; a tenth where it is not set and the test is a quick one)."""

from __future__ import annotations

import os


def long_share(count: float, least: float) -> int:
    """As ``share``, in a test that is long anyway: all of it where nothing is asked for."""
    return int(max(least, count * float(os.environ.get("KILN_LONG_SHARE", "1"))))


def share(count: float, least: float) -> int:
    """That part of ``count`` which this run asks for, at least ``least``."""
    return int(max(least, count * float(os.environ.get("KILN_LONG_SHARE", "0"))))
