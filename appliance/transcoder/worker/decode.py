"""Compressed input inside the worker: packets from the engine's socket, decoded once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from av.audio.frame import AudioFrame
from av.codec.context import CodecContext, ThreadType
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from appliance.errors import WorkerFault
from appliance.media.clock import NANOSECONDS
from appliance.media.track import Codec, Track
from appliance.transcoder.messages import Frame, MediaFrame, MediaReceiver, unpack_track
from appliance.transcoder.spec import VIDEO_TIMESCALE, frame_rate_fraction
from appliance.transcoder.worker.graph import Graph, ticks
from appliance.transcoder.worker.video_encoder import reason

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.video.codeccontext import VideoCodecContext

    Context = AudioCodecContext | VideoCodecContext

_DECODERS = {
    Codec.H264: "h264", Codec.H265: "hevc", Codec.VP8: "vp8", Codec.VP9: "vp9", Codec.AV1: "libdav1d",
    Codec.AAC: "aac", Codec.OPUS: "libopus", Codec.MP3: "mp3", Codec.MP2: "mp2", Codec.AC3: "ac3",
    Codec.PCMA: "pcm_alaw", Codec.PCMU: "pcm_mulaw", Codec.JPEG: "mjpeg",
}  # fmt: skip
#: Above this many pixels a second a decoder gets more threads, each of which costs a frame of delay.
_ONE_THREAD_PIXELS = 1920 * 1080 * 75
#: A decoder that refused this many packets in a row is thrown away for a new one.
_REFUSALS = 30
#: How far decoding may fall behind the input for slow encoders, and how long there is no waiting once it has.
PATIENCE_NS = 1_000_000_000
LOST_PATIENCE_NS = 5_000_000_000


class TrackDecoder:
    """Decodes one generation of one track. Bad packets are counted and left out.

    ``threads`` of a video decoder, 0 lets the picture size decide.
    """

    def __init__(self, track: Track, threads: int = 0) -> None:
        self.track = track
        self._threads = threads
        self.errors = 0
        self._refused = 0
        self._waiting_key = track.is_video
        self._time_base = Fraction(1, track.timescale)
        self._context = self._open()

    def _open(self) -> Context:
        track = self.track
        name = _DECODERS.get(track.codec)
        if name is None:
            raise WorkerFault(f"no decoder for {track.codec}")
        try:
            context: Context = CodecContext.create(name, "r")  # type: ignore[assignment]
            if track.codec_config:
                context.extradata = track.codec_config
            if track.is_audio:
                context.sample_rate = track.sample_rate  # type: ignore[union-attr]
                if track.codec in (Codec.PCMA, Codec.PCMU, Codec.OPUS):
                    context.layout = "mono" if track.channels == 1 else "stereo"  # type: ignore[union-attr]
            else:
                many = track.width * track.height * (track.frame_rate or 30) > _ONE_THREAD_PIXELS
                threads = context.thread_count = self._threads or (4 if many else 1)
                context.thread_type = ThreadType.FRAME if threads > 1 else ThreadType.SLICE
            context.open()
        except (FFmpegError, ValueError, OSError) as error:
            raise WorkerFault(f"decoder {name} does not open: {reason(error)}") from None
        return context

    def decode(self, frame: MediaFrame) -> list[VideoFrame] | list[AudioFrame]:
        if self._waiting_key:
            if not frame.keyframe:
                return []
            self._waiting_key = False
        packet = Packet(frame.payload)
        packet.pts = frame.pts
        packet.dts = frame.dts
        packet.time_base = self._time_base
        packet.is_keyframe = frame.keyframe
        try:
            frames = self._context.decode(packet)
        except (FFmpegError, ValueError):
            self.errors += 1
            self._refused += 1
            if self._refused >= _REFUSALS:
                self._refused = 0
                self._context = self._open()
                self._waiting_key = self.track.is_video
            return []
        self._refused = 0
        return frames

    def flush(self) -> list[VideoFrame] | list[AudioFrame]:
        """What the decoder still holds; nothing can be decoded after it."""
        try:
            return self._context.decode(None)
        except (FFmpegError, ValueError):
            self.errors += 1
            return []

    def lapse(self) -> None:
        """Packets are missing from here on: what follows is useless up to a key frame."""
        self._waiting_key = self.track.is_video


class BurstPatience:
    """Tells a burst of input, which encoders may take their time for, from an input that is too much for them."""

    def __init__(self) -> None:
        self._least: int | None = None
        self._lost_at = -LOST_PATIENCE_NS

    def left(self, now: int, media_time: int) -> int:
        """How long (ns) to wait for the encoders with a packet whose dts is ``media_time``; 0 when that is over."""
        delay = now - media_time
        if self._least is None or delay < self._least:
            self._least = delay
        left = PATIENCE_NS - (delay - self._least)
        if left <= 0:
            self._lost_at = now
        return max(0, left) if now - self._lost_at > LOST_PATIENCE_NS else 0


class PacketSource:
    """Reads packets from the media socket and feeds the graph, in one thread (`run`)."""

    def __init__(
        self, media: socket.socket, graph: Graph, emit_from: int, fault: Callable[[str, int | None, bool], None],
        decoder_threads: int = 0,
    ) -> None:  # fmt: skip
        self.consumed_bytes = 0
        self.consumed_packets = 0
        self.consumed_ns = 0
        self.frames = 0
        self.late = 0
        self.fed = 0
        self._media = media
        self._graph = graph
        self._emit_from = emit_from
        self._fault = fault
        self._decoder_threads = decoder_threads
        self._decoders: dict[int, TrackDecoder | None] = {}
        self._past_errors = 0
        self._patience = BurstPatience()

    @property
    def decode_errors(self) -> int:
        return self._past_errors + sum(d.errors for d in list(self._decoders.values()) if d)

    def run(self) -> None:
        """Until the engine closes its end."""
        receiver = MediaReceiver()
        while True:
            try:
                data = self._media.recv(256 * 1024)
            except OSError:
                return
            if not data:
                return
            for frame in receiver.receive_data(data):
                if frame.kind is Frame.PACKET:
                    self._packet(frame)
                elif frame.kind is Frame.TRACK:
                    self._track(unpack_track(frame.payload))
                else:
                    self._lapse(frame.track)

    def _track(self, track: Track) -> None:
        old = self._decoders.get(track.id)
        if old is not None:
            self._past_errors += old.errors
        try:
            self._decoders[track.id] = TrackDecoder(track, self._decoder_threads)
        except WorkerFault as fault:
            self._decoders[track.id] = None
            self._fault(str(fault), None, False)
        if track.is_video and (old is None or old.track.frame_rate != track.frame_rate):
            rate = frame_rate_fraction(track.frame_rate) if 1 <= track.frame_rate <= 240 else None
            self._graph.add_video_input(track.id, rate, adapt=True)

    def _lapse(self, track_id: int) -> None:
        decoder = self._decoders.get(track_id)
        if decoder is not None:
            decoder.lapse()
            if decoder.track.is_video:
                self._graph.video_lapse(track_id)

    def _packet(self, packet: MediaFrame) -> None:
        decoder = self._decoders.get(packet.track)
        if decoder is not None:
            at = packet.dts * NANOSECONDS // decoder.track.timescale
            if decoder.track.is_video:
                left = self._patience.left(time.monotonic_ns(), at)
                if left:
                    self._graph.wait_for_room(packet.track, time.monotonic() + left / NANOSECONDS)
            self._frames(decoder.track, decoder.decode(packet))
            self.consumed_ns = max(self.consumed_ns, at)
        self.consumed_bytes += len(packet.payload)
        self.consumed_packets += 1

    def _frames(self, track: Track, frames: list[VideoFrame] | list[AudioFrame]) -> None:
        for frame in frames:
            if frame.pts is None or frame.time_base is None:
                continue
            self.frames += track.is_video
            if isinstance(frame, VideoFrame):
                at = ticks(frame.pts, frame.time_base)
                if at * NANOSECONDS >= self._emit_from * VIDEO_TIMESCALE:
                    self._graph.video_frame(track.id, frame, at)
            elif frame.pts * frame.time_base * NANOSECONDS >= self._emit_from:
                self._graph.audio_frame(track.id, frame)
