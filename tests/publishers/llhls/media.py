"""Real coded media for tests: encoded by libav, taken apart into canonical packets, and read back."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track

_ENCODERS = {
    Codec.H264: ("libx264", {"preset": "ultrafast", "bf": "2", "g": "12", "sc_threshold": "0"}),
    Codec.H265: ("libx265", {"preset": "ultrafast", "x265-params": "keyint=12:min-keyint=12:bframes=2:log-level=none"}),
    Codec.AV1: ("libsvtav1", {"preset": "12", "g": "12", "svtav1-params": "log-level=0"}),
    Codec.VP9: ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    Codec.AAC: ("aac", {}),
    Codec.OPUS: ("libopus", {}),
}


@dataclass(frozen=True)
class Sample:
    """What a demuxer sees of one frame; times in seconds."""

    pts: Fraction
    dts: Fraction
    keyframe: bool
    payload: bytes


@cache
def encoded(codec: Codec, frames: int = 60) -> tuple[Track, tuple[Packet, ...]]:
    """``frames`` coded frames (video 30 fps with B-frames where the codec has them, audio 48 kHz) and their track."""
    video = codec not in (Codec.AAC, Codec.OPUS)
    file = io.BytesIO()
    _encode(file, codec, frames, video)
    file.seek(0)
    with av.open(file, "r") as container:
        stream = container.streams[0]
        timescale = 90000 if video else 48000
        track = Track(
            id=0 if video else 1, media=MediaType.VIDEO if video else MediaType.AUDIO, codec=codec, timescale=timescale,
            codec_config=bytes(stream.codec_context.extradata or b""), width=160 if video else 0,
            height=120 if video else 0, frame_rate=30.0 if video else 0.0, sample_rate=0 if video else 48000,
            channels=0 if video else 2, variant="video" if video else "audio", has_b_frames=video,
        )  # fmt: skip
        packets = []
        for packet in container.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            base = packet.time_base
            pts, dts, duration = (
                round(Fraction(value or 0) * base * timescale) for value in (packet.pts, packet.dts, packet.duration)
            )
            packets.append(Packet(track, pts, dts, duration, bool(packet.is_keyframe), bytes(packet)))
    return track, tuple(packets)


def _encode(file: io.BytesIO, codec: Codec, frames: int, video: bool) -> None:
    with av.open(file, "w", format="mp4") as container:
        if video:
            _encode_pictures(container, codec, frames)
        else:
            _encode_sound(container, codec, frames)


def _encode_pictures(container: OutputContainer, codec: Codec, frames: int) -> None:
    name, options = _ENCODERS[codec]
    stream = container.add_stream(name, rate=30, options=dict(options))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    for number in range(frames):
        frame = VideoFrame(160, 120, "yuv420p")
        for index, plane in enumerate(frame.planes):
            plane.update(bytes((number * 7 + index * 31 + at) & 0xFF for at in range(plane.buffer_size)))
        frame.pts = number
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _encode_sound(container: OutputContainer, codec: Codec, frames: int) -> None:
    name, options = _ENCODERS[codec]
    stream = container.add_stream(name, rate=48000, options=dict(options), layout="stereo")
    assert isinstance(stream, AudioStream)
    size = 1024 if codec is Codec.AAC else 960
    for number in range(frames):
        sound = AudioFrame("fltp" if codec is Codec.AAC else "flt", "stereo", size)
        for plane in sound.planes:
            plane.update(bytes(plane.buffer_size))
        sound.sample_rate = 48000
        sound.pts = number * size
        container.mux(stream.encode(sound))
    container.mux(stream.encode(None))


def demuxed(data: bytes) -> list[Sample]:
    """All samples of a (fragmented) MP4 with one track."""
    found = []
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux(container.streams[0]):
            if packet.pts is not None and packet.dts is not None:
                base = packet.time_base
                found.append(Sample(packet.pts * base, packet.dts * base, bool(packet.is_keyframe), bytes(packet)))
    return found


def decoded_frames(data: bytes) -> int:
    """How many frames a decoder makes of it, without an error."""
    with av.open(io.BytesIO(data), "r") as container:
        return len(list(container.decode(container.streams[0])))


def source_samples(packets: tuple[Packet, ...], shift: int = 0) -> list[Sample]:
    """``packets`` as a demuxer should see them, ``shift`` seconds later."""
    return [
        Sample(
            Fraction(packet.pts, packet.track.timescale) + shift,
            Fraction(packet.dts, packet.track.timescale) + shift,
            packet.keyframe,
            packet.payload,
        )
        for packet in packets
    ]
