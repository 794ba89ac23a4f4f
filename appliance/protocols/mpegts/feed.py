"""A transport stream into an Input: the tracks are waited for, then every frame goes on. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

import msgspec

from appliance.errors import RemoteProtocolError, Unavailable
from appliance.media.contracts import Input
from appliance.media.events import Event
from appliance.media.track import Track
from appliance.protocols.mpegts.demuxer import Damage, Demuxer, Frame

#: A stream goes on air with the tracks it has when so much media has come (s, bytes) and others still lack.
WAIT_FOR_TRACKS: Final = 1.5
#: The same while a picture that the program has lacks its first key frame: some have one every 10 s.
WAIT_FOR_PICTURE: Final = 11.0
WAIT_FOR_BYTES: Final = 24 * 1024 * 1024
#: Bytes without one packet, and the source sends something else.
MOST_GARBAGE: Final = 1024 * 1024


@runtime_checkable
class TakesEvents(Protocol):
    """An input that events can be put into."""

    def inject(self, event: Event) -> None: ...


class AudioName(NamedTuple):
    """What the n-th sound of an input is called (AudioMap)."""

    name: str
    language: str = ""
    characteristics: str = ""


class TransportFeed:
    """``receive`` takes bytes as they come. ``report(reason)`` hears of what is not carried, each once."""

    def __init__(
        self, target: Input, *, audio_names: Sequence[AudioName] = (), report: Callable[[str], None] | None = None
    ) -> None:
        self.target = target
        self.on_air = False
        #: Timed metadata and splice points that found no output stream.
        self.events_lost = 0
        self._demuxer = Demuxer()
        self._names = tuple(audio_names)
        self._report = report or (lambda _: None)
        self._reported: set[str] = set()
        self._waiting: list[Frame] = []
        self._waiting_bytes = 0
        self._first = 0.0
        self._ids: frozenset[int] = frozenset()
        self._renamed: dict[Track, Track] = {}
        self._send = target.send

    @property
    def damage(self) -> Damage:
        """What was wrong with the packets, counted."""
        return self._demuxer.damage

    @property
    def skipped(self) -> int:
        """Frames (and bytes of sound) that could not be read."""
        return self._demuxer.skipped

    def receive(self, data: bytes) -> None:
        """Raises RemoteProtocolError when this is no transport stream, and the errors of the engine."""
        frames = self._demuxer.receive_data(data)
        if frames:
            self._take(frames)
        elif not self.on_air and not self._demuxer.packets and self.damage.garbage > MOST_GARBAGE:
            raise RemoteProtocolError("this is no MPEG transport stream (packets of 188 bytes)")
        if self._demuxer.events:
            self._pass_events()

    def _pass_events(self) -> None:
        events = self._demuxer.events.copy()
        self._demuxer.events.clear()
        if not self.on_air or not isinstance(self.target, TakesEvents):
            return
        for event in events:
            try:
                self.target.inject(event)
            except Unavailable:
                # Nothing to put it among yet, or any longer.
                self.events_lost += 1

    def finish(self) -> None:
        """The source has ended: its last frames are given."""
        frames = self._demuxer.flush()
        if frames:
            self._take(frames)

    @property
    def lacking(self) -> str:
        """Why it is not on the air."""
        demuxer = self._demuxer
        if demuxer.version < 0:
            return "no program map (PMT) came"
        if demuxer.unsupported and not demuxer.tracks:
            return "; ".join(sorted(set(demuxer.unsupported.values())))
        if demuxer.has_video:
            return "no key frame of the picture came"
        return "no track that can be carried: send H.264 or H.265 with AAC, Opus, AC-3, MP2 or MP3"

    def _take(self, frames: list[Frame]) -> None:
        if not self.on_air:
            self._wait(frames)
            return
        names = self._names
        send, ids = self._send, self._ids
        for frame in frames:
            track = frame[0]
            if track.id not in ids:
                self._tell(f"{track.media} {track.codec} that began after the stream was on the air")
            elif names and track.is_audio:
                send(self._named(track), *frame[1:])
            else:
                send(*frame)

    def _wait(self, frames: list[Frame]) -> None:
        demuxer, waiting = self._demuxer, self._waiting
        if not waiting:
            self._first = _seconds(frames[0])
        waiting += frames
        self._waiting_bytes += sum(len(frame.payload) for frame in frames)
        tracks = demuxer.tracks
        started = {frame.track.id for frame in waiting}
        # A picture's track is known with its parameter sets, and it is there with its first key frame.
        complete = demuxer.complete and all(track.id in started for track in tracks if track.is_video)
        patience = WAIT_FOR_TRACKS if demuxer.has_video <= started else WAIT_FOR_PICTURE
        waited = _seconds(frames[-1]) - self._first
        if complete or waited >= patience or self._waiting_bytes >= WAIT_FOR_BYTES:
            self._go_on_air([track for track in tracks if track.id in started or track.is_audio])

    def _go_on_air(self, tracks: list[Track]) -> None:
        waiting, self._waiting = self._waiting, []
        self.on_air = True
        self._ids = frozenset(track.id for track in tracks)
        for number, track in enumerate([track for track in tracks if track.is_audio][: len(self._names)]):
            self._renamed[track] = self._rename(track, self._names[number])
        for reason in sorted(set(self._demuxer.unsupported.values())):
            self._tell(reason)
        self.target.prepare([self._named(track) for track in tracks])
        # Sound from before the first picture would only make the picture wait.
        start = min((_seconds(frame) for frame in waiting if frame.track.is_video), default=0.0)
        self._take([frame for frame in waiting if _seconds(frame) >= start])

    def _named(self, track: Track) -> Track:
        found = self._renamed.get(track)
        if found is None:
            found = track
            for known, named in self._renamed.items():
                if known.id == track.id:
                    found = msgspec.structs.replace(track, public_name=named.public_name, language=named.language,
                                                    characteristics=named.characteristics)  # fmt: skip
                    self._renamed = {key: value for key, value in self._renamed.items() if key.id != track.id}
                    self._renamed[track] = found
                    break
        return found

    @staticmethod
    def _rename(track: Track, item: AudioName) -> Track:
        return msgspec.structs.replace(track, public_name=item.name, language=item.language or track.language,
                                       characteristics=item.characteristics)  # fmt: skip

    def _tell(self, reason: str) -> None:
        if reason not in self._reported:
            self._reported.add(reason)
            self._report(reason)


def _seconds(frame: Frame) -> float:
    return frame.dts / frame.track.timescale
