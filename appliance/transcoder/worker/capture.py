"""Raw sources inside the worker: frames paced on the monotonic clock, on slots that begin at the stream's epoch."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING

from appliance.media.clock import NANOSECONDS
from appliance.transcoder.sources import AUDIO_TRACK, VIDEO_TRACK, RawSource, parse
from appliance.transcoder.spec import VIDEO_TIMESCALE
from appliance.transcoder.worker.graph import Graph
from appliance.transcoder.worker.patience import Patience
from appliance.transcoder.worker.pattern import PatternPicture, PatternSound
from appliance.transcoder.worker.slots import SOUND_SAMPLES, Slots
from appliance.transcoder.worker.video import ReportFault

if TYPE_CHECKING:
    from appliance.transcoder.worker.devices import DeviceSource

#: Sound costs next to nothing to catch up with; what is later than this is left out.
LATE_SOUND_NS = 1_000_000_000


class PatternSource:
    """The test pattern in real time: one thread (`run`) makes picture and tone as each falls due."""

    def __init__(self, source: RawSource, epoch: int, graph: Graph) -> None:
        self.frames = 0
        self.late = 0
        self.fed = 0
        self.decode_errors = 0
        self.consumed_bytes = 0
        self.consumed_packets = 0
        self.consumed_ns = 0
        self._source = source
        self._epoch = epoch
        self._graph = graph
        self._patience = Patience()
        self._stopped = threading.Event()
        if source.width:
            graph.add_video_input(VIDEO_TRACK, source.frame_rate, 0)

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        source = self._source
        picture = PatternPicture(source.width, source.height, source.frame_rate)
        sound = PatternSound(source.sample_rate, source.channels, source.tone) if source.sample_rate else None
        now = time.monotonic_ns()
        pictures = Slots(source.frame_rate, self._epoch)
        sounds = Slots(Fraction(source.sample_rate or 1, SOUND_SAMPLES), self._epoch)
        frame = pictures.next_after(now)
        chunk = max(0, sounds.next_after(now) - 1)
        while True:
            frame_due = pictures.due(frame)
            # A chunk is there when its last sample has been.
            chunk_due = sounds.due(chunk + 1) if sound else frame_due + 1
            wait = min(frame_due, chunk_due) - time.monotonic_ns()
            if wait > 0 and self._stopped.wait(wait / NANOSECONDS):
                return
            if self._stopped.is_set():
                return
            if frame_due < chunk_due:
                frame = self._picture(picture, pictures, frame)
            elif sound is not None:
                self._graph.audio_frame(AUDIO_TRACK, sound.frame(chunk * SOUND_SAMPLES, SOUND_SAMPLES))
                chunk += 1
                if time.monotonic_ns() - sounds.due(chunk + 1) > LATE_SOUND_NS:
                    chunk = max(0, sounds.next_after(time.monotonic_ns()) - 1)

    def _picture(self, picture: PatternPicture, slots: Slots, step: int) -> int:
        """Make the picture of ``step`` (or, when that is long past, of the newest step); gives the next step."""
        now = time.monotonic_ns()
        late = now - slots.due(step)
        if late > max(self._patience.limit(now), 3 * (slots.due(1) - slots.due(0))):
            # Lateness never piles up: on with the newest step.
            self._patience.lost(now)
            newest = slots.next_after(now) - 1
            self.late += newest - step
            step = newest
            self._graph.video_lapse(VIDEO_TRACK)
        due = slots.due(step)
        at = Fraction(step) / self._source.frame_rate
        frame = picture.frame(time.time_ns() - (now - due), flash=at % 1 < Fraction(1, 25))
        self.frames += 1
        self.fed += 1
        self._graph.video_frame(VIDEO_TRACK, frame, round(at * VIDEO_TIMESCALE))
        return step + 1


def open_source(url: str, epoch: int, graph: Graph, fault: ReportFault) -> PatternSource | DeviceSource:
    """The raw source that ``url`` names. Raises ConfigError."""
    source = parse(url)
    if source.scheme == "pattern":
        return PatternSource(source, epoch, graph)
    # Not before it is needed: it loads the device part of libav.
    from appliance.transcoder.worker.devices import DeviceSource

    return DeviceSource(source, epoch, graph, fault)
