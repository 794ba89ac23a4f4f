"""A small picture of what a stream shows: its last key frame, decoded by a one-shot process."""

from __future__ import annotations

import os
import sys
from typing import Literal

import msgspec
import trio

from appliance.errors import NotFound, Unavailable
from appliance.media.clock import NANOSECONDS, Clock
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Codec, Track
from appliance.transcoder.pool import worker_environment

PictureFormat = Literal["rgb", "jpeg"]

#: What can be decoded to a picture.
CODECS = frozenset({Codec.H264, Codec.H265, Codec.VP8, Codec.VP9, Codec.AV1, Codec.JPEG})
#: Seconds for which a picture holds, that a stream may take to give a key frame, and that one decode may take.
HOLD_NS = NANOSECONDS
KEY_FRAME_WITHIN = 4.0
DECODE_WITHIN = 10.0
#: Decoders at once, of all streams.
AT_ONCE = 2
#: Pictures kept.
MOST_KEPT = 64


class PreviewJob(msgspec.Struct, frozen=True):
    """``payload`` is canonical; ``seconds`` the deadline."""

    track: Track
    payload: bytes
    width: int
    height: int
    format: PictureFormat
    seconds: float = DECODE_WITHIN


class _Kept:
    """The last picture of one stream in one form."""

    __slots__ = ("lock", "made_at", "packet", "picture")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.made_at = -HOLD_NS
        self.packet: Packet | None = None
        self.picture = b""


class Previews:
    """One decode at a time a picture; those who ask meanwhile get the same one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, int, int, str], _Kept] = {}
        self._decoders = trio.CapacityLimiter(AT_ONCE)
        self.decoded = 0

    async def picture(self, stream: Stream, width: int, height: int, format: PictureFormat) -> bytes:
        """``width`` by ``height`` pixels, at most a second older than the last key frame: RGB triples from the top
        left, or a JPEG. Raises NotFound (no picture in this stream) and Unavailable (not now)."""
        kept = self._find((stream.label, width, height, format))
        async with kept.lock:
            now = self._clock.monotonic()
            if now - kept.made_at < HOLD_NS and kept.picture:
                return kept.picture
            packet = await _key_frame(stream)
            if packet is not kept.packet:
                kept.picture = await self._decode(PreviewJob(packet.track, packet.payload, width, height, format))
                kept.packet = packet
            kept.made_at = self._clock.monotonic()
            return kept.picture

    def _find(self, key: tuple[str, int, int, str]) -> _Kept:
        kept = self._kept.pop(key, None) or _Kept()
        self._kept[key] = kept
        # The one that was asked for longest ago goes first; whoever waits for it keeps it.
        while len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return kept

    async def _decode(self, job: PreviewJob) -> bytes:
        self.decoded += 1
        command = [sys.executable, "-P", "-m", "appliance.transcoder.worker.preview"]
        async with self._decoders:
            with trio.move_on_after(job.seconds):
                done = await trio.run_process(
                    command, stdin=msgspec.msgpack.encode(job), capture_stdout=True, capture_stderr=True,
                    check=False, env=worker_environment(os.environ),
                )  # fmt: skip
                if done.returncode == 0 and done.stdout:
                    return bytes(done.stdout)
                told = done.stderr.decode("utf-8", "replace").strip().splitlines()
                why = told[-1] if done.returncode > 0 and told else f"its decoder ended with status {done.returncode}"
                raise Unavailable(f"No preview: {why}")
        raise Unavailable(f"No preview: nothing was decoded within {job.seconds:g} s")


async def _key_frame(stream: Stream) -> Packet:
    """The last one, or the next when there is none at hand. Raises NotFound and Unavailable."""
    track = stream.tracks.get(stream.reference)
    if track is None or track.codec not in CODECS:
        raise NotFound(f"No preview: the stream has no picture that can be decoded: [{stream.label}]")
    reader = stream.reader("preview")
    try:
        with trio.move_on_after(KEY_FRAME_WITHIN):
            while packets := await reader.receive():
                for packet in packets:
                    if packet.keyframe and packet.track.id == stream.reference:
                        return packet
    finally:
        reader.close()
    raise Unavailable(f"No preview: no key frame within {KEY_FRAME_WITHIN:g} s")


def best_source(streams: list[Stream], width: int) -> Stream | None:
    """Whose picture is the least work and still as wide as asked for, else the widest; None without any picture."""
    able = []
    for stream in streams:
        track = stream.tracks.get(stream.reference)
        if track is not None and track.codec in CODECS and not stream.closed:
            able.append((track.width, stream))
    enough = [each for each in able if each[0] >= width]
    if enough:
        return min(enough, key=lambda each: each[0])[1]
    return max(able, key=lambda each: each[0])[1] if able else None
