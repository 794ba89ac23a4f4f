"""One live input stream: its timeline, its hub, and the output streams made of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from appliance.engine.hold_rules import HoldRules
from appliance.engine.input_loss import InputLoss
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

    def change_source(self, source: InputStream) -> None:
        """Another input feeds the same hub from now on."""

    def close(self) -> None: ...


MakeOutputs = Callable[["InputStream"], LiveOutputs]
#: Watches an input whose stream is kept when its source fails; None: it ends then.
WatchLoss = Callable[["InputStream"], InputLoss | None]


class InputStream:
    """What a provider feeds (``appliance.media.contracts.Input``). Made by the application, once a source.

    ``prepared`` is set with the first tracks. ``last_packet`` is the monotonic nanosecond of the newest packet of the
    source. ``loss`` keeps the stream when the source fails; None: it ends then.
    """

    def __init__(
        self, vhost: str, app: str, name: str, source: Source, *, clock: Clock, make_outputs: MakeOutputs,
        on_close: Callable[[InputStream, str], None], watch_loss: WatchLoss | None = None,
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
        self.loss: InputLoss | None = None
        self._make_outputs = make_outputs
        self._watch_loss = watch_loss
        self._on_close = on_close
        self._stream: Stream | None = None
        self._timeline: Timeline | None = None
        self._newest: Packet | None = None
        self._cancel_callbacks: list[Callable[[str], None]] = []
        self._closed = False
        #: The stream is that of a source before, and this one's tracks are still to come.
        self._inherited = False

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

    @property
    def abandoned(self) -> bool:
        """Its source has left and the stream is kept: another source may have it."""
        return self.loss is not None and self.loss.gone

    def prepare(self, tracks: Sequence[Track]) -> None:
        if self._closed or (self._stream is not None and not self._goes_not_on(tracks)):
            return
        epoch = self.clock.monotonic()
        self._stream = Stream(self.label, tracks, clock=self.clock, epoch=epoch)
        self._timeline = Timeline(self.clock.monotonic, epoch)
        self.measured = {track.id: Measured(track, self.clock.monotonic) for track in tracks}
        log.info("input on stream=%s source=%s peer=%s tracks=%s", self.label, self.source.kind, self.source.url,
                 ",".join(_described(track) for track in tracks))  # fmt: skip
        self.outputs = self._make_outputs(self)
        self.outputs.open()
        self._watch()

    def _watch(self) -> None:
        if self._watch_loss is not None and self._stream is not None and not self._stream.raw:
            self.loss = self._watch_loss(self)

    def _goes_not_on(self, tracks: Sequence[Track]) -> bool:
        """Whether the stream of the source before has to give way to one with these tracks."""
        if not self._inherited:
            return False
        self._inherited = False
        described = ",".join(_described(track) for track in tracks)
        if self.loss is not None and self.loss.match(tracks):
            log.info("input goes on stream=%s source=%s peer=%s tracks=%s", self.label, self.source.kind,
                     self.source.url, described)  # fmt: skip
            return False
        log.warning("input begins anew, its new source has other tracks stream=%s tracks=%s", self.label, described)
        self._close_stream()
        self._newest = None
        return True

    def inherit(self, before: InputStream, reason: str) -> None:
        """Go on with the stream of ``before``, whose source has left, or is told ``reason`` and put off. The stream
        shows the slate until this source gives its first key frame; with other tracks it begins anew."""
        loss, before.loss, before._closed = before.loss, None, True
        assert loss is not None, "only a stream that is kept can be inherited"
        self._stream, self._timeline, self._newest = before._stream, before._timeline, before._newest
        self.measured, self.outputs, self.created_wall = before.measured, before.outputs, before.created_wall
        self.loss, self._inherited = loss, True
        loss.succeed(self, reason)
        if self.outputs is not None:
            self.outputs.change_source(self)
        before._tell_source(reason)

    def keep_by(self, rules: HoldRules | None) -> None:
        """The settings have changed: how the stream is kept when its source fails, None: not at all."""
        loss = self.loss
        if loss is None:
            if rules is not None and not self._closed:
                self._watch()
        elif rules is not None:
            loss.rules = rules
        elif loss.fault is not None:
            self.cancel("without input, and it is not to be kept any more")
        else:
            self.loss = None
            loss.stop()

    def send(self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int = 0) -> None:
        stream = self._stream
        timeline = self._timeline
        if self._closed or stream is None or timeline is None:
            return
        self.last_packet = now = self.clock.monotonic()
        loss = self.loss
        if loss is not None:
            if track.is_video:
                loss.last_picture = now
                if keyframe:
                    loss.still = payload
            if loss.active:
                loss.take(track, pts, dts, keyframe, payload, duration)
                return
            if loss.renames:
                track = loss.name(track)
        pts, dts, duration = timeline.stamp(track, pts, dts, duration)
        self._publish(stream, Packet(track, pts, dts, duration, keyframe, payload))

    def pass_on(self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int) -> None:
        """A frame of the source that ``loss`` lets through, under the name it has in the hub."""
        stream, timeline = self._stream, self._timeline
        if stream is not None and timeline is not None:
            pts, dts, duration = timeline.stamp(track, pts, dts, duration)
            self._publish(stream, Packet(track, pts, dts, duration, keyframe, payload))

    def put(self, track: Track, time: int, duration: int, keyframe: bool, payload: bytes) -> None:
        """A frame that no source gave, at its time in the stream."""
        if not self._closed and self._stream is not None:
            self._publish(self._stream, Packet(track, time, time, duration, keyframe, payload))

    def _publish(self, stream: Stream, packet: Packet) -> None:
        track = packet.track
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
        """The source has left; the stream ends, or is kept for the next source."""
        loss = self.loss
        if loss is None or not loss.rules.outlives_source:
            self.end(reason)
        elif not loss.gone:
            self._cancel_callbacks = []
            loss.lose(reason, gone=True)

    def lose(self, reason: str) -> None:
        """The source gives nothing for the time being; when it goes on, its clock is another."""
        if self.loss is not None:
            self.loss.lose(reason)

    def end(self, reason: str) -> None:
        """The stream is over, whatever the settings say."""
        if self._closed:
            return
        self._closed = True
        log.info("input off stream=%s reason=%r", self.label, reason)
        self._close_stream()
        self._on_close(self, reason)

    def _close_stream(self) -> None:
        loss, self.loss = self.loss, None
        if loss is not None:
            loss.stop()
        if self._stream is not None:
            self._stream.close()
        if self.outputs is not None:
            self.outputs.close()

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        self._cancel_callbacks.append(callback)

    def cancel(self, reason: str) -> None:
        """End this input from the engine's side: its provider is told, then it is over."""
        # Whoever is told may close it, which must not keep it.
        loss = self.loss
        if loss is not None:
            loss.stop()
            self.loss = None
        self._tell_source(reason)
        self.end(reason)

    def _tell_source(self, reason: str) -> None:
        callbacks, self._cancel_callbacks = self._cancel_callbacks, []
        for callback in callbacks:
            callback(reason)


def _described(track: Track) -> str:
    if track.is_video:
        return f"{track.codec}:{track.width}x{track.height}"
    if track.is_audio:
        return f"{track.codec}:{track.sample_rate}/{track.channels}"
    return str(track.codec)
