"""The media of one RTSP session: RTP and RTCP packets in, frames with times on one clock out. Sans-IO.

Each medium has RTP times of its own, from any start. What puts them on one clock is, in this order: RTP-Info, which
tells where each begins; the sender reports of all media; and when neither has come within PATIENCE, the time at which
their first packets came.
"""

from __future__ import annotations

import base64
import binascii
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from appliance.errors import RemoteProtocolError
from appliance.media.codecs import aac, nal, opus
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols import sdp
from appliance.protocols.mpegts.video import VideoReader
from appliance.protocols.rtp.packet import InOrder, parse_rtp
from appliance.protocols.rtp.payloads import H264, H265, Aac, AccessUnit, Depacketizer, OneFrame
from appliance.protocols.rtp.rtcp import Bye, SenderReport, parse_rtcp, receiver_report

#: Seconds that frames are held until all media are on one clock.
PATIENCE = 2.0
MOST_HELD = 1000
#: Pictures that may be shown before one that comes earlier, where there are B-frames at all.
REORDERED = 2
#: A sender report that is off by more than this is believed over what we had (seconds).
DISAGREEMENT = 0.1

SUPPORTED = frozenset({"H264", "H265", "MPEG4-GENERIC", "OPUS", "PCMU", "PCMA"})


class Frame(NamedTuple):
    """Times in ticks of the track, on the clock that all tracks of the session share."""

    track: Track
    pts: int
    dts: int
    keyframe: bool
    payload: bytes
    duration: int


def supported(media: Sequence[sdp.Media]) -> list[sdp.Media]:
    """The first picture and the first sound that we can receive."""
    chosen: dict[str, sdp.Media] = {}
    for medium in media:
        if medium.kind in ("video", "audio") and medium.encoding in SUPPORTED:
            chosen.setdefault(medium.kind, medium)
    return sorted(chosen.values(), key=lambda medium: medium.kind, reverse=True)


@dataclass(slots=True)
class _Report:
    seconds: float
    ticks: int
    ntp: int
    came: float


class _Medium:
    """One medium: its order, its frames, and how its clock stands to that of the session."""

    def __init__(self, track_id: int, media: sdp.Media, depth: int) -> None:
        self.media = media
        self.order = InOrder(depth)
        self.source = -1
        self.origin: float | None = None
        self.begins: int | None = None
        self.first: tuple[int, float] | None = None
        self.report: _Report | None = None
        self.broken = 0
        self._ticks = 0
        self._depacketizer, self._reader = _readers(track_id, media)

    @property
    def track(self) -> Track | None:
        return self._reader.track

    def receive(self, data: bytes, now: float) -> list[tuple[int, Frame]]:
        """The frames that are whole now, each with its unwrapped RTP time."""
        packet = parse_rtp(data)
        if packet.payload_type != self.media.payload_type:
            return []
        if packet.ssrc != self.source:
            # Another sender, or the same one begun anew: nothing of before goes on.
            self.source, self.order = packet.ssrc, InOrder(self.order.depth)
        frames: list[tuple[int, Frame]] = []
        for due, gap in self.order.push(packet):
            for unit in self._depacketizer.receive(due, gap):
                ticks = self.unwrap(unit.timestamp)
                if self.first is None:
                    self.first = (ticks, now)
                frames += [(ticks, frame) for frame in self._reader.take(unit, ticks)]
        return frames

    def unwrap(self, timestamp: int) -> int:
        if self._ticks == 0:
            self._ticks = (1 << 32) + timestamp
        else:
            self._ticks += ((timestamp - self._ticks + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        return self._ticks

    def near(self, timestamp: int) -> int:
        """The same as ``unwrap`` for a time that is told, not received."""
        return self._ticks + ((timestamp - self._ticks + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


class Receiver:
    """``media`` are those that were set up, in the order of their track ids. ``reordered``: packets may come in any
    order (UDP). ``now`` is monotonic seconds throughout. ``own_ssrc`` names us in reports."""

    def __init__(
        self, media: Sequence[sdp.Media], *, reordered: bool = False, ignore_sender_reports: bool = False,
        own_ssrc: int = 0x4B494C4E,
    ) -> None:  # fmt: skip
        """Raises RemoteProtocolError for parameters that can't be."""
        depth = 64 if reordered else 0
        self._media = [_Medium(number, medium, depth) for number, medium in enumerate(media)]
        self._ignore_reports = ignore_sender_reports
        self._own = own_ssrc
        self._held: list[tuple[_Medium, int, Frame]] = []
        self._aligned = False
        self._since: float | None = None
        self.ended = False

    @property
    def tracks(self) -> list[Track] | None:
        """All tracks; None until every one's configuration is known."""
        tracks = [medium.track for medium in self._media]
        return None if None in tracks else [track for track in tracks if track is not None]

    @property
    def known_tracks(self) -> list[Track]:
        return [medium.track for medium in self._media if medium.track is not None]

    @property
    def lost(self) -> int:
        return sum(medium.order.lost for medium in self._media)

    @property
    def broken(self) -> int:
        return sum(medium.broken for medium in self._media)

    def begin(self, begins: Mapping[int, int]) -> None:
        """RTP-Info: the RTP time at which each medium (by number) begins."""
        for number, timestamp in begins.items():
            self._media[number].begins = timestamp

    def rtp(self, number: int, data: bytes, now: float) -> list[Frame]:
        """An RTP packet of medium ``number``. What is broken is counted and left out."""
        medium = self._media[number]
        try:
            frames = medium.receive(data, now)
        except RemoteProtocolError:
            medium.broken += 1
            return []
        if self._since is None:
            self._since = now
        if self._aligned:
            return [_placed(medium, ticks, frame) for ticks, frame in frames]
        self._held += [(medium, ticks, frame) for ticks, frame in frames]
        return self._release(now)

    def rtcp(self, number: int, data: bytes, now: float) -> list[Frame]:
        """An RTCP packet of medium ``number``."""
        medium = self._media[number]
        try:
            reports = parse_rtcp(data)
        except RemoteProtocolError:
            medium.broken += 1
            return []
        for report in reports:
            if isinstance(report, Bye):
                self.ended = self.ended or report.ssrc == medium.source
            elif medium.first is not None and report.ssrc == medium.source and report.ntp:
                self._note(medium, report, now)
        return [] if self._aligned else self._release(now)

    def reports(self, now: float) -> list[tuple[int, bytes]]:
        """Receiver reports to send: (number of the medium, packet)."""
        out = []
        for number, medium in enumerate(self._media):
            if medium.source < 0:
                continue
            last = medium.report
            out.append((number, receiver_report(
                self._own, medium.source, highest=medium.order.highest, lost=medium.order.lost,
                last_report=last.ntp if last else 0, since_report=now - last.came if last else 0.0,
            )))  # fmt: skip
        return out

    # One clock

    def _note(self, medium: _Medium, report: SenderReport, now: float) -> None:
        medium.report = _Report(report.seconds, medium.near(report.timestamp), report.ntp, now)
        if self._aligned and not self._ignore_reports and all(each.report for each in self._media):
            self._align_by_reports(only_if_off_by=DISAGREEMENT)

    def _release(self, now: float) -> list[Frame]:
        late = (self._since is not None and now - self._since > PATIENCE) or len(self._held) > MOST_HELD
        if not self._align(late):
            return []
        self._aligned = True
        held, self._held = self._held, []
        return [_placed(medium, ticks, frame) for medium, ticks, frame in held]

    def _align(self, late: bool) -> bool:
        heard = [medium for medium in self._media if medium.first is not None]
        if not heard or (len(heard) < len(self._media) and not late):
            return False
        if all(medium.begins is not None for medium in heard):
            for medium in heard:
                assert medium.begins is not None
                medium.origin = medium.near(medium.begins)
        elif len(heard) == 1 or self._ignore_reports:
            self._align_by_arrival(heard)
        elif all(medium.report for medium in heard):
            self._align_by_reports()
        elif late:
            self._align_by_arrival(heard)
        else:
            return False
        for medium in self._media:
            if medium.origin is None and medium.begins is not None:
                medium.origin = medium.near(medium.begins)
        return True

    def _align_by_arrival(self, heard: list[_Medium]) -> None:
        begin = min(medium.first[1] for medium in heard if medium.first)
        for medium in heard:
            assert medium.first is not None
            ticks, came = medium.first
            medium.origin = ticks - (came - begin) * medium.media.clock

    def _align_by_reports(self, only_if_off_by: float = 0.0) -> None:
        """The zero of the session is where the first medium has it; the others follow by the sender's wall clock."""
        told = [medium for medium in self._media if medium.report and medium.first]
        leader = told[0]
        assert leader.report is not None
        assert leader.first is not None
        if leader.origin is None:
            leader.origin = float(leader.first[0])
        zero = leader.report.seconds + (leader.origin - leader.report.ticks) / leader.media.clock
        for medium in told[1:]:
            assert medium.report is not None
            origin = medium.report.ticks + (zero - medium.report.seconds) * medium.media.clock
            if medium.origin is None or abs(origin - medium.origin) > only_if_off_by * medium.media.clock:
                medium.origin = origin


def _placed(medium: _Medium, ticks: int, frame: Frame) -> Frame:
    if medium.origin is None:
        # It came after the others were on one clock, and nothing told where it begins.
        medium.origin = float(ticks)
    # Whole ticks, so that frames keep their distances.
    origin = round(medium.origin)
    return frame._replace(pts=frame.pts - origin, dts=frame.dts - origin)


class _Pictures:
    """Access units of H.264 or H.265 as canonical frames."""

    def __init__(self, track_id: int, media: sdp.Media) -> None:
        self._video = VideoReader(track_id, media.encoding.lower(), 0)
        self._ahead: list[int] = []
        names = ("sprop-parameter-sets",) if media.encoding == "H264" else ("sprop-vps", "sprop-sps", "sprop-pps")
        sets = [unit for name in names for unit in _sets(media.parameters.get(name, ""))]
        if sets:
            self._video.take(nal.join_annexb(sets), 0, 0, False)

    @property
    def track(self) -> Track | None:
        return self._video.track

    def take(self, unit: AccessUnit, ticks: int) -> list[Frame]:
        pictures = self._video.take(nal.join_annexb(unit.parts), ticks, ticks, False)
        return [
            Frame(each.track, each.pts, self._decoding_time(each.track, each.pts), each.keyframe, each.payload, 0)
            for each in pictures
        ]

    def _decoding_time(self, track: Track, pts: int) -> int:
        """RTP has no decoding times: they are the presentation times in ascending order, REORDERED pictures late."""
        if not track.has_b_frames:
            return pts
        heapq.heappush(self._ahead, pts)
        return min(heapq.heappop(self._ahead) if len(self._ahead) > REORDERED else self._ahead[0], pts)


class _Sounds:
    """One frame an access unit; the track is known from the description."""

    def __init__(self, track: Track, samples: int = 0) -> None:
        self.track: Track | None = track
        self._samples = samples

    def take(self, unit: AccessUnit, ticks: int) -> list[Frame]:
        assert self.track is not None
        (payload,) = unit.parts
        if self.track.codec is Codec.OPUS:
            try:
                samples = opus.packet_samples(payload)
            except RemoteProtocolError:
                return []
        else:
            samples = self._samples or len(payload)
        return [Frame(self.track, ticks, ticks, True, payload, samples)]


def _readers(track_id: int, media: sdp.Media) -> tuple[Depacketizer, _Pictures | _Sounds]:
    """Raises RemoteProtocolError for parameters that can't be."""
    match media.encoding:
        case "H264":
            return H264(), _Pictures(track_id, media)
        case "H265":
            return H265(), _Pictures(track_id, media)
        case "MPEG4-GENERIC":
            try:
                config = bytes.fromhex(media.parameters.get("config", ""))
            except ValueError:
                raise RemoteProtocolError("broken AAC configuration") from None
            samples = aac.AudioConfig.parse(config).frame_samples
            track = aac.track_from_config(track_id, config, media.clock)
            return Aac(media.parameters, samples), _Sounds(track, samples)
        case "OPUS":
            config = opus.OpusConfig(media.channels or 2).build_head()
            return OneFrame(), _Sounds(opus.track_from_config(track_id, config))
        case "PCMU" | "PCMA":
            return OneFrame(), _Sounds(Track(
                id=track_id, media=MediaType.AUDIO, codec=Codec(media.encoding), timescale=media.clock,
                sample_rate=media.clock, channels=media.channels or 1, variant="Audio",
            ))  # fmt: skip
    raise RemoteProtocolError(f"{media.encoding} can't be received")


def _sets(text: str) -> list[bytes]:
    units = []
    for part in text.split(","):
        try:
            units.append(base64.b64decode(part.strip(), validate=True))
        except binascii.Error:
            continue
    return [unit for unit in units if unit]
