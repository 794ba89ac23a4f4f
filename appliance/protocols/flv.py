"""FLV tag bodies to tracks and frames, and back (FLV 10.1 annex E.4, Enhanced RTMP 2, wire catalogue 5.1 and 5.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.media.clock import rescale
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols.amf0 import EcmaArray
from appliance.protocols.flv_codecs import AUDIO_FORMATS, VIDEO_FORMATS, AudioFormat, VideoFormat
from appliance.protocols.flv_tags import KEY_FRAME, Kind, Tag, Unsupported, composition_time, parse_audio, parse_video

#: Track, pts, dts, key frame, payload, duration: the arguments of ``Input.send``, times in ticks of the track.
Frame = tuple[Track, int, int, bool, bytes, int]


class CodecChanged(RemoteProtocolError):
    """A publisher went over to another codec: that is another stream."""


class FlvDemuxer:
    """Takes the video and audio tags of one publisher in turn and gives frames.

    ``video`` and ``audio`` are the newest Tracks (None until their configuration came); a changed configuration makes
    a Track of the next generation. Times in ms are unwrapped (32 bits), so they run on for as long as it takes.
    ``report`` is called once for each thing that is not carried; ``video_refused`` and ``audio_refused`` tell that a
    codec was among them. All methods raise RemoteProtocolError for a broken tag, which can be left out, and
    CodecChanged, which can't.
    """

    def __init__(self, report: Callable[[str], None], *, video_id: int = 0, audio_id: int = 1) -> None:
        self.video: Track | None = None
        self.audio: Track | None = None
        self.video_refused = False
        self.audio_refused = False
        self._report = report
        self._reported: set[str] = set()
        self._video_id = video_id
        self._audio_id = audio_id
        self._video_number: int | None = None
        self._audio_number: int | None = None
        self._video_format: VideoFormat | None = None
        self._audio_format: AudioFormat | None = None
        self._video_config = b""
        self._audio_config = b""
        self._parameter_sets: tuple[bytes, ...] = ()
        self._length_size = 4
        self._classic_video = -1
        self._classic_audio = -1
        self._frame_rate = 0.0
        self._time = 0
        self._started = False

    def metadata(self, values: Mapping[str, object]) -> None:
        """What onMetaData says; it fills in a frame rate where the video's own configuration has none."""
        for key in ("framerate", "fps"):
            rate = values.get(key)
            if isinstance(rate, float) and 0 < rate <= 300:
                self._frame_rate = rate

    def video_tag(self, timestamp: int, body: bytes) -> Frame | None:
        """A frame, or None for everything else. ``timestamp`` in ms, 32 bits."""
        if len(body) > 5 and body[0] & 0x8F == self._classic_video and body[1] == Kind.FRAME:
            # The way of nearly every tag: classic AVC.
            return self._video_frame(timestamp, composition_time(body, 2), 0, body[0] >> 4 == KEY_FRAME, body[5:])
        frame = None
        try:
            tags = parse_video(body)
        except Unsupported as error:
            self.video_refused = True
            self._once(f"{error} ignored")
            return None
        for tag in tags:
            if self._video_number is None:
                self._video_number = tag.track
            if tag.track != self._video_number:
                self._once(f"video track {tag.track} of a multitrack publisher ignored")
            elif tag.kind is Kind.CONFIG:
                self._video_configuration(tag)
                self._classic_video = body[0] & 0x8F if self.video and not body[0] & 0x80 else -1
            elif tag.kind is Kind.FRAME and self._carried(tag, self._video_format):
                frame = self._video_frame(timestamp, tag.composition, tag.nanoseconds, tag.keyframe, tag.payload)
        return frame

    def audio_tag(self, timestamp: int, body: bytes) -> Frame | None:
        """A frame, or None for everything else. ``timestamp`` in ms, 32 bits."""
        if len(body) > 2 and body[0] >> 4 == self._classic_audio and body[1]:
            return self._audio_frame(timestamp, 0, body[2:])
        frame = None
        try:
            tags = parse_audio(body)
        except Unsupported as error:
            self.audio_refused = True
            self._once(f"{error} ignored")
            return None
        for tag in tags:
            if self._audio_number is None:
                self._audio_number = tag.track
            if tag.track != self._audio_number:
                self._once(f"audio track {tag.track} of a multitrack publisher ignored")
            elif tag.kind is Kind.CONFIG:
                self._audio_configuration(tag)
                self._classic_audio = body[0] >> 4 if self.audio and body[0] >> 4 != 9 else -1
            elif tag.kind is Kind.FRAME and self._carried(tag, self._audio_format):
                frame = self._audio_frame(timestamp, tag.nanoseconds, tag.payload)
        return frame

    def _once(self, reason: str) -> None:
        if reason not in self._reported and len(self._reported) < 64:
            self._reported.add(reason)
            self._report(reason)

    def _carried(self, tag: Tag, current: VideoFormat | AudioFormat | None) -> bool:
        """Whether this frame belongs to the codec whose configuration came."""
        if current is not None and current.four_cc == tag.four_cc:
            return True
        if tag.four_cc in VIDEO_FORMATS or tag.four_cc in AUDIO_FORMATS:
            self._once(f"{tag.four_cc} frames without their configuration ignored")
        return False

    def _video_configuration(self, tag: Tag) -> None:
        form = VIDEO_FORMATS.get(tag.four_cc)
        if form is None:
            self.video_refused = True
            self._once(f"video codec {tag.four_cc!r} ignored")
            return
        if form is self._video_format and tag.payload == self._video_config:
            return
        if self._video_format is not None and form is not self._video_format:
            raise CodecChanged(f"video changed from {self._video_format.four_cc} to {form.four_cc}: publish again")
        generation = self.video.generation + 1 if self.video is not None else 0
        track = form.track(self._video_id, tag.payload, generation)
        self._length_size = form.length_size(tag.payload)
        self._video_format, self._video_config, self._parameter_sets = form, tag.payload, ()
        self.video = self._completed(track)

    def _completed(self, track: Track) -> Track:
        if not track.frame_rate and self._frame_rate:
            track = msgspec.structs.replace(track, frame_rate=self._frame_rate)
        return track

    def _audio_configuration(self, tag: Tag) -> None:
        form = AUDIO_FORMATS.get(tag.four_cc)
        if form is None:
            self.audio_refused = True
            self._once(f"sound codec {tag.four_cc!r} ignored")
            return
        if form is self._audio_format and tag.payload == self._audio_config:
            return
        if self._audio_format is not None and form is not self._audio_format:
            raise CodecChanged(f"sound changed from {self._audio_format.four_cc} to {form.four_cc}: publish again")
        generation = self.audio.generation + 1 if self.audio is not None else 0
        self.audio = form.track(self._audio_id, tag.payload, generation)
        self._audio_format, self._audio_config = form, tag.payload

    def _video_frame(
        self, timestamp: int, composition: int, nanoseconds: int, keyframe: bool, body: bytes
    ) -> Frame | None:
        time = self._unwrapped(timestamp)
        form = self._video_format
        if form is None:
            return None
        payload, keyframe, sets = form.canonical(body, self._length_size, keyframe)
        if sets and sets != self._parameter_sets:
            self._take_parameter_sets(form, sets)
        track = self.video
        if not payload or track is None:
            return None
        if keyframe and not track.width and form.size is not None:
            width, height = form.size(payload)
            self.video = track = msgspec.structs.replace(track, width=width, height=height)
        dts = time * 90 + (nanoseconds * 9 + 50_000) // 100_000
        return track, dts + composition * 90, dts, keyframe, payload, 0

    def _take_parameter_sets(self, form: VideoFormat, sets: tuple[bytes, ...]) -> None:
        """Parameter sets inside the stream may be news to the decoder, whatever the configuration said."""
        self._parameter_sets = sets
        track = self.video
        if track is None or form.updated is None:
            return
        config = form.updated(track.codec_config, sets)
        if config is not track.codec_config:
            self.video = self._completed(form.track(self._video_id, config, track.generation + 1))

    def _audio_frame(self, timestamp: int, nanoseconds: int, payload: bytes) -> Frame | None:
        time = self._unwrapped(timestamp)
        track, form = self.audio, self._audio_format
        if track is None or form is None or not payload:
            return None
        scale = track.timescale
        dts = (time * scale + 500) // 1000
        if nanoseconds:
            dts = (time * 1_000_000 + nanoseconds) * scale // 1_000_000_000
        return track, dts, dts, True, payload, form.duration(payload) if form.duration is not None else 0

    def _unwrapped(self, timestamp: int) -> int:
        """``timestamp`` near the last one, whichever track that was of: RTMP counts 32 bits of ms (49.7 days)."""
        if self._started:
            step = (timestamp - self._time) & 0xFFFFFFFF
            self._time += step - 0x100000000 if step & 0x80000000 else step
        else:
            self._started = True
            self._time = timestamp
        return self._time


class FlvMuxer:
    """Packets to FLV tag bodies, for one video and one audio track: classic AVC and AAC, Enhanced RTMP for the rest.

    Raises ValueError for a codec that FLV can't carry.
    """

    @staticmethod
    def metadata(tracks: list[Track]) -> EcmaArray:
        """What onMetaData should say about ``tracks``."""
        values = EcmaArray()
        for track in tracks:
            if track.media is MediaType.VIDEO:
                values["width"] = float(track.width)
                values["height"] = float(track.height)
                values["videocodecid"] = _codec_number(track)
                if track.frame_rate:
                    values["framerate"] = track.frame_rate
                if track.bitrate:
                    values["videodatarate"] = track.bitrate / 1000
            elif track.media is MediaType.AUDIO:
                values["audiocodecid"] = _codec_number(track)
                values["audiosamplerate"] = float(track.sample_rate)
                values["audiochannels"] = float(track.channels)
                values["stereo"] = track.channels > 1
        values["encoder"] = "Kiln"
        return values

    @staticmethod
    def configuration(track: Track) -> bytes:
        """The tag body that a decoder needs before the first frame of ``track``."""
        if track.codec is Codec.H264:
            return b"\x17\x00\x00\x00\x00" + track.codec_config
        if track.codec is Codec.AAC:
            return b"\xaf\x00" + track.codec_config
        return _enhanced_head(track, KEY_FRAME, 0) + _wire_config(track)

    @staticmethod
    def frame(track: Track, pts: int, dts: int, keyframe: bool, payload: bytes) -> tuple[int, bytes]:
        """The tag's time (ms) and body; ``pts`` and ``dts`` in ticks of ``track``."""
        time = rescale(dts, track.timescale, 1000)
        if track.codec is Codec.AAC:
            return time, b"\xaf\x01" + payload
        frame_type = KEY_FRAME if keyframe else 2
        composition = rescale(pts, track.timescale, 1000) - time
        if track.codec is Codec.H264:
            head = bytes((frame_type << 4 | 7, 1)) + _signed24(composition)
        elif track.codec is Codec.H265 and composition:
            head = _enhanced_head(track, frame_type, 1) + _signed24(composition)
        else:
            head = _enhanced_head(track, frame_type, 3 if track.codec is Codec.H265 else 1)
        return time, head + payload


_FOUR_CC: Final = {Codec.H265: b"hvc1", Codec.AV1: b"av01", Codec.VP9: b"vp09", Codec.OPUS: b"Opus"}


def _enhanced_head(track: Track, frame_type: int, packet_type: int) -> bytes:
    four_cc = _FOUR_CC.get(track.codec)
    if four_cc is None:
        raise ValueError(f"FLV can't carry {track.codec}")
    first = 0x80 | frame_type << 4 | packet_type if track.is_video else 0x90 | packet_type
    return bytes((first,)) + four_cc


def _wire_config(track: Track) -> bytes:
    # VP9's record is a full box on the wire; tracks may have it with or without that head.
    if track.codec is Codec.VP9 and track.codec_config[:4] != b"\x01\x00\x00\x00":
        return b"\x01\x00\x00\x00" + track.codec_config
    return track.codec_config


def _codec_number(track: Track) -> float:
    if track.codec is Codec.H264:
        return 7.0
    if track.codec is Codec.AAC:
        return 10.0
    return float(int.from_bytes(_FOUR_CC.get(track.codec, b"\x00"), "big"))


def _signed24(value: int) -> bytes:
    return max(-0x800000, min(value, 0x7FFFFF)).to_bytes(3, "big", signed=True)
