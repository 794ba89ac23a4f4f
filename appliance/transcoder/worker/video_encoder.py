"""Opens FFmpeg's video and image encoders with the settings of the catalogue (wire catalogue 8.3)."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from av.codec.context import CodecContext, Flags, ThreadType
from av.error import FFmpegError

from appliance.errors import WorkerFault
from appliance.media.track import Codec
from appliance.transcoder.spec import VIDEO_TIMESCALE, RenditionSpec

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

#: Cost of a preset against veryfast, which takes about 13 ms for a 1080p frame on one core.
_PRESET_COST = {
    "ultrafast": 0.5, "superfast": 0.7, "veryfast": 1.0, "faster": 1.6, "fast": 2.2, "medium": 2.7, "slow": 4.5,
    "slower": 9.0, "veryslow": 16.0,
}  # fmt: skip
_VERYFAST_SECONDS_A_PIXEL = 0.013 / (1920 * 1080)
#: A thread is added when one would be busier than this.
_THREAD_LOAD = 0.6
#: Encoders whose threads are ours to choose.
THREADED = ("libx264", "libx265", "libvpx", "libvpx-vp9", "libsvtav1")
MOST_THREADS = min(16, os.cpu_count() or 1)
DEFAULT_PRESET = "faster"
DEFAULT_PROFILE = "baseline"

Options = dict[str, str]


class VideoSettings:
    """What an encoder is opened with: the spec, the size, the frame rate and the frames between key frames.

    ``least_threads``: what a machine turned out to need that is slower than thought.
    """

    def __init__(
        self, spec: RenditionSpec, width: int, height: int, rate: Fraction, key_frames: int, least_threads: int = 1
    ) -> None:
        self._least_threads = least_threads
        self.spec = spec
        self.width = width
        self.height = height
        self.rate = rate
        # Key frames are forced; the encoder's own limit is a safety net of twice that (wire catalogue 8.3).
        self.gop = 2 * max(1, key_frames)
        self.preset = spec.preset or DEFAULT_PRESET
        #: H.264 alone: who asks for B-frames and for no profile gets the first that has them.
        self.profile = spec.profile or ("main" if spec.b_frames > 0 else DEFAULT_PROFILE)
        has_none = spec.codec is Codec.H264 and self.profile == "baseline"
        self.b_frames = 0 if has_none else max(0, spec.b_frames)

    @property
    def threads(self) -> int:
        """Threads for a software encoder; a frame in flight for each would cost latency, so they share the frame."""
        if self.spec.thread_count >= 0:
            return self.spec.thread_count
        share = self.width * self.height * float(self.rate) * _VERYFAST_SECONDS_A_PIXEL
        share *= _PRESET_COST.get(self.preset, 1.0)
        return min(MOST_THREADS, max(self._least_threads, -(-int(share * 100) // int(_THREAD_LOAD * 100)), 1))


def open_video_encoder(name: str, settings: VideoSettings) -> VideoCodecContext:
    """Open FFmpeg's encoder ``name`` (``h264_nvenc:1``: on the second GPU). Raises WorkerFault with the reason."""
    spec = settings.spec
    name, _, device = name.partition(":")
    try:
        context: VideoCodecContext = CodecContext.create(name, "w")  # type: ignore[assignment]
        context.width = settings.width
        context.height = settings.height
        context.sample_aspect_ratio = Fraction(1)
        context.time_base = Fraction(1, VIDEO_TIMESCALE)
        context.framerate = settings.rate
        context.pix_fmt = _PIXEL_FORMATS.get(name, "yuv420p")
        context.options = _OPTIONS.get(name, _hardware)(settings) | ({"gpu": device} if device else {})
        if spec.kind == "video":
            context.bit_rate = spec.bitrate or None
            context.gop_size = settings.gop
            context.flags |= Flags.global_header | Flags.closed_gop
        else:
            context.thread_count = 1
        if name in ("libx264", "libvpx", "libvpx-vp9"):
            context.thread_count = settings.threads
        if name == "mjpeg":
            context.color_range = 2
            context.thread_type = ThreadType.SLICE
        context.open()
    except (FFmpegError, ValueError, OSError) as error:
        raise WorkerFault(f"encoder {name} does not open: {reason(error)}") from None
    return context


def reason(error: Exception) -> str:
    """What libav says in words, without the call and its many arguments."""
    words = getattr(error, "strerror", None) or str(error)
    return "no such hardware or driver" if words.startswith("Unknown error") else words


def pixel_format(name: str) -> str:
    """What an encoder is fed with."""
    return _PIXEL_FORMATS.get(name.partition(":")[0], "yuv420p")


def reorder_delay(context: VideoCodecContext, b_frames: int) -> int:
    """Frames by which an open encoder's decoding times run before its presentation times, 0 without B-frames."""
    if context.name == "libx265":
        # It does not say whether there are any, and leaves room for a pyramid of two levels always.
        return 2 if b_frames else 0
    if not context.has_b_frames:
        return 0
    # The pyramid of x264 has two levels however many there are; NVENC counts them all.
    return min(b_frames, 2) if context.name == "libx264" else b_frames


_PIXEL_FORMATS = {
    "mjpeg": "yuvj420p", "png": "rgb24", "libwebp": "yuv420p", "libsvtav1": "yuv420p",
    "h264_qsv": "nv12", "hevc_qsv": "nv12", "av1_qsv": "nv12", "vp9_qsv": "nv12",
    "h264_amf": "nv12", "hevc_amf": "nv12", "av1_amf": "nv12", "h264_rkmpp": "nv12", "hevc_rkmpp": "nv12",
}  # fmt: skip


def _constant_rate(spec: RenditionSpec) -> Options:
    if not spec.bitrate:
        return {}
    return {"maxrate": str(spec.bitrate), "minrate": str(spec.bitrate), "bufsize": str(spec.bitrate // 2)}


def _x264(settings: VideoSettings) -> Options:
    spec = settings.spec
    private = {
        "annexb": "0",
        "scenecut": "0",
        "keyint": str(settings.gop),
        "open-gop": "0",
        "sliced-threads": "1" if settings.threads != 1 and not settings.b_frames and spec.lookahead <= 0 else "0",
        "bframes": str(settings.b_frames),
    }
    if spec.lookahead > 0:
        private["rc-lookahead"] = str(spec.lookahead)
    return {
        **_constant_rate(spec),
        "preset": settings.preset,
        "tune": "zerolatency",
        "profile": settings.profile,
        "forced-idr": "1",
        "x264-params": ":".join(f"{key}={value}" for key, value in private.items()),
    }


def _x265(settings: VideoSettings) -> Options:
    spec = settings.spec
    private = {
        "annexb": "0",
        "scenecut": "0",
        "keyint": str(settings.gop),
        "open-gop": "0",
        "bframes": str(settings.b_frames),
        "frame-threads": "1",
        "pools": str(settings.threads or "+"),
        "log-level": "error",
    }
    if spec.lookahead > 0 or settings.b_frames:
        # It does not open with less.
        private["rc-lookahead"] = str(max(spec.lookahead, settings.b_frames + 1))
    return {
        **_constant_rate(spec),
        "preset": settings.preset,
        "tune": "zerolatency",
        "forced-idr": "1",
        "x265-params": ":".join(f"{key}={value}" for key, value in private.items()),
    }


def _vpx(settings: VideoSettings) -> Options:
    quality = {"slower": "best", "slow": "best", "medium": "good"}.get(settings.preset, "realtime")
    options = {
        **_constant_rate(settings.spec),
        "deadline": quality,
        "lag-in-frames": str(max(0, settings.spec.lookahead)),
        "auto-alt-ref": "0",
        "cpu-used": "8" if quality == "realtime" else "4",
    }
    if settings.spec.codec is Codec.VP9:
        options["row-mt"] = "1"
    return options


def _svt_av1(settings: VideoSettings) -> Options:
    speed = {"slower": 7, "slow": 8, "medium": 9, "fast": 10, "faster": 11}.get(settings.preset, 12)
    rate = "rc=2:" if settings.spec.bitrate else ""
    return {
        "preset": str(speed),
        "svtav1-params": f"{rate}pred-struct=1:scd=0:lp={max(1, settings.threads)}",
    }


def _hardware(settings: VideoSettings) -> Options:
    return {**_constant_rate(settings.spec), "bf": "0"}


_NVENC_PRESETS = {
    "veryslow": "p7", "slower": "p7", "slow": "p6", "medium": "p5", "fast": "p4", "faster": "p3", "veryfast": "p2",
    "superfast": "p1", "ultrafast": "p1",
}  # fmt: skip


def _nvenc(settings: VideoSettings) -> Options:
    spec = settings.spec
    preset = _NVENC_PRESETS.get(spec.preset, "p4")
    options = {
        **_constant_rate(spec), "rc": "cbr", "preset": preset, "tune": "ull", "forced-idr": "1", "zerolatency": "1",
        "delay": "0", "no-scenecut": "1", "bf": str(settings.b_frames if spec.codec is Codec.H264 else 0),
    }  # fmt: skip
    if spec.codec is Codec.H264:
        options["profile"] = settings.profile
    if spec.lookahead > 0:
        options["rc-lookahead"] = str(spec.lookahead)
    return options


def _qsv(settings: VideoSettings) -> Options:
    spec = settings.spec
    options = {**_constant_rate(spec), "async_depth": "1", "forced_idr": "1", "bf": "0", "low_power": "0"}
    if spec.preset:
        options["preset"] = {"ultrafast": "veryfast", "superfast": "veryfast"}.get(spec.preset, spec.preset)
    if spec.profile and spec.codec is Codec.H264:
        options["profile"] = spec.profile
    return options


def _amf(settings: VideoSettings) -> Options:
    spec = settings.spec
    options = {**_constant_rate(spec), "rc": "cbr", "usage": "ultralowlatency", "forced_idr": "1", "bf": "0"}
    if spec.preset:
        slow, fair = ("veryslow", "slower", "slow"), ("medium", "fast")
        options["quality"] = "quality" if spec.preset in slow else "balanced" if spec.preset in fair else "speed"
    if spec.profile and spec.codec is Codec.H264:
        options["profile"] = {"baseline": "constrained_baseline"}.get(spec.profile, spec.profile)
    return options


def _mjpeg(settings: VideoSettings) -> Options:
    return {"qmin": "2", "qmax": "2"}


def _png(settings: VideoSettings) -> Options:
    return {"compression_level": "1"}


def _webp(settings: VideoSettings) -> Options:
    return {"compression_level": "1", "preset": "default"}


_OPTIONS: dict[str, Callable[[VideoSettings], Options]] = {
    "libx264": _x264, "libx265": _x265, "libvpx": _vpx, "libvpx-vp9": _vpx, "libsvtav1": _svt_av1,
    "h264_nvenc": _nvenc, "hevc_nvenc": _nvenc, "av1_nvenc": _nvenc,
    "h264_qsv": _qsv, "hevc_qsv": _qsv, "av1_qsv": _qsv, "h264_amf": _amf, "hevc_amf": _amf, "av1_amf": _amf,
    "mjpeg": _mjpeg, "png": _png, "libwebp": _webp,
}  # fmt: skip
