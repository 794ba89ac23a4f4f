"""A subtitle track: the same segments and parts as the track that it goes with, with the cues of their time."""

from __future__ import annotations

from collections.abc import Callable

from appliance.media.events import Subtitle
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols import webvtt
from appliance.publishers.llhls.window import Boundary, Init, TrackWindow
from appliance.settings.models import SubtitleRendition

VARIANT = "subtitle"
#: Cues that wait for their time, or whose time is not over.
MOST_CUES = 1000


def subtitle_track(track_id: int, rendition: SubtitleRendition) -> Track:
    return Track(
        id=track_id, media=MediaType.SUBTITLE, codec=Codec.WEBVTT, timescale=1000, variant=VARIANT,
        public_name=rendition.label, language=rendition.language,
    )  # fmt: skip


class SubtitleWindow(TrackWindow):
    """``clock`` gives the media time (90 kHz) that stands for time zero of the stream."""

    def __init__(
        self, rendition: SubtitleRendition, track_id: int, key: str, segment_count: int, files: dict[str, object],
        changed: Callable[[TrackWindow], None], clock: Callable[[], int], *, hints: bool,
    ) -> None:  # fmt: skip
        track = subtitle_track(track_id, rendition)
        super().__init__(track, key, segment_count, files, changed, hints=hints)
        self.rendition = rendition
        self.dropped = 0
        self._init = Init("", b"", track)
        self._clock = clock
        self._cues: list[webvtt.Cue] = []
        self._shown: list[webvtt.Cue] = []
        self._time = 0.0

    def say(self, subtitle: Subtitle) -> None:
        """A cue: it is in every part and segment of its time, or in the next part when that is over already."""
        if len(self._cues) >= MOST_CUES:
            self._cues.pop(0)
            self.dropped += 1
        end = subtitle.start + max(1, subtitle.duration)
        self._cues.append(webvtt.Cue(subtitle.start, end, subtitle.text, subtitle.settings))

    def open(self, boundary: Boundary, pts: int, timescale: int) -> None:
        super().open(boundary, pts, timescale)
        self._time = pts / timescale
        self._shown = []

    def mirror(self, duration: float, part_target: float, *, ends: bool) -> None:
        """The track that this one goes with has one more part of ``duration`` seconds."""
        self.part_target = part_target
        self._time += duration
        until = self._time * 1000
        now = [cue for cue in self._cues if cue.start < until]
        if now:
            self._shown += [cue for cue in now if cue not in self._shown]
            self._cues = [cue for cue in self._cues if cue.end > until]
        self.add(webvtt.document(now, self._clock()), duration, True, ends=ends)

    def close(self) -> Boundary | None:
        if self.current is not None:
            self.current.body = webvtt.document(self._shown, self._clock())
        return super().close()
