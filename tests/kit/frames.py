"""Frames of a file or of delivered fMP4: when they are shown and what they are, as libavformat reads them."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

#: Coded slices of H.264: the picture itself, without parameter sets, delimiters and messages.
_SLICES = {1, 5}


@dataclass(frozen=True, slots=True)
class Frame:
    """Times in seconds. ``digest`` is that of the picture's slices (H.264) or of the whole frame (everything else)."""

    pts: Fraction
    dts: Fraction
    keyframe: bool
    digest: bytes


def slices_digest(payload: bytes) -> bytes:
    """Digest of the slices in length-prefixed H.264. Raises ValueError when the lengths don't fit."""
    digest = hashlib.sha1(usedforsecurity=False)
    at = 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 4], "big")
        at += 4
        if not 0 < size <= len(payload) - at:
            raise ValueError(f"NAL unit of {size} bytes at {at} in a frame of {len(payload)}")
        if payload[at] & 0x1F in _SLICES:
            digest.update(payload[at : at + size])
        at += size
    return digest.digest()


def _frames(container: av.container.InputContainer, kind: str) -> list[Frame]:
    streams = [stream for stream in container.streams if stream.type == kind]
    if not streams:
        return []
    h264 = streams[0].codec_context.name == "h264"
    found = []
    for packet in container.demux(streams[0]):
        if packet.pts is None or packet.dts is None or packet.time_base is None:
            continue
        payload = bytes(packet)
        digest = slices_digest(payload) if h264 else hashlib.sha1(payload, usedforsecurity=False).digest()
        base = packet.time_base
        found.append(Frame(packet.pts * base, packet.dts * base, packet.is_keyframe, digest))
    return found


def of_file(path: Path, kind: str) -> list[Frame]:
    """All ``video`` or ``audio`` frames of a file in decoding order."""
    with av.open(str(path), mode="r") as container:
        return _frames(container, kind)


def of_bytes(data: bytes, kind: str) -> list[Frame]:
    """All ``video`` or ``audio`` frames of an MP4 in memory (init section and fragments) in decoding order."""
    with av.open(io.BytesIO(data), mode="r") as container:
        return _frames(container, kind)


def decoded_count(data: bytes, kind: str) -> int:
    """How many frames of an MP4 in memory decode. Raises av.FFmpegError for one that doesn't."""
    with av.open(io.BytesIO(data), mode="r") as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        stream.codec_context.options = {"err_detect": "explode"}
        return sum(1 for _ in container.decode(stream))


def run_in(delivered: Sequence[Frame], source: Sequence[Frame]) -> int:
    """Where in ``source`` the frames of ``delivered`` begin, when they are one run of it that may go round at its end.

    Raises AssertionError that names the first frame that is missing, doubled or altered.
    """
    where: dict[bytes, int] = {frame.digest: index for index, frame in enumerate(source)}
    if len(where) != len(source):
        raise ValueError("the source has frames that are the same: it can't tell which is missing")
    first = where.get(delivered[0].digest)
    if first is None:
        raise AssertionError("the first delivered frame is not of the source")
    for index, frame in enumerate(delivered):
        expected = (first + index) % len(source)
        found = where.get(frame.digest)
        if found != expected:
            got = "an altered frame" if found is None else f"frame {found}"
            raise AssertionError(f"frame {index} of {len(delivered)} should be {expected} of the source, is {got}")
    return first


def longest_step(frames: Sequence[Frame]) -> Fraction:
    """The longest time between two frames that follow each other, in presentation order."""
    times = sorted(frame.pts for frame in frames)
    return max((b - a for a, b in itertools.pairwise(times)), default=Fraction(0))


def shortest_step(frames: Sequence[Frame]) -> Fraction:
    times = sorted(frame.pts for frame in frames)
    return min((b - a for a, b in itertools.pairwise(times)), default=Fraction(0))
