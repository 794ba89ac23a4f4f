"""An open video or image encoder with the filters before it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from av.filter.graph import Graph
from av.video.frame import PictureType, VideoFrame

from appliance.transcoder.spec import VIDEO_TIMESCALE, EncodedTrack, RenditionSpec, output_size
from appliance.transcoder.worker.bitstream import Canonical
from appliance.transcoder.worker.grid import FrameSlots, key_frame_interval
from appliance.transcoder.worker.video_encoder import (
    THREADED,
    VideoSettings,
    open_video_encoder,
    pixel_format,
    reorder_delay,
)

if TYPE_CHECKING:
    from typing import Any

    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext


class Work(NamedTuple):
    frame: VideoFrame
    time: int
    keyframe: bool
    since: int


class PictureEncoder:
    """An open encoder with the filter graph before it, for pictures of one size and format."""

    def __init__(
        self, names: tuple[str, ...], candidate: int, spec: RenditionSpec, slots: FrameSlots, frame: VideoFrame,
        least_threads: int,
    ) -> None:  # fmt: skip
        self.names = names
        self.candidate = candidate
        self.name = names[candidate]
        self._slots = slots
        self._skip = max(0, spec.skip_frames)
        # What comes at most; automatic skipping makes it fewer.
        rate = slots.rate / (self._skip + 1)
        self._shape = (frame.width, frame.height, frame.format.name)
        width, height = output_size(spec, frame.width, frame.height)
        frames = max(1, round(key_frame_interval(spec, slots.rate) * slots.rate))
        settings = VideoSettings(spec, width, height, rate, frames, least_threads)
        self.threads = settings.threads if self.name in THREADED else 0
        self._context: VideoCodecContext = open_video_encoder(self.name, settings)
        self._graph = picture_graph(frame, width, height, pixel_format(self.name))
        self._bitrate = spec.bitrate
        self._spec = spec
        self._rate = rate
        self._size = (width, height)
        self._announced = False
        self._tick = Fraction(1, VIDEO_TIMESCALE)
        # Frames that would get a negative decoding time are left out: the timeline begins at zero.
        delayed = reorder_delay(self._context, settings.b_frames)
        self._has_b_frames = delayed > 0
        self._earliest = delayed * round(VIDEO_TIMESCALE / rate)
        self.canonical = Canonical(self.name, spec.codec, self._context.extradata or b"", float(rate))

    def takes(self, frame: VideoFrame, slots: FrameSlots | None) -> bool:
        """Get ready for pictures like ``frame``; False when they would come out in another size or frame rate."""
        if slots is not None and slots.rate != self._slots.rate:
            return False
        shape = (frame.width, frame.height, frame.format.name)
        if shape != self._shape:
            if output_size(self._spec, frame.width, frame.height) != self._size:
                return False
            self._graph = picture_graph(frame, *self._size, pixel_format(self.name))
            self._shape = shape
        return True

    def set_bitrate(self, bitrate: int) -> bool:
        """Change it in flight; False when that needs a new encoder (above what the rate buffer was opened for)."""
        if self.name != "libx264" or bitrate > self._bitrate:
            return False
        self._context.bit_rate = bitrate
        return True

    def encode(self, work: Work) -> list[Packet[Any]]:
        if work.time < self._earliest:
            return []
        self._graph.vpush(work.frame)
        picture = self._graph.vpull()
        picture.pts = work.time
        picture.time_base = self._tick
        # What the source's encoder chose for this frame is none of ours.
        picture.pict_type = PictureType.I if work.keyframe else PictureType.NONE
        return self._context.encode(picture)

    def finish(self) -> list[Packet[Any]]:
        return self._context.encode(None)

    def duration_at(self, at: int, skip: int) -> int:
        """Ticks up to the next frame when of ``skip + 1`` frames one is taken; 0 when skipping is automatic now."""
        if skip <= 0:
            return self._slots.duration
        return self._slots.step_from(self._slots.slot_at(at), skip) if skip == self._skip else 0

    def announcement(self, packet: Packet[Any]) -> EncodedTrack | None:
        """What to say before ``packet``: the track, once, and again with a new codec configuration."""
        if not self.canonical.learn(packet) and self._announced:
            return None
        self._announced = True
        return EncodedTrack(
            id=self._spec.id,
            codec_config=self.canonical.config,
            width=self._size[0],
            height=self._size[1],
            frame_rate=float(self._rate),
            has_b_frames=self._has_b_frames,
            codec_string=self.canonical.codec_string,
            encoder=self.name,
        )


def picture_graph(frame: VideoFrame, width: int, height: int, pixels: str) -> Graph:
    """From pictures like ``frame`` to the encoder's size and pixel format; no copy where both are the same."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, VIDEO_TIMESCALE)
    )
    nodes = [source]
    if (frame.width, frame.height) != (width, height):
        nodes.append(graph.add("scale", f"{width}:{height}:flags=bicubic"))
    nodes += [graph.add("format", f"pix_fmts={pixels}"), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph
