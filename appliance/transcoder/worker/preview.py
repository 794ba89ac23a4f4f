"""One key frame as a small picture: ``python -m appliance.transcoder.worker.preview``.

Standard input holds a ``PreviewJob``, standard output gets the picture. The caller keeps the deadline; this process
ends itself a little later than that, should the caller be gone. What is wrong goes to standard error in one line.
"""

from __future__ import annotations

import os
import signal
import sys
from fractions import Fraction

import msgspec
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from appliance.errors import KilnError, WorkerFault
from appliance.transcoder.messages import Frame, MediaFrame
from appliance.transcoder.preview import PreviewJob
from appliance.transcoder.worker.decode import TrackDecoder
from appliance.transcoder.worker.video_encoder import reason

#: What is on the air goes first (nice(2)).
NICE = 10


def picture(job: PreviewJob) -> VideoFrame:
    """The decoded picture in its own size. Raises WorkerFault."""
    decoder = TrackDecoder(job.track, 1)
    frames = decoder.decode(MediaFrame(Frame.PACKET, True, job.track.id, 0, 0, 0, job.payload))
    if not frames:
        frames = decoder.flush()
    shown = next((frame for frame in frames if isinstance(frame, VideoFrame)), None)
    if shown is None:
        raise WorkerFault("no picture comes out of the key frame")
    return shown


def rgb(frame: VideoFrame, width: int, height: int) -> bytes:
    """Rows of RGB triples from the top left, ``width * height * 3`` bytes."""
    plane = frame.reformat(width, height, "rgb24").planes[0]
    view = memoryview(plane)
    return b"".join(bytes(view[row * plane.line_size : row * plane.line_size + 3 * width]) for row in range(height))


def jpeg(frame: VideoFrame, width: int, height: int) -> bytes:
    context = CodecContext.create("mjpeg", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = width, height
    context.pix_fmt = "yuvj420p"
    context.time_base = Fraction(1, 25)
    context.options = {"qmin": "4", "qmax": "4"}
    scaled = frame.reformat(width, height, "yuvj420p")
    scaled.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(scaled), *context.encode(None)])


def main() -> int:
    os.nice(NICE)
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=PreviewJob)
    signal.alarm(int(job.seconds) + 1)
    try:
        frame = picture(job)
        made = rgb(frame, job.width, job.height) if job.format == "rgb" else jpeg(frame, job.width, job.height)
    except (KilnError, FFmpegError, ValueError, OSError) as error:
        print(reason(error), file=sys.stderr)  # noqa: T201
        return 1
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
