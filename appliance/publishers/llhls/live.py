"""One output stream as it is on the air: its tracks' windows, its names, its time, and who waits for what."""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import string
from collections.abc import Iterable, Sequence
from functools import partial

import trio

from appliance.media.contracts import OutputStream, Playlist
from appliance.media.events import Conclusion, Event, Subtitle
from appliance.media.packet import Packet
from appliance.media.playlists import default_playlist, tracks_of_variant
from appliance.media.track import Track
from appliance.net.parking import ParkingLot
from appliance.protocols.fmp4 import SUPPORTED_CODECS
from appliance.protocols.mpegts.muxer import CLOCK
from appliance.publishers.heads import Cors, Heads
from appliance.publishers.llhls.dvr import Dvr
from appliance.publishers.llhls.packager import Packager
from appliance.publishers.llhls.playlists import Playlists
from appliance.publishers.llhls.subtitles import SubtitleWindow
from appliance.publishers.llhls.tracks import TrackPackager
from appliance.publishers.llhls.viewers import Viewers
from appliance.publishers.llhls.window import TrackWindow
from appliance.publishers.numbering import Numbering
from appliance.publishers.subtitles import subtitles_of
from appliance.publishers.wall_time import WallTime
from appliance.settings.models import LLHlsPublisher as Settings

log = logging.getLogger("kiln.llhls")

DEFAULT_PLAYLIST = "llhls"
#: What users type.
USUAL_PLAYLIST = "master"
_KEY_LETTERS = string.ascii_letters + string.digits


class Live:
    """A stream on the air, from its start to one window after its end.

    ``finish`` when the source stops, ``end`` when no new life came in time, ``leave`` when one takes its place:
    ``gone``. ``interrupted`` when it had to stop before its source did.

    ``playlists`` are the master playlists by file name (without ``.m3u8``), ``windows`` the packaged tracks by id,
    ``files`` everything that can be fetched by name. ``ready`` is released when the first playlist can be answered,
    ``lots[track id]`` whenever that track has something new. ``version`` counts the changes.
    """

    def __init__(
        self, output: OutputStream, settings: Settings, wall: WallTime, numbering: Numbering, dvr: Dvr | None = None
    ) -> None:
        self.output = output
        self.label = output.label
        self.settings = settings
        self.numbering = numbering
        self.wall = wall
        self.key = _stream_key(output, origin_mode=settings.origin_mode)
        self.version = 0
        self.ended = False
        self.interrupted = False
        self.left = trio.Event()
        self.ready_lot = ParkingLot()
        self.files: dict[str, object] = {}
        self.target_duration = 0
        self.hold_back = settings.part_hold_back
        self.viewers = Viewers()
        self.playlists = playlists_of(output, settings)
        used = used_tracks(self.playlists.values(), output)
        self.windows: dict[int, TrackWindow] = {}
        self.lots: dict[int, ParkingLot] = {}
        for track in used:
            window = TrackWindow(
                track, self.key, settings.segment_count, self.files, self._window_changed,
                hints=settings.enable_preload_hint, names_by_content=settings.origin_mode,
            )  # fmt: skip
            self.windows[track.id] = window
            self.lots[track.id] = ParkingLot()
        self.packager = Packager(
            self.label,
            [TrackPackager(track, self.windows[track.id], settings.chunk_duration) for track in used],
            settings.segment_duration,
            number=numbering.number,
            wall_offset=partial(wall.offset, output.stream.epoch),
            on_target=self._target_fixed,
            on_discontinuity=numbering.discontinuity,
            on_event=self._happened,
        )
        self.subtitles = self._subtitle_windows(used)
        self.dvr = dvr
        if dvr is not None:
            for track_id, window in self.windows.items():
                window.archive = dvr.archive(track_id, self.files)
        self.by_playlist = {window.playlist_name: window for window in self.windows.values()}
        self.rendered = Playlists(self)
        self.legacy = _default_query(settings, "_HLS_legacy", False)
        self.rewind = _default_query(settings, "_HLS_rewind", True)
        self.heads = self._heads()
        #: Set, and another put in its place, when a track has one more whole segment, and at the end.
        self.grown = trio.Event()
        self._segments = 0
        self._ready = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """Its source has stopped or it was concluded: all segments are whole."""
        return self._finished

    @property
    def gone(self) -> bool:
        """Another life has the name, or none."""
        return self.left.is_set()

    @property
    def longest_need(self) -> float:
        """Seconds that its media must stay once no playlist lists it: a segment and the longest playlist it was in."""
        longest = max((window.edge - window.oldest for window in self.windows.values()), default=0.0)
        return longest + self.target_duration

    @property
    def ready(self) -> bool:
        """Playlists can be answered: the target duration is fixed and every track has something to play."""
        return self._ready

    @property
    def discontinuity_base(self) -> int:
        return self.numbering.discontinuities

    @property
    def master_version(self) -> int:
        """Changes when a master playlist may read otherwise: with each whole segment and each new track."""
        return sum(window.completed + window.started for window in self.windows.values())

    @property
    def retained(self) -> int:
        """Bytes of media that are held."""
        return sum(window.retained for window in self.windows.values())

    def playable(self) -> list[TrackWindow]:
        """The tracks that have anything to play, in order."""
        return [window for window in self.windows.values() if window.started]

    def push(self, packets: Sequence[Packet]) -> None:
        if self._finished:
            return
        push = self.packager.push
        for packet in packets:
            push(packet)
            if self.ended:
                return

    def finish(self) -> None:
        """The source stopped: what it gave becomes whole segments. A new life may carry the playlists on."""
        if self._finished:
            return
        self._finished = True
        self.packager.finish()
        self._grow()
        if not self._ready and any(window.started for window in self.windows.values()):
            self._begin()

    def end(self) -> None:
        """Nothing comes any more: what is there stays, with EXT-X-ENDLIST."""
        self.finish()
        self.ended = True
        for window in self.windows.values():
            window.end()
        self.ready_lot.release_all()

    def leave(self) -> None:
        """Off the air: no number is taken from here on, and whoever still waits is told so. The files stay."""
        if self.gone:
            return
        self.finish()
        self.left.set()
        self.version += 1
        self.ready_lot.release_all()
        for lot in self.lots.values():
            lot.release_all()

    def abandon(self) -> None:
        """Off the air with everything that it has, whatever state it is in."""
        self._finished = True
        self.leave()
        self.files.clear()
        # What points at each other is not freed until the collector comes by, which may be minutes: not the media too.
        for window in self.windows.values():
            window.let_go()

    def _subtitle_windows(self, used: Sequence[Track]) -> dict[str, SubtitleWindow]:
        """By label. They go with the first video track, else the first track."""
        wanted = subtitles_of(self.output)
        self.default_subtitle = wanted.default_label
        made: dict[str, SubtitleWindow] = {}
        if not used:
            return made
        first = next((track for track in used if track.is_video), used[0])
        leader = self.packager.tracks[first.id]

        def clock() -> int:
            return leader.shift * CLOCK // leader.timescale

        track_id = max(self.output.stream.tracks) + 1
        for rendition in wanted.renditions:
            if rendition.label not in made:
                window = made[rendition.label] = SubtitleWindow(
                    rendition, track_id, self.key, self.settings.segment_count, self.files, self._window_changed, clock,
                    hints=self.settings.enable_preload_hint,
                )  # fmt: skip
                self.windows[track_id] = window
                self.lots[track_id] = ParkingLot()
                leader.window.mirrors.append(window)
                track_id += 1
        return made

    def _happened(self, event: Event) -> None:
        if isinstance(event, Subtitle) and event.label in self.subtitles:
            self.subtitles[event.label].say(event)
        elif isinstance(event, Conclusion):
            log.info("concluded stream=%s", self.label)
            self.end()

    def _target_fixed(self, seconds: int) -> None:
        self.target_duration = seconds
        for window in self.windows.values():
            window.target_duration = seconds
        self.viewers.memory = 3 * seconds
        self.heads = self._heads()
        self._look_if_ready()

    def _window_changed(self, window: TrackWindow) -> None:
        self.version += 1
        # One value for all renditions: a track with longer parts raises it in all of them at once.
        self.hold_back = max(self.hold_back, 3 * window.part_target)
        if not self._ready:
            self._look_if_ready()
        segments = sum(each.completed for each in self.windows.values())
        if segments != self._segments:
            self._segments = segments
            self._grow()
        self.lots[window.track.id].release_all()

    def _grow(self) -> None:
        grown, self.grown = self.grown, trio.Event()
        grown.set()

    def _look_if_ready(self) -> None:
        if self._ready or not self.target_duration or not self.packager.complete:
            return
        if not any(window.started for window in self.windows.values()):
            return
        self._begin()

    def _begin(self) -> None:
        self._ready = True
        self.version += 1
        self.ready_lot.release_all()

    def _heads(self) -> Heads:
        # Names never come back with other bytes; a cache needs them as long as a playlist may list them (draft B).
        life = math.ceil(6 * max(self.settings.segment_duration, self.target_duration))
        return Heads(Cors(self.settings.cross_domains), self.settings.cache_control, life)


def _default_query(settings: Settings, key: str, default: bool) -> bool:
    for query in settings.default_query_string.queries:
        if query.key == key:
            return query.value.upper() == "YES"
    return default


def _stream_key(output: OutputStream, *, origin_mode: bool) -> str:
    """What tells the names of one life from those of the next; in origin mode all origins must agree on it."""
    if origin_mode:
        return str(int.from_bytes(hashlib.sha256(output.name.encode()).digest()[:4], "big"))
    return "".join(secrets.choice(_KEY_LETTERS) for _ in range(8))


def playlists_of(output: OutputStream, settings: Settings) -> dict[str, Playlist]:
    """The master playlists of ``output`` by file name: those of its profile, and the automatic one."""
    playlists = {playlist.file_name: playlist for playlist in output.playlists}
    if settings.create_default_playlist:
        tracks = output.stream.tracks.values()
        automatic = default_playlist("llhls_default", DEFAULT_PLAYLIST, tracks, SUPPORTED_CODECS)
        playlists.setdefault(DEFAULT_PLAYLIST, automatic)
        playlists.setdefault(USUAL_PLAYLIST, automatic)
    return playlists


def used_tracks(playlists: Iterable[Playlist], output: OutputStream) -> list[Track]:
    """The tracks that some rendition plays and LL-HLS can carry: no other one is packaged."""
    tracks = list(output.stream.tracks.values())
    used: set[int] = set()
    for playlist in playlists:
        for rendition in playlist.renditions:
            videos = tracks_of_variant(tracks, rendition.video, video=True)
            used.update(track.id for track in videos[rendition.video_index : rendition.video_index + 1])
            used.update(track.id for track in tracks_of_variant(tracks, rendition.audio, video=False))
    return [track for track in tracks if track.id in used and track.codec in SUPPORTED_CODECS]
