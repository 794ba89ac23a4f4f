"""When hardware fails again and again: software for a while, so that the stream goes on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

import msgspec

from appliance.errors import ConfigError
from appliance.transcoder.encoders import candidates, is_hardware
from appliance.transcoder.spec import RenditionSpec

log = logging.getLogger("kiln.transcoder")

#: So many lost workers within the window, and the hardware that was encoding is left alone for the pause (seconds).
FAILURES = 2
WINDOW = 60.0
PAUSE = 300.0


class Fallback:
    """Which encoders each rendition may use now. ``now`` is always monotonic seconds."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._failures: dict[int, deque[float]] = {}
        self._shunned: dict[str, float] = {}

    def effective(self, spec: RenditionSpec, now: float) -> RenditionSpec:
        """``spec`` without the hardware encoders that are being left alone, if others are left to try."""
        shunned = {name for name, until in self._shunned.items() if now < until}
        if not shunned:
            return spec
        try:
            names = spec.encoders or candidates(spec.codec, spec.modules)
        except ConfigError:
            return spec
        left = tuple(name for name in names if name not in shunned)
        return msgspec.structs.replace(spec, encoders=left) if left and left != names else spec

    def worker_lost(self, suspect: int | None, in_use: Iterable[tuple[int, str]], now: float) -> None:
        """A worker hung or crashed. ``suspect`` is the rendition at fault, when that is known; ``in_use`` says which
        rendition used which encoder."""
        for id, encoder in in_use:
            if not is_hardware(encoder) or suspect not in (None, id):
                continue
            failures = self._failures.setdefault(id, deque(maxlen=FAILURES))
            failures.append(now)
            if len(failures) == FAILURES and now - failures[0] <= WINDOW:
                log.error("hardware encoder left alone stream=%s track=%d encoder=%s for=%ds", self._label, id, encoder,
                          int(PAUSE))  # fmt: skip
                self._shunned[encoder] = now + PAUSE
                failures.clear()
