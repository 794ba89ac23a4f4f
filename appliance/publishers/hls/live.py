"""One output stream as it is on the air over HLS: its renditions, its master playlists, its time."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import trio

from appliance.media.contracts import OutputStream, Playlist, Rendition
from appliance.media.events import Conclusion, EventPacket
from appliance.media.packet import Packet
from appliance.media.playlists import default_playlist, tracks_of_variant
from appliance.media.track import Track
from appliance.net.parking import ParkingLot
from appliance.protocols import hls
from appliance.protocols.fmp4 import codec_string
from appliance.publishers.heads import Cors, Heads
from appliance.publishers.hls.segmenter import SUPPORTED_CODECS, Segmenter, whole_seconds
from appliance.publishers.hls.window import RenditionWindow
from appliance.publishers.numbering import Numbering
from appliance.publishers.rendered import Rendered
from appliance.publishers.wall_time import WallTime
from appliance.settings.models import HlsPublisher as Settings

log = logging.getLogger("kiln.hls")

DEFAULT_PLAYLIST = "playlist"
_BANDWIDTH_UNKNOWN = 1_000_000
_PEAK_RESERVE = 1.1
_OTHER_CODEC_STRINGS = {"MP3": "mp4a.40.34", "AC3": "ac-3"}


class Live:
    """A stream on the air, from its start to one window after its end.

    ``renditions`` by the key in their names; ``ready_lot`` is released with each rendition's first segment.
    """

    def __init__(self, output: OutputStream, settings: Settings, wall: WallTime, numbering: Numbering) -> None:
        self.output = output
        self.label = output.label
        self.settings = settings
        self.wall = wall
        self.numbering = numbering
        self.files: dict[str, object] = {}
        self.ended = False
        self.interrupted = False
        self.left = trio.Event()
        self.ready_lot = ParkingLot()
        self.target_duration = 0
        self.heads = Heads(Cors(settings.cross_domains), settings.cache_control, int(6 * settings.segment_duration))
        self.playlists = playlists_of(output, settings)
        self.renditions: dict[str, RenditionWindow] = {}
        self._segmenters: list[Segmenter] = []
        self._first_number = 0
        self._numbered = 0
        self._version = 0
        self._finished = False
        self._rendered: dict[str, Rendered] = {}
        for playlist in self.playlists.values():
            for rendition in playlist.renditions:
                self._add(rendition)

    @property
    def gone(self) -> bool:
        return self.left.is_set()

    @property
    def window_seconds(self) -> float:
        """How long the longest playlist is."""
        return max((sum(each.duration for each in one.listed) for one in self.renditions.values()), default=0.0)

    @property
    def retained(self) -> int:
        """Bytes of media that are held."""
        return sum(window.retained for window in self.renditions.values())

    def push(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            if self._finished:
                return
            if isinstance(packet, EventPacket) and isinstance(packet.event, Conclusion):
                log.info("concluded stream=%s", self.label)
                self.end()
                return
            for segmenter in self._segmenters:
                segmenter.push(packet)

    def finish(self) -> None:
        """The source stopped: what it gave becomes whole segments."""
        if not self._finished:
            self._finished = True
            for segmenter in self._segmenters:
                segmenter.finish()

    def end(self) -> None:
        """Nothing comes any more: what is there stays, with EXT-X-ENDLIST."""
        self.finish()
        self.ended = True
        self._changed()

    def leave(self) -> None:
        """Off the air: whoever still waits is told so. The files stay."""
        if not self.gone:
            self.finish()
            self.left.set()
            self._changed()

    def abandon(self) -> None:
        """Off the air with everything that it has."""
        self._finished = True
        self.leave()
        self.files.clear()

    # Playlists.

    def media(self, file: str) -> Rendered | None:
        """The media playlist of that name; None when there is no such rendition or nothing in it yet."""
        window = self.renditions.get(file)
        if window is None or not window.started:
            return None
        base = self.numbering.discontinuities
        return self._render(file, lambda: window.text(self.target_duration, base, ended=self.ended))

    def master(self, name: str, query: str) -> Rendered | None:
        """The master playlist with that file name (without ``.m3u8``); None when nothing of it can be played."""
        playlist = self.playlists.get(name)
        if playlist is None:
            return None
        return self._render(f"ts:{name}?{query}", lambda: self._master_text(playlist, query))

    def _render(self, key: str, make: Callable[[], str]) -> Rendered | None:
        made = self._rendered.get(key)
        if made is None or made.version != self._version:
            text = make()
            if not text:
                return None
            if len(self._rendered) > 4 * len(self.renditions) + 32:
                self._rendered.clear()
            made = self._rendered[key] = Rendered(self._version, text.encode())
        return made

    def _master_text(self, playlist: Playlist, query: str) -> str:
        suffix = f"?{query}" if query else ""
        variants = []
        for rendition in playlist.renditions:
            tracks = rendition_tracks(self.output, rendition)
            window = self.renditions.get(_playlist_name(rendition)) if tracks else None
            if window is None or not window.started:
                continue
            video = next((track for track in tracks if track.is_video), None)
            configured = sum(track.bitrate for track in tracks)
            peak = max(configured, int(window.peak_bitrate * _PEAK_RESERVE), window.average_bitrate)
            variants.append(
                hls.Variant(
                    uri=window.playlist_name + suffix,
                    bandwidth=peak or _BANDWIDTH_UNKNOWN,
                    average_bandwidth=window.average_bitrate,
                    codecs=",".join(_codec(track) for track in tracks),
                    width=video.width if video else 0,
                    height=video.height if video else 0,
                    frame_rate=video.frame_rate or 30.0 if video else 0.0,
                )
            )
        return hls.multivariant((), variants, version=hls.SEGMENTS_ALONE_VERSION) if variants else ""

    # Inside.

    def _add(self, rendition: Rendition) -> None:
        tracks = rendition_tracks(self.output, rendition)
        name = _playlist_name(rendition)
        if not tracks or name in self.renditions:
            return
        window = RenditionWindow(
            _key(rendition), self.settings.segment_count, self.files, self._number, self._changed
        )
        self.renditions[name] = window
        self._segmenters.append(
            Segmenter(
                self.label, tracks, window, self.settings.segment_duration, target=lambda: self.target_duration,
                fix_target=self._fix_target, wall_offset=partial(self.wall.offset, self.output.stream.epoch),
            )
        )  # fmt: skip

    def _number(self, index: int) -> int:
        """One sequence of numbers for all renditions: players change between them by it."""
        while self._numbered <= index:
            number = self.numbering.number()
            if not self._numbered:
                self._first_number = number
            self._numbered += 1
        return self._first_number + index

    def _fix_target(self, length: float) -> int:
        self.target_duration = self.target_duration or whole_seconds(length)
        return self.target_duration

    def _changed(self) -> None:
        self._version += 1
        self.ready_lot.release_all()


def playlists_of(output: OutputStream, settings: Settings) -> dict[str, Playlist]:
    """The master playlists by file name: those of the profile that want MPEG-TS, and the automatic one."""
    playlists = {playlist.file_name: playlist for playlist in output.playlists if playlist.enable_ts_packaging}
    if settings.create_default_playlist:
        tracks = output.stream.tracks.values()
        playlists.setdefault(
            DEFAULT_PLAYLIST, default_playlist("hls_default", DEFAULT_PLAYLIST, tracks, SUPPORTED_CODECS)
        )
    return playlists


def rendition_tracks(output: OutputStream, rendition: Rendition) -> list[Track]:
    """What is multiplexed for a rendition: at most one video and one audio track; none where a codec does not fit."""
    tracks = [track for track in output.stream.tracks.values() if track.codec in SUPPORTED_CODECS]
    order = list(output.stream.tracks.values())
    videos = tracks_of_variant(order, rendition.video, video=True)[rendition.video_index : rendition.video_index + 1]
    audios = tracks_of_variant(order, rendition.audio, video=False)[rendition.audio_index : rendition.audio_index + 1]
    return [track for track in (*videos, *audios) if track in tracks]


def _key(rendition: Rendition) -> int:
    text = f"{rendition.video}{rendition.video_index}_{rendition.audio}{rendition.audio_index}"
    return zlib.crc32(text.encode())


def _playlist_name(rendition: Rendition) -> str:
    return f"medialist_{_key(rendition)}_hls.m3u8"


def _codec(track: Track) -> str:
    return _OTHER_CODEC_STRINGS.get(track.codec) or codec_string(track)
