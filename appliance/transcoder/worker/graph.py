"""Decode once, encode many: the raw frames of an input go to all renditions of it, and never leave the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from fractions import Fraction

from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.video.frame import VideoFrame

from appliance.errors import ConfigError, KilnError
from appliance.transcoder.messages import RenditionStats
from appliance.transcoder.spec import VIDEO_TIMESCALE, RenditionSpec
from appliance.transcoder.worker.audio import AudioRendition
from appliance.transcoder.worker.outbox import Outbox
from appliance.transcoder.worker.retry import Retry
from appliance.transcoder.worker.video import ReportFault, VideoInput, VideoRendition


class Graph:
    """The renditions of one worker by input track. Thread-safe; nothing here waits for an encoder."""

    def __init__(self, outbox: Outbox, fault: ReportFault) -> None:
        self._outbox = outbox
        self._fault = fault
        self._lock = threading.Lock()
        self._inputs: dict[int, VideoInput] = {}
        self._video: dict[int, VideoRendition] = {}
        self._audio: dict[int, AudioRendition] = {}
        self._ended: list[VideoRendition] = []
        # Of the audio renditions that failed.
        self._retries: dict[int, Retry] = {}

    def add_video_input(
        self, id: int, rate: Fraction | None, phase: int | None = None, *, adapt: bool = False
    ) -> None:
        """A video track, anew when its shape of time changed (`VideoInput` tells what the arguments mean)."""
        with self._lock:
            fresh = self._inputs[id] = VideoInput(rate, phase, adapt=adapt)
            fresh.renditions = [r for r in self._video.values() if r.spec.input_id == id]

    def set_renditions(self, specs: Sequence[RenditionSpec]) -> None:
        """Equal ones go on untouched, changed ones are built anew, the others end."""
        wanted = {spec.id: spec for spec in specs}
        with self._lock:
            video = {id: spec for id, spec in wanted.items() if spec.kind != "audio"}
            for id in [id for id, running in self._video.items() if running.spec != video.get(id)]:
                ended = self._video[id]
                if not _only_bitrate_changed(ended, video.get(id)):
                    del self._video[id]
                    ended.close()
                    self._ended.append(ended)
            for id, spec in video.items():
                if id not in self._video:
                    self._start_video(spec)
            self._set_audio({id: spec for id, spec in wanted.items() if spec.kind == "audio"})
            for input_id, source in self._inputs.items():
                source.renditions = [r for r in self._video.values() if r.spec.input_id == input_id]
            self._ended = [rendition for rendition in self._ended if rendition.alive]

    def _start_video(self, spec: RenditionSpec) -> None:
        before = next((ended for ended in reversed(self._ended) if ended.spec.id == spec.id), None)
        rendition = self._video[spec.id] = VideoRendition(spec, self._outbox, self._fault, before)
        rendition.start()

    def _set_audio(self, wanted: dict[int, RenditionSpec]) -> None:
        for id in [id for id, running in self._audio.items() if running.spec != wanted.get(id)]:
            self._finish_audio(self._audio.pop(id))
            self._retries.pop(id, None)
        for id, spec in wanted.items():
            if id not in self._audio:
                self._audio[id] = AudioRendition(spec, self._outbox)

    def _finish_audio(self, rendition: AudioRendition) -> None:
        try:
            rendition.finish()
        except FFmpegError as error:
            self._fault(f"{rendition.encoder}: {error}", rendition.spec.id, False)

    def video_frame(self, input_id: int, frame: VideoFrame, at: int) -> None:
        """``at``: 90 kHz ticks of the stream's timeline."""
        with self._lock:
            self._inputs[input_id].frame(frame, at)

    def wait_for_room(self, input_id: int, until: float) -> None:
        """Wait for the encoders of an input to work off a burst, up to the monotonic second ``until``."""
        source = self._inputs.get(input_id)
        for rendition in list(source.renditions) if source else ():
            if rendition.spec.kind == "video":
                rendition.wait_for_room(until)

    def video_lapse(self, input_id: int) -> None:
        """Frames were left out here on purpose."""
        with self._lock:
            self._inputs[input_id].lapse()

    def audio_frame(self, input_id: int, frame: AudioFrame) -> None:
        """``frame`` with pts and time base on the stream's timeline."""
        with self._lock:
            for id, rendition in list(self._audio.items()):
                retry = self._retries.get(id)
                if rendition.spec.input_id != input_id or (retry is not None and not retry.due(time.monotonic())):
                    continue
                try:
                    rendition.frame(frame)
                except (FFmpegError, KilnError, ValueError) as error:
                    self._audio_failed(rendition, error)
                else:
                    if retry is not None and rendition.made:
                        retry.worked()

    def _audio_failed(self, rendition: AudioRendition, error: Exception) -> None:
        id = rendition.spec.id
        retry = self._retries.setdefault(id, Retry())
        # What the settings forbid no time heals.
        if retry.failed(time.monotonic(), for_good=isinstance(error, ConfigError)):
            self._fault(str(error), id, False)
        # A new one takes its place: what libav keeps after an error is anybody's guess.
        self._audio[id] = AudioRendition(rendition.spec, self._outbox)

    def force_key_frame(self, since: int) -> None:
        """``since``: ms of the stream."""
        with self._lock:
            for source in self._inputs.values():
                source.key_since = since * VIDEO_TIMESCALE // 1000

    def want_key_frame(self, id: int) -> None:
        """A key frame of rendition ``id`` alone, soon."""
        rendition = self._video.get(id)
        if rendition is not None:
            rendition.want_key_frame()

    def set_bitrate(self, id: int, bitrate: int) -> None:
        with self._lock:
            rendition = self._video.get(id)
            if rendition is not None:
                rendition.want_bitrate(bitrate)

    def stuck_since(self) -> tuple[int, VideoRendition] | None:
        """The monotonic ns since when the longest running encode call has been running, and whose it is."""
        running = [(r.busy_since, r) for r in [*self._video.values(), *self._ended] if r.busy_since is not None]
        return min(running, key=lambda item: item[0]) if running else None

    @property
    def stats(self) -> list[RenditionStats]:
        with self._lock:
            return [r.stats for r in self._video.values()] + [r.stats for r in self._audio.values()]

    def close(self) -> None:
        """Encode all that waits; returns when it is in the outbox."""
        with self._lock:
            for rendition in self._video.values():
                rendition.close()
            for audio in self._audio.values():
                self._finish_audio(audio)
        for rendition in [*self._video.values(), *self._ended]:
            rendition.join(1.0)


def _only_bitrate_changed(running: VideoRendition, wanted: RenditionSpec | None) -> bool:
    return wanted is not None and running.change_bitrate(wanted)


def ticks(pts: int, time_base: Fraction) -> int:
    """A frame's time in 90 kHz ticks."""
    return round(pts * VIDEO_TIMESCALE * time_base)
