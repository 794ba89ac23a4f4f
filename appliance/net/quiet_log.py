"""Log lines that a peer can cause at will: one a second of each kind, the others counted."""

from __future__ import annotations

import logging
import time


class QuietLog:
    """Wraps a logger. Each ``key`` is logged at most once a second; ``repeats=`` tells what was left out before."""

    def __init__(self, logger: logging.Logger, interval: float = 1.0) -> None:
        self._logger = logger
        self._interval = interval
        self._last: dict[str, tuple[float, int]] = {}

    def log(self, level: int, key: str, message: str, *args: object, error: BaseException | None = None) -> None:
        now = time.monotonic()
        last, repeats = self._last.get(key, (-self._interval, 0))
        if now - last < self._interval:
            self._last[key] = (last, repeats + 1)
            return
        if len(self._last) >= 256:
            self._last.clear()
        self._last[key] = (now, 0)
        self._logger.log(level, message + " repeats=%d", *args, repeats, exc_info=error)
