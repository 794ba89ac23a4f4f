"""The words between the engine and a demux worker: one stream socket.

To the worker: length-prefixed msgpack jobs. Back: frames of a fixed head and a payload, each with the number of the job
that it belongs to, so that what is left of a job given up is told from the next one's. The socket's own buffer is the
credit: a worker whose engine does not read waits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.media.track import Codec, Track

JOB_LIMIT = 64 * 1024
FRAME_LIMIT = 64 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_LENGTH = struct.Struct("<I")
#: length of the payload, kind, key frame, track id, job, pts, dts, duration
HEAD = struct.Struct("<IBBHIqqI")


class OpenFile(msgspec.Struct, frozen=True, tag=True):
    """Give the packets of ``path`` (resolved, below ``root``) from the key frame at or before ``start`` ns on."""

    job: int
    root: str
    path: str
    start: int = 0


class MakeSlate(msgspec.Struct, frozen=True, tag=True):
    """Give one group of black pictures and some frames of silence. A codec None leaves that out. ``rate`` is in frames
    a second, ``sample_rate`` in Hz."""

    job: int
    video: Codec | None = None
    width: int = 1280
    height: int = 720
    rate: float = 30.0
    audio: Codec | None = None
    sample_rate: int = 48_000
    channels: int = 2


Job = OpenFile | MakeSlate


class Opened(msgspec.Struct, frozen=True):
    """``duration`` ns, 0 when the file does not tell. ``tracks`` are those that can be carried."""

    duration: int
    tracks: list[Track]


_jobs = msgspec.msgpack.Decoder(Job)
_opened = msgspec.msgpack.Decoder(Opened)
_track = msgspec.msgpack.Decoder(Track)


class Kind(IntEnum):
    """PACKET; TRACK: a new configuration of a track; OPENED comes first; END or FAULT (its payload says why) last."""

    PACKET = 0
    TRACK = 1
    OPENED = 2
    END = 3
    FAULT = 4


class DemuxFrame(msgspec.Struct, frozen=True, gc=False):
    """Times in ticks of the track."""

    kind: Kind
    keyframe: bool
    track: int
    job: int
    pts: int
    dts: int
    duration: int
    payload: bytes


def pack_job(job: Job) -> bytes:
    body = _encoder.encode(job)
    return _LENGTH.pack(len(body)) + body


def pack_opened(job: int, opened: Opened) -> bytes:
    body = _encoder.encode(opened)
    return HEAD.pack(len(body), Kind.OPENED, 0, 0, job, 0, 0, 0) + body


def pack_track(job: int, track: Track) -> bytes:
    body = _encoder.encode(track)
    return HEAD.pack(len(body), Kind.TRACK, 0, track.id, job, 0, 0, 0) + body


def pack_end(job: int, fault: str = "") -> bytes:
    body = fault.encode()
    return HEAD.pack(len(body), Kind.FAULT if fault else Kind.END, 0, 0, job, 0, 0, 0) + body


def unpack_opened(body: bytes) -> Opened:
    """Raises RemoteProtocolError, as `unpack_track` does."""
    try:
        return _opened.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"opened file: {error}") from None


def unpack_track(body: bytes) -> Track:
    try:
        return _track.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"track: {error}") from None


class JobReceiver:
    """The worker's end. Raises RemoteProtocolError."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> Iterator[Job]:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > JOB_LIMIT:
                raise RemoteProtocolError(f"job of {length} bytes")
            if len(buffer) < _LENGTH.size + length:
                return
            body = bytes(buffer[_LENGTH.size : _LENGTH.size + length])
            del buffer[: _LENGTH.size + length]
            try:
                yield _jobs.decode(body)
            except msgspec.DecodeError as error:
                raise RemoteProtocolError(f"job: {error}") from None


class FrameReceiver:
    """The engine's end. Raises RemoteProtocolError."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> list[DemuxFrame]:
        buffer = self._buffer
        buffer += data
        frames: list[DemuxFrame] = []
        position, end = 0, len(buffer)
        while end - position >= HEAD.size:
            size, kind, keyframe, track, job, pts, dts, duration = HEAD.unpack_from(buffer, position)
            if size > FRAME_LIMIT or kind > Kind.FAULT:
                raise RemoteProtocolError(f"demuxed frame of kind {kind} and {size} bytes")
            start = position + HEAD.size
            if end - start < size:
                break
            position = start + size
            with memoryview(buffer) as view:
                payload = bytes(view[start:position])
            frames.append(DemuxFrame(Kind(kind), keyframe != 0, track, job, pts, dts, duration, payload))
        if position:
            del buffer[:position]
        return frames
