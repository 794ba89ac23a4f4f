"""Does one encoder really encode? ``python -m appliance.transcoder.worker.probe ENCODER CODEC SECONDS`` tells in JSON.

Opening proves nothing: some encoders open without their hardware, or fail at the first frame. So frames go in, what
comes out is decoded by a software decoder, and the pictures are compared. The caller keeps the deadline; this process
ends itself a little later than that, should the caller be gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from appliance.errors import KilnError, WorkerFault
from appliance.media.track import Codec
from appliance.transcoder.spec import RenditionSpec
from appliance.transcoder.worker.bitstream import Canonical
from appliance.transcoder.worker.pattern import PatternPicture
from appliance.transcoder.worker.picture_encoder import picture_graph
from appliance.transcoder.worker.video_encoder import VideoSettings, open_video_encoder, pixel_format, reason

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    AnyPacket: TypeAlias = Packet[Any]

WIDTH, HEIGHT, FRAMES, RATE = 640, 360, 40, Fraction(30)
BITRATE = 1_500_000
#: Mean difference of luma (of 255) over which a decoded picture is not the one that went in.
TOO_DIFFERENT = 12.0
_DECODERS = {Codec.H264: "h264", Codec.H265: "hevc", Codec.VP8: "vp8", Codec.VP9: "vp9", Codec.AV1: "libdav1d"}
#: Every so many-th pixel is compared.
_STEP = 97


def luma(frame: VideoFrame) -> bytes:
    """Some of the brightness of the picture, in a fixed raster."""
    plane = frame.planes[0]
    view = memoryview(plane)
    rows = range(3, frame.height, 7)
    return b"".join(bytes(view[row * plane.line_size : row * plane.line_size + frame.width]) for row in rows)[::_STEP]


def encode(name: str, codec: Codec) -> tuple[list[bytes], bytes, list[bytes], float]:
    """Canonical payloads, the codec configuration, what the pictures looked like, and frames a second."""
    spec = RenditionSpec(id=0, input_id=0, kind="video", codec=codec, bitrate=BITRATE, preset="faster")
    context = open_video_encoder(name, VideoSettings(spec, WIDTH, HEIGHT, RATE, 30))
    pictures = PatternPicture(WIDTH, HEIGHT, RATE)
    frames = [pictures.frame(0, flash=False) for _ in range(FRAMES)]
    graph = picture_graph(frames[0], WIDTH, HEIGHT, pixel_format(name))
    canonical = Canonical(name, codec, context.extradata or b"", float(RATE))
    packets: list[AnyPacket] = []
    began = time.perf_counter()
    for number, frame in enumerate(frames):
        graph.vpush(frame)
        picture = graph.vpull()
        picture.pts = number * 3000
        picture.time_base = Fraction(1, 90000)
        picture.pict_type = PictureType.NONE if number % 30 else PictureType.I
        packets += context.encode(picture)
    packets += context.encode(None)
    rate = FRAMES / (time.perf_counter() - began)
    payloads = []
    for packet in packets:
        canonical.learn(packet)
        payloads.append(bytes(canonical.payload(packet)))
    return payloads, canonical.config, [luma(frame) for frame in frames], rate


def check(payloads: list[bytes], config: bytes, sent: list[bytes], codec: Codec) -> None:
    """Decode and compare. Raises WorkerFault with what is wrong."""
    context = CodecContext.create(_DECODERS[codec], "r")
    assert isinstance(context, VideoCodecContext)
    if config and codec in (Codec.H264, Codec.H265):
        context.extradata = config
    shown: list[VideoFrame] = []
    for payload in payloads:
        shown += context.decode(Packet(payload))
    shown += context.decode(None)
    if len(shown) < len(sent) - 1:
        raise WorkerFault(f"{len(sent)} frames went in, {len(shown)} came out")
    worst = 0.0
    for frame, wanted in zip(shown, sent, strict=False):
        got = luma(frame)
        worst = max(worst, sum(abs(a - b) for a, b in zip(got, wanted, strict=True)) / len(wanted))
    if worst > TOO_DIFFERENT:
        raise WorkerFault(f"what comes out is not what went in (luma differs by {worst:.0f})")


def main(arguments: list[str]) -> None:
    name, codec, seconds = arguments[0], Codec(arguments[1]), float(arguments[2])
    signal.alarm(int(seconds) + 1)
    os.environ.setdefault("SVT_LOG", "1")
    result: dict[str, object]
    try:
        if name not in av.codecs_available:
            raise WorkerFault("not in this build of FFmpeg")
        payloads, config, sent, rate = encode(name, codec)
        if not payloads:
            raise WorkerFault("no packet came out")
        check(payloads, config, sent, codec)
        result = {"works": True, "reason": "", "fps": rate}
    except (KilnError, FFmpegError, ValueError, OSError) as error:
        result = {"works": False, "reason": reason(error), "fps": 0.0}
    print(json.dumps(result))  # noqa: T201
    sys.stdout.flush()
    # No clean-up: a broken driver may hang in it.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
