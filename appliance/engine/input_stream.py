"""One live input stream: its timeline, its hub, and the output streams made of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from appliance.engine.profiles import PlannedOutput
from appliance.errors import NotFound, Unavailable
from appliance.media.clock import Clock
from appliance.media.contracts import OutputStream, Source
from appliance.media.events import Event, EventPacket, Subtitle, SubtitleCue, Target, event_packet
from appliance.media.measure import Measured
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.timeline import Timeline
from appliance.media.track import Track
from appliance.publishers.subtitles import subtitles_of
from appliance.settings import models
from appliance.transcoder.client import Transcoder

log = logging.getLogger("kiln.input")


class LiveOutput(Protocol):
    """One output stream of an input; ``output`` is None until all its tracks are known. ``measured`` by track id."""

    @property
    def name(self) -> str: ...
    @property
    def plan(self) -> PlannedOutput: ...
    @property
    def output(self) -> OutputStream | None: ...
    @property
    def measured(self) -> Mapping[int, Measured]: ...
    def inject(self, packet: EventPacket) -> bool: ...


class LiveOutputs(Protocol):
    """All output streams of an input."""

    @property
    def by_name(self) -> Mapping[str, LiveOutput]: ...
    @property
    def transcoder(self) -> Transcoder | None: ...
    def open(self) -> None: ...
    def drop_changed(self, settings: models.Application) -> None:
        """End those that are not to be as they are under ``settings``."""

    def take_up(self, settings: models.Application) -> None:
        """Make what is missing under ``settings``; ``drop_changed`` comes first."""

    def close(self) -> None: ...


MakeOutputs = Callable[["InputStream"], LiveOutputs]


class InputStream:
    """What a provider feeds (``appliance.media.contracts.Input``). Made by the application, once a source.

    ``prepared`` is set with the first tracks. ``last_packet`` is the monotonic nanosecond of the newest packet.
    """

    def __init__(
        self, vhost: str, app: str, name: str, source: Source, *, clock: Clock, make_outputs: MakeOutputs,
        on_close: Callable[[InputStream, str], None],
    ) -> None:  # fmt: skip
        self.vhost = vhost
        self.app = app
        self.name = name
        self.source = source
        self.clock = clock
        self.created_wall = clock.wall()
        self.last_packet = clock.monotonic()
        self.outputs: LiveOutputs | None = None
        self.measured: dict[int, Measured] = {}
        self._make_outputs = make_outputs
        self._on_close = on_close
        self._stream: Stream | None = None
        self._timeline: Timeline | None = None
        self._newest: Packet | None = None
        self._cancel_callbacks: list[Callable[[str], None]] = []
        self._closed = False

    @property
    def label(self) -> str:
        return f"{self.vhost}/{self.app}/{self.name}"

    @property
    def prepared(self) -> bool:
        return self._stream is not None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def stream(self) -> Stream:
        assert self._stream is not None, "prepare() comes first"
        return self._stream

    @property
    def tracks(self) -> list[Track]:
        return sorted(self._stream.tracks.values(), key=lambda track: track.id) if self._stream else []

    @property
    def timeline(self) -> Timeline | None:
        return self._timeline

    def prepare(self, tracks: Sequence[Track]) -> None:
        if self._closed or self._stream is not None:
            return
        epoch = self.clock.monotonic()
        self._stream = Stream(self.label, tracks, clock=self.clock, epoch=epoch)
        self._timeline = Timeline(self.clock.monotonic, epoch)
        self.measured = {track.id: Measured(track, self.clock.monotonic) for track in tracks}
        log.info("input on stream=%s source=%s peer=%s tracks=%s", self.label, self.source.kind, self.source.url,
                 ",".join(_described(track) for track in tracks))  # fmt: skip
        self.outputs = self._make_outputs(self)
        self.outputs.open()

    def send(self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int = 0) -> None:
        stream = self._stream
        timeline = self._timeline
        if self._closed or stream is None or timeline is None:
            return
        pts, dts, duration = timeline.stamp(track, pts, dts, duration)
        packet = Packet(track, pts, dts, duration, keyframe, payload)
        self.last_packet = self.clock.monotonic()
        measured = self.measured.get(track.id)
        if measured is None:
            measured = self.measured[track.id] = Measured(track, self.clock.monotonic)
        measured.add(packet)
        self._newest = packet
        stream.publish(packet)

    @property
    def time(self) -> int:
        """Milliseconds of the stream that its media has reached."""
        newest = self._newest
        if newest is None:
            # Raw frames don't come through here: they are stamped as they are captured.
            return (self.clock.monotonic() - self.stream.epoch) // 1_000_000
        return newest.dts * 1000 // newest.track.timescale

    def inject(self, event: Event, target: Target = Target.EVENT, *, urgent: bool = False) -> None:
        """Put ``event`` among the media of every output stream, at the time that the input has reached now.

        ``urgent``: it does not wait for encoders that are behind. Raises Unavailable while there is nothing to put it
        among: no media yet, or over.
        """
        self._inject(event_packet(event, self._now(), target, urgent=urgent))

    def subtitle(self, label: str, cues: Sequence[SubtitleCue]) -> None:
        """Show ``cues`` one after the other in the subtitle track ``label``, from now on.

        Raises NotFound when the application has no subtitles of that label, Unavailable as ``inject`` does.
        """
        time = self._now()
        if not self._on_air:
            raise Unavailable(f"no output stream of {self.label} is on the air")
        if label not in self.subtitle_labels:
            raise NotFound(f"no subtitles of label {label!r} are configured for {self.label}")
        for cue in cues:
            start = max(0, time + cue.start_offset)
            subtitle = Subtitle(label, cue.text, start, cue.duration, cue.settings)
            self._inject(event_packet(subtitle, start))
            time = start + cue.duration

    @property
    def subtitle_labels(self) -> frozenset[str]:
        """Labels of the subtitle tracks of the output streams."""
        return frozenset(rendition.label for each in self._on_air for rendition in subtitles_of(each).renditions)

    @property
    def _on_air(self) -> list[OutputStream]:
        outputs = self.outputs.by_name.values() if self.outputs is not None else ()
        return [each.output for each in outputs if each.output is not None]

    def _now(self) -> int:
        if self._closed or self._stream is None or not (self._newest is not None or self._stream.raw):
            raise Unavailable(f"stream {self.label} has given no media yet")
        return self.time

    def _inject(self, packet: EventPacket) -> None:
        outputs = list(self.outputs.by_name.values()) if self.outputs is not None else []
        if sum(each.inject(packet) for each in outputs) == 0:
            raise Unavailable(f"no output stream of {self.label} is on the air")

    def close(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        log.info("input off stream=%s reason=%r", self.label, reason)
        if self._stream is not None:
            self._stream.close()
        if self.outputs is not None:
            self.outputs.close()
        self._on_close(self, reason)

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        self._cancel_callbacks.append(callback)

    def cancel(self, reason: str) -> None:
        """End this input from the engine's side: its provider is told, then it is closed."""
        callbacks, self._cancel_callbacks = self._cancel_callbacks, []
        for callback in callbacks:
            callback(reason)
        self.close(reason)


def _described(track: Track) -> str:
    if track.is_video:
        return f"{track.codec}:{track.width}x{track.height}"
    if track.is_audio:
        return f"{track.codec}:{track.sample_rate}/{track.channels}"
    return str(track.codec)
