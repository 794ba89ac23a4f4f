"""Somebody who takes what a player plays, and what can be said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import trio

from appliance.media.stream import Stream
from appliance.media.track import Track


@dataclass(frozen=True)
class Taken:
    """Times in seconds."""

    track: Track
    pts: float
    dts: float
    keyframe: bool
    payload: bytes


@dataclass
class Taker:
    """A ``contracts.Input`` that keeps everything."""

    label: str = "default/app/tv"
    tracks: list[Track] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    closed: str = ""
    prepared: trio.Event = field(default_factory=trio.Event)
    cancel: Callable[[str], None] = lambda reason: None

    @property
    def stream(self) -> Stream:
        raise AssertionError("nobody asks for it")

    def prepare(self, tracks: Sequence[Track]) -> None:
        self.tracks = list(tracks)
        self.prepared.set()

    def send(self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int = 0) -> None:
        scale = track.timescale
        self.taken.append(Taken(track, pts / scale, dts / scale, keyframe, payload))

    def close(self, reason: str) -> None:
        self.closed = reason

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        self.cancel = callback

    def of(self, *, video: bool, until: float = float("inf")) -> list[Taken]:
        """By presentation, those that are shown before ``until``."""
        found = [each for each in self.taken if each.track.is_video == video and each.pts < until]
        return sorted(found, key=lambda each: each.pts)

    def check_continuous(self, *, video: bool, until: float) -> None:
        """No hole over a frame, no overlap of frames, decoding times that only grow."""
        found = self.of(video=video, until=until)
        assert found
        frame = 1 / 30 if video else 1024 / 48_000
        steps = [(one.pts, other.pts - one.pts) for one, other in pairwise(found)]
        assert [step for step in steps if abs(step[1] - frame) > 0.0015] == []
        order = [each.dts for each in self.taken if each.track.is_video == video]
        assert order == sorted(set(order))
        assert all(each.pts >= each.dts for each in self.taken)
