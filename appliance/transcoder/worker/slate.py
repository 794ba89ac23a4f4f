"""Black pictures and silence, encoded once so that they can be put in where a source gives none."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
from av.audio.frame import AudioFrame
from av.codec.context import CodecContext
from av.video.frame import VideoFrame

from appliance.errors import BadRequest
from appliance.media.codecs import aac, h264, h265, opus
from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder.demux_messages import MakeSlate
from appliance.transcoder.worker.bitstream import Canonical

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.video.codeccontext import VideoCodecContext

VIDEO_ID, AUDIO_ID = 0, 1
#: Frames of silence made, and how many of the first are left out (they hold the start of the encoder).
SILENT_FRAMES = 12
WARM_UP = 8
_VIDEO_ENCODERS = {Codec.H264: "libx264", Codec.H265: "libx265"}
_AUDIO_ENCODERS = {Codec.AAC: "aac", Codec.OPUS: "libopus", Codec.MP3: "libmp3lame"}
_GLOBAL_HEADER = 1 << 22


def make_slate(job: MakeSlate) -> Iterator[tuple[Track, list[bytes]]]:
    """Tracks (picture 0, sound 1) with their payloads in order. Raises BadRequest for a codec that none is made in."""
    if job.video is not None:
        yield _black(job, job.video)
    if job.audio is not None:
        yield _silence(job, job.audio)


def _black(job: MakeSlate, codec: Codec) -> tuple[Track, list[bytes]]:
    name = _VIDEO_ENCODERS.get(codec)
    if name is None:
        raise BadRequest(f"no black pictures are made in {codec}")
    count = max(1, round(job.rate))
    context: VideoCodecContext = CodecContext.create(name, "w")  # type: ignore[assignment]
    context.width, context.height = job.width, job.height
    context.pix_fmt = "yuv420p"
    rate = Fraction(job.rate).limit_denominator(1001)
    context.framerate, context.time_base = rate, 1 / rate
    context.gop_size = count
    context.max_b_frames = 0
    context.thread_count = 1
    context.flags |= _GLOBAL_HEADER
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "30"}
    if codec is Codec.H264:
        context.options = {**context.options, "profile": "baseline"}
    else:
        context.options = {**context.options, "x265-params": "log-level=none:repeat-headers=0"}
    frame = VideoFrame(job.width, job.height, "yuv420p")
    for plane, level in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    packets = []
    for index in range(count):
        frame.pts = index
        packets.extend(context.encode(frame))
    packets.extend(context.encode(None))
    canonical = Canonical("annexb", codec, bytes(context.extradata or b""), job.rate)
    payloads = [bytes(canonical.payload(packet)) for packet in packets]
    module = h264 if codec is Codec.H264 else h265
    made = module.track_from_config(VIDEO_ID, canonical.config)
    return msgspec.structs.replace(made, frame_rate=job.rate, has_b_frames=False), payloads


def _silence(job: MakeSlate, codec: Codec) -> tuple[Track, list[bytes]]:
    name = _AUDIO_ENCODERS.get(codec)
    if name is None:
        raise BadRequest(f"no silence is made in {codec}")
    context: AudioCodecContext = CodecContext.create(name, "w")  # type: ignore[assignment]
    rate = 48_000 if codec is Codec.OPUS else job.sample_rate
    layout = "mono" if job.channels == 1 else "stereo"
    context.sample_rate = rate
    context.layout = layout
    context.format = "s16" if codec is Codec.OPUS else "fltp"
    context.bit_rate = 64_000
    context.flags |= _GLOBAL_HEADER
    context.open()
    samples = context.frame_size or 1024
    payloads: list[bytes] = []
    for index in range(SILENT_FRAMES):
        frame = AudioFrame(context.format.name, layout, samples)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = rate
        frame.pts = index * samples
        payloads.extend(bytes(packet) for packet in context.encode(frame))
    extradata = bytes(context.extradata or b"")
    kept = payloads[WARM_UP:] or payloads
    if codec is Codec.AAC:
        return aac.track_from_config(AUDIO_ID, extradata), kept
    if codec is Codec.OPUS:
        return opus.track_from_config(AUDIO_ID, extradata), kept
    return Track(id=AUDIO_ID, media=MediaType.AUDIO, codec=codec, timescale=rate, sample_rate=rate,
                 channels=1 if job.channels == 1 else 2, variant="Audio", codec_string="mp4a.40.34"), kept  # fmt: skip
