"""Capture devices inside the worker: V4L2 pictures and ALSA sound, and a slate while a device gives nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.video.frame import VideoFrame

from appliance.media.clock import NANOSECONDS
from appliance.transcoder.sources import AUDIO_TRACK, VIDEO_TRACK, RawSource
from appliance.transcoder.spec import VIDEO_TIMESCALE
from appliance.transcoder.worker.graph import Graph
from appliance.transcoder.worker.pattern import PatternSound, SlatePicture
from appliance.transcoder.worker.slots import SOUND_SAMPLES, Slots
from appliance.transcoder.worker.video import ReportFault
from appliance.transcoder.worker.video_encoder import reason

#: A device that gave nothing for this long is replaced by the slate, or by silence.
SILENT_NS = 1_000_000_000
RETRY_SECONDS = 1.0
#: A device's own timestamp counts when it is this near the moment of arrival.
PLAUSIBLE_NS = 500_000_000
#: Sound that claims to be this far ahead comes from a device without a clock; it is held to real time.
AHEAD_NS = 20_000_000
#: How fast the sample count follows the clock, and from where it jumps there.
FOLLOW = Fraction(1, 64)
JUMP_NS = 150_000_000

Frames = Iterator[VideoFrame | AudioFrame]
Opener = Callable[[RawSource], Frames]


def open_v4l2(source: RawSource) -> Frames:
    """Decoded pictures of the V4L2 device. Raises FFmpegError, naming the device."""
    options = {"video_size": f"{source.width}x{source.height}", "framerate": str(source.frame_rate)}
    if source.input_format:
        options["input_format"] = source.input_format
    return _frames(source.device, "v4l2", options)


def open_alsa(source: RawSource) -> Frames:
    """Sound of the ALSA device. Raises FFmpegError, naming the device."""
    options = {"sample_rate": str(source.sample_rate), "channels": str(source.channels)}
    return _frames(source.audio_device, "alsa", options)


def _frames(device: str, form: str, options: dict[str, str]) -> Frames:
    with av.open(device, format=form, options={**options, "fflags": "nobuffer"}) as container:
        stream: Any = container.streams[0]
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                # A torn picture from the cable; the next one is whole.
                continue


class SampleClock:
    """Times of a device's sound on the monotonic clock: counts samples, and follows the arrival times slowly."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._next: int | None = None

    def stamp(self, arrived: int, samples: int) -> int:
        """Monotonic ns of the first of ``samples`` that came in at ``arrived``."""
        length = samples * NANOSECONDS // self._rate
        measured = arrived - length
        if self._next is None or abs(measured - self._next) > JUMP_NS:
            self._next = measured
        begins = self._next
        self._next = begins + length + int((measured - begins) * FOLLOW)
        return begins


class DeviceSource:
    """Reads the devices in a thread each, opening them again when they fail; `run` fills in while they give nothing."""

    def __init__(
        self, source: RawSource, epoch: int, graph: Graph, fault: ReportFault, *, open_video: Opener = open_v4l2,
        open_audio: Opener = open_alsa,
    ) -> None:  # fmt: skip
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
        self._fault = fault
        self._open_video = open_video
        self._open_audio = open_audio
        self._stopped = threading.Event()
        self._last: dict[int, int] = {}
        self._told: dict[int, str] = {}
        self._filling: set[int] = set()
        if source.width:
            graph.add_video_input(VIDEO_TRACK, source.frame_rate)

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        """Until `stop`."""
        source = self._source
        began = time.monotonic_ns()
        if source.width:
            self._last[VIDEO_TRACK] = began
            threading.Thread(target=self._read, args=(VIDEO_TRACK,), name="v4l2", daemon=True).start()
        if source.sample_rate:
            self._last[AUDIO_TRACK] = began
            threading.Thread(target=self._read, args=(AUDIO_TRACK,), name="alsa", daemon=True).start()
        self._fill_in()

    # The devices

    def _read(self, track: int) -> None:
        source = self._source
        opener, name = (
            (self._open_video, f"camera {source.device}")
            if track == VIDEO_TRACK
            else (self._open_audio, f"sound device {source.audio_device}")
        )
        while not self._stopped.is_set():
            try:
                clock = SampleClock(source.sample_rate) if track == AUDIO_TRACK else None
                for frame in opener(source):
                    if self._stopped.is_set():
                        return
                    self._told.pop(track, None)
                    if isinstance(frame, VideoFrame):
                        self._picture(frame)
                    elif clock is not None:
                        self._sound(frame, clock)
                why = "it ended"
            except (FFmpegError, OSError, ValueError) as error:
                why = reason(error)
            if self._told.get(track) != why:
                self._told[track] = why
                self._fault(f"{name}: {why}", None, False)
            self._stopped.wait(RETRY_SECONDS)

    def _picture(self, frame: VideoFrame) -> None:
        now = time.monotonic_ns()
        at = now
        if frame.pts is not None and frame.time_base is not None:
            stamped = int(frame.pts * frame.time_base * NANOSECONDS)
            if abs(now - stamped) < PLAUSIBLE_NS:
                at = stamped
        self.frames += 1
        self._last[VIDEO_TRACK] = now
        self._graph.video_frame(VIDEO_TRACK, frame, self._ticks(at))

    def _sound(self, frame: AudioFrame, clock: SampleClock) -> None:
        now = time.monotonic_ns()
        begins = clock.stamp(now, frame.samples)
        ahead = begins + frame.samples * NANOSECONDS // frame.sample_rate - now
        if ahead > AHEAD_NS:
            self._stopped.wait(ahead / NANOSECONDS)
        self._last[AUDIO_TRACK] = time.monotonic_ns()
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = (begins - self._epoch) * frame.sample_rate // NANOSECONDS
        if frame.pts >= 0:
            self._graph.audio_frame(AUDIO_TRACK, frame)

    def _ticks(self, at: int) -> int:
        return max(0, (at - self._epoch) * VIDEO_TIMESCALE // NANOSECONDS)

    # The slate

    def _fill_in(self) -> None:
        source = self._source
        pictures = Slots(source.frame_rate, self._epoch) if source.width else None
        sounds = Slots(Fraction(source.sample_rate, SOUND_SAMPLES), self._epoch) if source.sample_rate else None
        silence = PatternSound(source.sample_rate, source.channels, 0, beep=False) if source.sample_rate else None
        slate: SlatePicture | None = None
        tick = pictures or sounds
        assert tick is not None
        step = tick.next_after(time.monotonic_ns())
        chunk = 0
        while not self._stopped.wait(max(0, tick.due(step) - time.monotonic_ns()) / NANOSECONDS):
            now = time.monotonic_ns()
            self.fed += 1
            if pictures is not None and self._silent(VIDEO_TRACK, now):
                slate = slate or SlatePicture(source.width, source.height, source.frame_rate)
                at = self._ticks(pictures.due(step))
                self._graph.video_frame(VIDEO_TRACK, slate.frame(time.time_ns()), at)
            if sounds is not None and silence is not None:
                if not self._silent(AUDIO_TRACK, now):
                    chunk = max(0, sounds.next_after(now) - 1)
                while sounds.due(chunk + 1) <= now:
                    self._graph.audio_frame(AUDIO_TRACK, silence.frame(chunk * SOUND_SAMPLES, SOUND_SAMPLES))
                    chunk += 1
            step = max(step + 1, tick.next_after(now))

    def _silent(self, track: int, now: int) -> bool:
        return now - self._last[track] > SILENT_NS
