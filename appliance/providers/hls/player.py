"""The frames of all playlists in one order, each when its time has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from appliance.errors import RemoteProtocolError, Unavailable
from appliance.media.contracts import Input
from appliance.providers.hls.lane import Entry, Lane, Signal

#: What is due within this time is sent along (s): fewer wake-ups.
TOGETHER: Final = 0.005
#: Frames that are later than this begin a new schedule (s): there was nothing to play.
LATE: Final = 0.25
#: How long the frames of one playlist wait for those of another that are due before them (s).
PATIENCE: Final = 1.0
#: One playlist stays before a discontinuity, and the other is behind it: no longer than this (s).
APART: Final = 10.0
#: How long a frame lasts that does not say so (s).
_FRAME: Final = 1 / 30


class Player:
    """Sends to ``target`` what comes into ``lanes``, in real time."""

    def __init__(self, target: Input, lanes: Sequence[Lane], signal: Signal) -> None:
        self._target = target
        self._lanes = lanes
        self._signal = signal
        #: Seconds of the loop's clock at the zero of the stream's axis, which begins with the first frame.
        self._anchor = 0.0
        self._epoch = -1
        self._shift = 0.0
        self._end = 0.0
        self._blocked_since: float | None = None
        #: Nobody waits for them before they have something.
        self._late: list[Lane] = []

    async def run(self) -> None:
        """Until all lanes have ended. Raises RemoteProtocolError."""
        for lane in self._lanes:
            while not lane.started and not lane.ended:
                await self._signal.wait()
        if not any(lane.started for lane in self._lanes):
            raise Unavailable("the playlist has no segments")
        start = await self._first_picture()
        self._target.prepare([track for lane in self._lanes for track in lane.tracks])
        while True:
            chosen = await self._next()
            if chosen is None:
                return
            batch = chosen.batches[0]
            entry = batch.entries[0]
            if start is not None:
                if batch.epoch == start[0] and entry.seconds < start[1] and entry.track.is_audio:
                    # Sound from before the first picture would only make the picture wait.
                    chosen.drop_first()
                    continue
                if entry.track.is_video:
                    start = None
            if batch.epoch != self._epoch:
                self._begin(batch.epoch, entry)
            await self._wait_for(chosen, entry)
            self._send(entry)
            chosen.drop_first()

    async def _first_picture(self) -> tuple[int, float] | None:
        """Epoch and time of the first picture, when there is one in the first segments."""
        for lane in self._lanes:
            while not lane.batches and not lane.ended:
                await self._signal.wait()
        for lane in self._lanes:
            for batch in lane.batches:
                for entry in batch.entries:
                    if entry.track.is_video:
                        return batch.epoch, entry.seconds
        return None

    async def _next(self) -> Lane | None:
        """The lane whose first frame is the next; None at the end of all."""
        while True:
            there = [lane for lane in self._lanes if lane.batches]
            if not there:
                if all(lane.ended for lane in self._lanes):
                    return None
                await self._signal.wait()
                continue
            chosen = min(there, key=_position)
            self._check_apart(there)
            self._late = [lane for lane in self._late if not lane.batches]
            lacking = [lane for lane in self._lanes if not lane.batches and not lane.ended and lane not in self._late]
            if lacking:
                # It may have something that comes before.
                due = self._due(chosen.batches[0].epoch, chosen.batches[0].entries[0])
                with trio.move_on_at(due + PATIENCE) as waiting:
                    await self._signal.wait()
                if waiting.cancelled_caught:
                    self._late += lacking
                continue
            return chosen

    def _check_apart(self, there: Sequence[Lane]) -> None:
        now = trio.current_time()
        if len({lane.batches[0].epoch for lane in there}) < 2:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        elif now - self._blocked_since > APART:
            raise RemoteProtocolError("the playlists of picture and sound have different discontinuities")

    def _begin(self, epoch: int, entry: Entry) -> None:
        """The first frame behind a discontinuity follows the last before it."""
        if self._epoch < 0:
            self._shift = 0.0
            self._anchor = trio.current_time() - entry.seconds
        else:
            self._shift = self._end - entry.seconds
        self._epoch = epoch

    def _due(self, epoch: int, entry: Entry) -> float:
        if epoch != self._epoch:
            return self._anchor + self._end if self._epoch >= 0 else trio.current_time()
        return self._anchor + entry.seconds + self._shift

    async def _wait_for(self, lane: Lane, entry: Entry) -> None:
        now = trio.current_time()
        due = self._due(self._epoch, entry)
        if due < now - LATE or (lane.batches[0].after_gap and due > now + LATE):
            lane.batches[0].after_gap = False
            self._anchor += now - due
        elif due > now + TOGETHER:
            await trio.sleep_until(due)

    def _send(self, entry: Entry) -> None:
        track = entry.track
        scale = track.timescale
        moved = round((self._shift + entry.shift) * scale)
        self._target.send(
            track, entry.pts + moved, entry.dts + moved, entry.keyframe, entry.payload, entry.duration
        )
        lasts = entry.duration / scale if entry.duration else 1 / track.frame_rate if track.frame_rate else _FRAME
        self._end = max(self._end, entry.seconds + self._shift + lasts)


def _position(lane: Lane) -> tuple[int, float]:
    batch = lane.batches[0]
    return batch.epoch, batch.entries[0].seconds
