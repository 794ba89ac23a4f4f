"""What has come of one media playlist and has not been played yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from appliance.media.track import Track


class Entry(NamedTuple):
    """One frame; ``seconds`` is its decode time on the lane's own axis, ``shift`` what that axis is off the source's
    times. The rest as in ``contracts.Input.send``."""

    seconds: float
    shift: float
    track: Track
    pts: int
    dts: int
    keyframe: bool
    payload: bytes
    duration: int


@dataclass(slots=True)
class Batch:
    """One segment's frames in the order of decoding. ``epoch`` is its discontinuity sequence number, ``after_gap``
    tells that segments before it are missing."""

    epoch: int
    duration: float
    entries: deque[Entry]
    size: int
    after_gap: bool = False


class Signal:
    """Wakes whoever waits, each time something happens."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()


@dataclass(slots=True)
class Lane:
    """``tracks`` are those of the first segment, ``ended`` that no more comes; ``signal`` tells of all changes."""

    signal: Signal
    tracks: list[Track] = field(default_factory=list)
    batches: deque[Batch] = field(default_factory=deque)
    started: bool = False
    ended: bool = False

    @property
    def ahead(self) -> float:
        """Seconds that wait here, with the segment that is being played."""
        return sum(batch.duration for batch in self.batches)

    @property
    def size(self) -> int:
        return sum(batch.size for batch in self.batches)

    def add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.signal.fire()

    def end(self) -> None:
        self.ended = True
        self.signal.fire()

    def drop_first(self) -> None:
        """The first frame has been played."""
        batch = self.batches[0]
        batch.entries.popleft()
        if not batch.entries:
            self.batches.popleft()
            self.signal.fire()
