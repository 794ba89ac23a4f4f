"""A timeline whose clock the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.media.timeline import Timeline
from appliance.media.track import Codec, MediaType, Track

SECOND = 90_000


def picture(rate: float = 0.0, track_id: int = 0, generation: int = 0) -> Track:
    return Track(
        id=track_id, generation=generation, media=MediaType.VIDEO, codec=Codec.H264, timescale=SECOND, frame_rate=rate
    )


def sound(rate: int = 48_000, track_id: int = 1, codec: Codec = Codec.AAC) -> Track:
    return Track(id=track_id, media=MediaType.AUDIO, codec=codec, timescale=rate, sample_rate=rate)


@dataclass
class Bench:
    """A timeline with a clock that the test moves, and all that came out of it."""

    now: int = 0
    epoch: int = 0
    out: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.timeline = Timeline(lambda: self.now, self.epoch)

    def send(self, track: Track, dts: int, pts: int | None = None, duration: int = 0, wrap_bits: int = 0) -> int:
        stamped = self.timeline.stamp(track, dts if pts is None else pts, dts, duration, wrap_bits)
        self.out.setdefault(track.id, []).append(stamped)
        return stamped[1]

    def dts(self, track: Track) -> list[int]:
        return [dts for _, dts, _ in self.out[track.id]]

    def pts(self, track: Track) -> list[int]:
        return [pts for pts, _, _ in self.out[track.id]]
