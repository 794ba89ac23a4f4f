"""Shown while an input gives nothing: a looped group of pictures that names the fault, in the codec of the input.

They are encoded by a one-shot process, long before they are needed, and kept for all inputs of the same form.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

import msgspec
import trio

from appliance.errors import Unavailable
from appliance.media.track import Codec, Track
from appliance.transcoder.pool import worker_environment

log = logging.getLogger("kiln.slate")

#: What a slate may say.
TEXTS = ("NO INPUT", "NO VIDEO", "DECODING FAILED")
CODECS = frozenset({Codec.H264, Codec.H265, Codec.VP8, Codec.VP9, Codec.AV1})
#: One second: short enough for every segment, long enough to cost little.
LOOP_SECONDS = 1
#: Bytes of slates that are kept for inputs to come.
MOST_BYTES = 8 * 1024 * 1024
#: How long the process may take (s), and how long a form that can't be made is left alone.
MAKE_WITHIN = 30.0
TRY_AGAIN = 60.0
DEFAULT_RATE = 30.0


class SlateForm(msgspec.Struct, frozen=True):
    """What a slate has to be like. ``rate`` in frames a second; ``profile`` of H.264."""

    codec: Codec
    width: int
    height: int
    rate: float
    profile: str = ""

    @classmethod
    def of(cls, track: Track, rate: float = 0.0) -> SlateForm:
        """The form that replaces ``track``; ``rate`` is the measured one, for a track that does not tell."""
        told = track.frame_rate if 1 <= track.frame_rate <= 240 else rate if 1 <= rate <= 240 else DEFAULT_RATE
        return cls(track.codec, track.width, track.height, told, _profile(track))


class SlateJob(msgspec.Struct, frozen=True):
    form: SlateForm
    texts: tuple[str, ...] = TEXTS
    seconds: float = MAKE_WITHIN


class Slate(msgspec.Struct, frozen=True):
    """``loops`` are canonical payloads by text; each begins with a key frame and holds ``LOOP_SECONDS``."""

    codec_config: bytes
    codec_string: str
    loops: dict[str, tuple[bytes, ...]]

    @property
    def size(self) -> int:
        return len(self.codec_config) + sum(len(frame) for loop in self.loops.values() for frame in loop)


_slates = msgspec.msgpack.Decoder(Slate)


class Slates:
    """Makes one form at a time. ``now`` tells seconds."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._kept: dict[SlateForm, Slate] = {}
        self._failed: dict[SlateForm, float] = {}
        self._turn: trio.Lock | None = None
        self.made = 0

    def get(self, form: SlateForm) -> Slate | None:
        """The slate, if it is there."""
        slate = self._kept.pop(form, None)
        if slate is not None:
            self._kept[form] = slate
        return slate

    async def make(self, form: SlateForm) -> Slate | None:
        """The slate, made now when it is not there yet; None when there is no way to make it (told once)."""
        if form.codec not in CODECS or form.width < 16 or form.height < 16:
            return None
        if self._turn is None:
            self._turn = trio.Lock()
        async with self._turn:
            slate = self.get(form)
            if slate is not None or self._now() < self._failed.get(form, 0.0):
                return slate
            try:
                slate = await _run(SlateJob(form))
            except Unavailable as error:
                log.warning("no slate codec=%s size=%dx%d reason=%s", form.codec, form.width, form.height, error)
                self._failed = {each: until for each, until in self._failed.items() if until > self._now()}
                self._failed[form] = self._now() + TRY_AGAIN
                return None
            self.made += 1
            self._keep(form, slate)
            return slate

    def _keep(self, form: SlateForm, slate: Slate) -> None:
        self._kept[form] = slate
        size = sum(each.size for each in self._kept.values())
        # The one that was used longest ago goes first; the newest stays, however large.
        while size > MOST_BYTES and len(self._kept) > 1:
            size -= self._kept.pop(next(iter(self._kept))).size


async def _run(job: SlateJob) -> Slate:
    """Raises Unavailable."""
    command = [sys.executable, "-P", "-m", "appliance.transcoder.worker.fault_slate"]
    with trio.move_on_after(job.seconds):
        done = await trio.run_process(
            command, stdin=msgspec.msgpack.encode(job), capture_stdout=True, capture_stderr=True, check=False,
            env=worker_environment(os.environ),
        )  # fmt: skip
        if done.returncode == 0:
            try:
                return _slates.decode(done.stdout)
            except msgspec.DecodeError as error:
                raise Unavailable(f"the slate can't be read: {error}") from None
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unavailable(told[-1] if done.returncode > 0 and told else f"its encoder ended with {done.returncode}")
    raise Unavailable(f"nothing was encoded within {job.seconds:g} s")


def _profile(track: Track) -> str:
    if track.codec is not Codec.H264:
        return ""
    indication = track.codec_config[1] if len(track.codec_config) > 3 else 0
    return {66: "baseline", 77: "main"}.get(indication, "high")


__all__ = ["CODECS", "LOOP_SECONDS", "TEXTS", "Slate", "SlateForm", "SlateJob", "Slates"]
