"""One playlist of one output stream as a transport stream: packetised once, the same bytes to every caller."""

from __future__ import annotations

import logging
from typing import Final

import trio

from appliance.errors import BadRequest
from appliance.media.contracts import OutputStream, Playlist
from appliance.media.events import EVENT_TRACK
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.net.quiet_log import QuietLog
from appliance.net.srt import SrtError, SrtSocket
from appliance.protocols.mpegts.carriage import SUPPORTED_CODECS
from appliance.protocols.mpegts.muxer import Muxer

log = logging.getLogger("kiln.srt")

#: The playlist that is always there (wire catalogue 6.4).
DEFAULT_PLAYLIST: Final = "playlist"
CARRIED: Final = SUPPORTED_CODECS - {Codec.ID3}
#: What a newcomer is given at once: all since the last key frame, unless it is more than this.
_MOST_CACHED: Final = 16 * 1024 * 1024
#: What may wait for one caller when libsrt takes no more.
_MOST_WAITING: Final = 1024 * 1024
#: A caller that is this much behind what its latency allows begins again at a key frame (ms).
_BEHIND_MS: Final = 700
#: After so long it is tried whether it keeps up again (s).
_TRY_AFTER: Final = 1.5
#: How often that is looked at (s).
_LOOK_EVERY: Final = 0.25


class Viewer:
    """One caller. ``give`` never waits: what it can't take is left out up to a key frame, and counted."""

    def __init__(self, socket: SrtSocket, label: str) -> None:
        self.socket = socket
        self.label = label
        self.lapses = 0
        self.left_out = 0
        self.began = trio.current_time()
        self._waiting = b""
        self._skipping = True
        self._look_at = 0.0
        self._dropped = 0
        self._since = trio.current_time()
        #: Begun again just now: what is dropped first is from before.
        self._fresh = False

    def give(self, data: bytes, key: bool) -> int:
        """``data`` is whole transport packets; ``key``: a decoder can start with it. How many bytes went out.

        Raises SrtError when the caller is gone.
        """
        if self._skipping:
            if not key or not self._may_go_on():
                self.left_out += len(data)
                return 0
            self._skipping, self._fresh = False, True
            self._look_at = trio.current_time() + _LOOK_EVERY
        elif self._lags():
            self.lapses += 1
            self._waiting = b""
            self._skipping, self._since = True, trio.current_time()
            self.left_out += len(data)
            return 0
        whole = self._waiting + data if self._waiting else data
        sent = self.socket.send_nowait(whole)
        self._waiting = whole[sent:]
        return sent

    def _lags(self) -> bool:
        if len(self._waiting) > _MOST_WAITING:
            return True
        now = trio.current_time()
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_EVERY
        before, fresh = self._dropped, self._fresh
        self._fresh = False
        return self._is_behind() or (self._dropped > before and not fresh)

    def _may_go_on(self) -> bool:
        """libsrt throws away what is too late only when something new is sent, so a try is due in any case."""
        return not self._is_behind() or trio.current_time() - self._since > _TRY_AFTER

    def _is_behind(self) -> bool:
        statistics = self.socket.statistics()
        self._dropped = statistics.send_dropped
        return statistics.send_buffered > statistics.latency + _BEHIND_MS


class Program:
    """The tracks of a playlist, muxed while somebody watches."""

    def __init__(self, label: str, name: str, tracks: list[Track]) -> None:
        """Raises BadRequest for tracks that can't be carried."""
        self.label = label
        self.name = name
        self.viewers: set[Viewer] = set()
        self._muxer = Muxer(tracks, late_events=True)
        self._ids = frozenset(track.id for track in tracks)
        video = next((track.id for track in tracks if track.is_video), -1)
        self._reference = video if video >= 0 else tracks[0].id
        self._has_video = video >= 0
        self._cache: list[bytes] = []
        self._cached = 0
        self._quiet = QuietLog(log)

    def join(self, viewer: Viewer) -> None:
        """The newcomer begins at the last key frame."""
        self.viewers.add(viewer)
        if self._cache:
            self._give(viewer, b"".join(self._cache), True)

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)

    def packets(self, packets: list[Packet]) -> int:
        """Mux them and hand them to everybody. How many bytes went out, to all together."""
        sent, key = 0, False
        parts: list[bytes] = []
        for packet in packets:
            if packet.track.id not in self._ids and packet.track is not EVENT_TRACK:
                continue
            starts = packet.track.id == self._reference and (packet.keyframe or not self._has_video)
            if starts and self._has_video and parts:
                sent += self._out(b"".join(parts), key)
                parts, key = [], False
            try:
                data = self._muxer.packet(packet)
            except BadRequest as error:
                self._quiet.log(logging.WARNING, "mux", "not carried stream=%s playlist=%s reason=%r", self.label,
                                self.name, str(error))  # fmt: skip
                continue
            key = key or starts
            parts.append(data)
        if parts:
            sent += self._out(b"".join(parts), key)
        return sent

    def _out(self, data: bytes, key: bool) -> int:
        self._keep(data, key)
        return sum(self._give(viewer, data, key) for viewer in tuple(self.viewers))

    def _keep(self, data: bytes, key: bool) -> None:
        if not self._has_video:
            return
        if key:
            self._cache, self._cached = [], 0
        elif not self._cache:
            return
        self._cache.append(data)
        self._cached += len(data)
        if self._cached > _MOST_CACHED:
            self._cache, self._cached = [], 0

    def _give(self, viewer: Viewer, data: bytes, key: bool) -> int:
        lapses = viewer.lapses
        try:
            sent = viewer.give(data, key)
        except SrtError as error:
            log.debug("player gone stream=%s peer=%s reason=%s", self.label, viewer.socket.peer, error)
            self.leave(viewer)
            viewer.socket.close()
            return 0
        if viewer.lapses > lapses:
            self._quiet.log(logging.WARNING, viewer.socket.peer, "player too slow stream=%s peer=%s lapses=%d",
                            self.label, viewer.socket.peer, viewer.lapses)  # fmt: skip
        return sent


def tracks_of(output: OutputStream, playlist: str) -> list[Track] | None:
    """The tracks that a caller of ``playlist`` gets: of its first rendition that can be carried; None when there is no
    such playlist. [] when none of its tracks can be carried."""
    carried = [track for track in output.stream.tracks.values() if track.codec in CARRIED]
    configured = _configured(output, playlist)
    if configured is None:
        if playlist != DEFAULT_PLAYLIST:
            return None
        video = next((track for track in carried if track.is_video), None)
        audio = next((track for track in carried if track.is_audio), None)
        return [track for track in (video, audio) if track is not None]
    for rendition in configured.renditions:
        video = _variant([track for track in carried if track.is_video], rendition.video, rendition.video_index)
        audio = _variant([track for track in carried if track.is_audio], rendition.audio, rendition.audio_index)
        if (video or not rendition.video) and (audio or not rendition.audio) and (video or audio):
            return [track for track in (video, audio) if track is not None]
    return []


def _configured(output: OutputStream, name: str) -> Playlist | None:
    return next((each for each in output.playlists if each.file_name == name and each.enable_ts_packaging), None)


def _variant(tracks: list[Track], variant: str, index: int) -> Track | None:
    if not variant:
        return None
    matching = [track for track in tracks if track.variant == variant]
    return matching[index] if index < len(matching) else None
