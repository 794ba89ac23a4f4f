"""One publisher on its way to being an input stream: admission, waiting for its tracks, frames."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from appliance.errors import BadRequest, Forbidden, KilnError, NotFound, RemoteProtocolError
from appliance.media.contracts import Directory, Input, Source
from appliance.media.track import Track
from appliance.net.quiet_log import QuietLog
from appliance.protocols.flv import CodecChanged, FlvDemuxer, Frame
from appliance.protocols.rtmp import Address

if TYPE_CHECKING:
    from appliance.settings.models import Application
    from appliance.settings.models.providers import RtmpProvider as RtmpSettings

log = logging.getLogger("kiln.rtmp")

#: A stream goes on air with the tracks it has when its media has run for so long by its own clock (ms), or when so much
#: has gathered.
WAIT_FOR_TRACKS_MS: Final = 1500
WAIT_FOR_TRACKS_MESSAGES: Final = 250
WAIT_FOR_TRACKS_BYTES: Final = 24 * 1024 * 1024


class NothingToCarry(RemoteProtocolError):
    """A publisher that sends no track which this box can carry."""


@dataclass(frozen=True, slots=True)
class Peer:
    """``name`` is ``ip:port``."""

    name: str
    address: str

    @property
    def source(self) -> Source:
        name = self.name
        if ":" in self.address:
            name = f"[{self.address}]:{name.rpartition(':')[2]}"
        return Source("Rtmp", f"TCP://{name}", self.address)


@dataclass(slots=True)
class Admission:
    """What the application grants a publisher."""

    vhost: str
    app: str
    settings: RtmpSettings
    input: Input


def admit(directory: Directory, address: Address, peer: Peer, publishing: Callable[[str, str], int]) -> Admission:
    """Find the application, check the key, take the name. ``publishing(vhost, app)`` counts its RTMP publishers.

    Raises the errors of ``appliance.errors``, whose text the publisher is told.
    """
    vhost = directory.vhost_for_host(address.host)
    if vhost is None:
        raise NotFound(f"there is no virtual host for {address.host!r}")
    application = cast("Application | None", directory.arriving(vhost, address.app))
    if application is None:
        raise NotFound(f"there is no application {address.app!r}")
    settings = application.providers.rtmp
    if settings is None:
        raise Forbidden(f"RTMP is off in application {address.app!r}")
    if not address.stream:
        raise BadRequest("the stream has no name")
    key = settings.publish_key
    if key and not hmac.compare_digest(key.encode(), address.parameter("key").encode("utf-8", "surrogatepass")):
        raise Forbidden("the publish key is missing or wrong")
    if settings.max_connection and publishing(vhost, address.app) >= settings.max_connection:
        raise Forbidden(f"application {address.app!r} takes no more than {settings.max_connection} RTMP publishers")
    taken = directory.open_input(
        vhost, address.app, address.stream, peer.source, replace=not settings.block_duplicate_stream_name
    )
    return Admission(vhost, address.app, settings, taken)


def refusal_code(error: KilnError) -> str:
    """The RTMP status code that goes with ``error``."""
    if error.status == 409:
        return "NetStream.Publish.BadName"
    return "NetStream.Publish.Denied" if error.status == 403 else "NetStream.Publish.Rejected"


@dataclass(slots=True)
class _Waiting:
    """What came before the tracks were known."""

    frames: list[Frame] = field(default_factory=list)
    video: Track | None = None
    bytes: int = 0
    video_messages: int = 0
    audio_messages: int = 0
    first_time: int = -1
    expect_video: bool = True
    expect_audio: bool = True


class Ingest:
    """Feeds one Input with the tags of one peer, ``ip:port``. Everything here is quick and never awaits."""

    def __init__(self, target: Input, peer: str) -> None:
        self.input = target
        self.label = target.label
        self.peer = peer
        self.broken_tags = 0
        self._demuxer = FlvDemuxer(self._report)
        self._quiet = QuietLog(log)
        self._waiting: _Waiting | None = _Waiting()
        self._video_wanted = False
        self._audio_wanted = False
        self._video_started = False
        self._late: set[str] = set()
        self._send = target.send

    @property
    def on_air(self) -> bool:
        """Whether the tracks are known and frames go out."""
        return self._waiting is None

    def metadata(self, values: Mapping[str, object]) -> None:
        self._demuxer.metadata(values)
        waiting = self._waiting
        if waiting is None:
            return
        video = "videocodecid" in values or "width" in values
        audio = "audiocodecid" in values or "audiosamplerate" in values
        if video or audio:
            waiting.expect_video, waiting.expect_audio = video, audio

    def video(self, timestamp: int, body: bytes) -> None:
        """Raises NothingToCarry and CodecChanged."""
        try:
            frame = self._demuxer.video_tag(timestamp, body)
        except CodecChanged:
            raise
        except RemoteProtocolError as error:
            self._broken("video", error)
            frame = None
        waiting = self._waiting
        if waiting is not None:
            waiting.video_messages += 1
            self._wait(waiting, timestamp, frame)
        elif frame is not None:
            if not self._video_started:
                if not self._starts_video(frame):
                    return
                self._video_started = True
            self._send(*frame)

    def audio(self, timestamp: int, body: bytes) -> None:
        """Raises NothingToCarry and CodecChanged."""
        try:
            frame = self._demuxer.audio_tag(timestamp, body)
        except CodecChanged:
            raise
        except RemoteProtocolError as error:
            self._broken("audio", error)
            frame = None
        waiting = self._waiting
        if waiting is not None:
            waiting.audio_messages += 1
            self._wait(waiting, timestamp, frame)
        elif frame is not None:
            if self._audio_wanted:
                self._send(*frame)
            else:
                self._too_late(frame[0])

    def close(self, reason: str) -> None:
        self.input.close(reason)

    def _wait(self, waiting: _Waiting, timestamp: int, frame: Frame | None) -> None:
        if frame is not None:
            track = frame[0]
            # A key frame may bring news of its configuration: the track is known with the first one, not before.
            if waiting.video is None and frame[3] and track.is_video:
                waiting.video = track
            if waiting.video is not None or track.is_audio:
                waiting.frames.append(frame)
                waiting.bytes += len(frame[4])
        if waiting.first_time < 0:
            waiting.first_time = timestamp
        demuxer = self._demuxer
        video, audio = waiting.video, demuxer.audio
        complete = (video is not None or demuxer.video_refused or not waiting.expect_video) and (
            audio is not None or demuxer.audio_refused or not waiting.expect_audio
        )
        if not complete and not self._waited_enough(waiting, timestamp):
            return
        tracks = [track for track in (video or demuxer.video, audio) if track is not None]
        if tracks:
            self._go_on_air(waiting, tracks)
        elif complete or max(waiting.video_messages, waiting.audio_messages) >= WAIT_FOR_TRACKS_MESSAGES:
            raise NothingToCarry("no track that can be carried: send H.264, H.265, AV1 or VP9 with AAC or Opus")

    def _waited_enough(self, waiting: _Waiting, timestamp: int) -> bool:
        return (
            (timestamp - waiting.first_time) & 0xFFFFFFFF in range(WAIT_FOR_TRACKS_MS, 0x80000000)
            or waiting.video_messages >= WAIT_FOR_TRACKS_MESSAGES
            or waiting.audio_messages >= WAIT_FOR_TRACKS_MESSAGES
            or waiting.bytes >= WAIT_FOR_TRACKS_BYTES
        )

    def _go_on_air(self, waiting: _Waiting, tracks: list[Track]) -> None:
        self._waiting = None
        self._video_wanted = any(track.is_video for track in tracks)
        self._audio_wanted = any(track.is_audio for track in tracks)
        self.input.prepare(tracks)
        self._video_started = waiting.video is not None
        for frame in waiting.frames:
            self._send(*frame)

    def _starts_video(self, frame: Frame) -> bool:
        if not self._video_wanted:
            self._too_late(frame[0])
            return False
        return frame[3]

    def _too_late(self, track: Track) -> None:
        if track.media not in self._late:
            self._late.add(track.media)
            self._report(f"{track.media} {track.codec} that began after the stream was on the air")

    def _report(self, reason: str) -> None:
        log.warning("not carried stream=%s peer=%s reason=%r", self.label, self.peer, reason)

    def _broken(self, kind: str, error: RemoteProtocolError) -> None:
        self.broken_tags += 1
        self._quiet.log(logging.WARNING, kind, "broken %s tag left out stream=%s peer=%s reason=%r",
                        kind, self.label, self.peer, str(error))  # fmt: skip
