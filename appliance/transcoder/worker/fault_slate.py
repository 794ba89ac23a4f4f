"""Slates of one form: ``python -m appliance.transcoder.worker.fault_slate``.

Standard input holds a ``SlateJob``, standard output gets a ``Slate``. What is wrong goes to standard error in one line.
"""

from __future__ import annotations

import os
import signal
import sys
from fractions import Fraction

import msgspec
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from appliance.errors import KilnError, WorkerFault
from appliance.transcoder.encoders import SOFTWARE
from appliance.transcoder.fault_slate import LOOP_SECONDS, Slate, SlateForm, SlateJob
from appliance.transcoder.spec import VIDEO_TIMESCALE, RenditionSpec, frame_rate_fraction
from appliance.transcoder.worker.bitstream import Canonical
from appliance.transcoder.worker.pattern import BlockText
from appliance.transcoder.worker.video_encoder import VideoSettings, open_video_encoder, reason

#: What is on the air goes first (nice(2)).
NICE = 15
#: An upper bound: what stands still takes far less.
_BITS_A_PIXEL = 0.05
_GREY, _NEUTRAL, _LIGHT = 48, 128, 180


class FaultPicture:
    """Words on grey, and a block that moves once through the picture in each loop, so that it is seen to live."""

    def __init__(self, width: int, height: int, text: str) -> None:
        self._width, self._height, self._text = width, height, text
        scale = max(2, width // (len(text) * 6) // 2 * 2)
        self._words = BlockText(width, height, len(text), scale=scale, centred=True)
        self._side = max(4, min(width, height) // 24 // 2 * 2)

    def frame(self, step: int, steps: int) -> VideoFrame:
        frame = VideoFrame(self._width, self._height, "yuv420p")
        for plane, level in zip(frame.planes, (_GREY, _NEUTRAL, _NEUTRAL), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        self._words.draw(frame, self._text)
        luma = frame.planes[0]
        view = memoryview(luma)
        left = (self._width - self._side) * step // steps
        top = max(0, self._height - 2 * self._side)
        for line in range(top, min(top + self._side, self._height)):
            at = line * luma.line_size + left
            view[at : at + self._side] = bytes([_LIGHT]) * self._side
        return frame


def make(job: SlateJob) -> Slate:
    """Raises WorkerFault, FFmpegError and what the codecs' parsers raise."""
    config, string = b"", ""
    loops: dict[str, tuple[bytes, ...]] = {}
    for text in job.texts:
        config, string, loops[text] = _loop(job.form, text)
    return Slate(config, string, loops)


def _loop(form: SlateForm, text: str) -> tuple[bytes, str, tuple[bytes, ...]]:
    rate = frame_rate_fraction(form.rate)
    steps = max(1, round(rate * LOOP_SECONDS))
    spec = RenditionSpec(
        id=0, input_id=0, kind="video", codec=form.codec, preset="veryfast", profile=form.profile, thread_count=1,
        bitrate=max(200_000, round(form.width * form.height * form.rate * _BITS_A_PIXEL)),
    )  # fmt: skip
    name = SOFTWARE[form.codec]
    settings = VideoSettings(spec, form.width, form.height, rate, steps)
    context = open_video_encoder(name, settings)
    canonical = Canonical(name, form.codec, context.extradata or b"", form.rate)
    picture = FaultPicture(form.width, form.height, text)
    payloads: list[bytes] = []
    for step in range(steps):
        frame = picture.frame(step, steps)
        frame.pts = int(step * VIDEO_TIMESCALE / rate)
        frame.time_base = Fraction(1, VIDEO_TIMESCALE)
        frame.pict_type = PictureType.NONE if step else PictureType.I
        payloads += _encode(context, frame, canonical)
    payloads += _encode(context, None, canonical)
    if len(payloads) != steps:
        raise WorkerFault(f"{steps} pictures became {len(payloads)}")
    return canonical.config, canonical.codec_string, tuple(payloads)


def _encode(context: VideoCodecContext, frame: VideoFrame | None, canonical: Canonical) -> list[bytes]:
    payloads = []
    for packet in context.encode(frame):
        canonical.learn(packet)
        payloads.append(bytes(canonical.payload(packet)))
    return payloads


def main() -> int:
    os.nice(NICE)
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=SlateJob)
    signal.alarm(int(job.seconds) + 1)
    try:
        made = make(job)
    except (KilnError, FFmpegError, ValueError, OSError) as error:
        print(reason(error), file=sys.stderr)  # noqa: T201
        return 1
    sys.stdout.buffer.write(msgspec.msgpack.encode(made))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
