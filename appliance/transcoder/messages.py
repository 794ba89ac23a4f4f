"""The words between the engine and a codec worker.

Two stream sockets. Control: length-prefixed msgpack messages, never behind media. Media: frames of a fixed head and
the payload as it is; tracks go there too, so that a track always comes before its packets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.media.track import Track
from appliance.transcoder.spec import EncodedTrack, RenditionSpec

#: A control message is at most this long, a media frame too.
CONTROL_LIMIT = 4 * 1024 * 1024
MEDIA_LIMIT = 64 * 1024 * 1024
#: How much compressed input may be on its way to the worker or wait in it: bytes, and nanoseconds of stream time.
INPUT_CREDIT_BYTES = 8 * 1024 * 1024
INPUT_CREDIT_NS = 2_000_000_000


class Configure(msgspec.Struct, frozen=True, tag=True):
    """First message. ``epoch``: CLOCK_MONOTONIC ns of timestamp zero; ``source_url``: a raw source, or None for
    compressed input; ``emit_from``: frames before this time of the stream (ns) are decoded and not encoded;
    ``decoder_threads``: of each video decoder, 0 lets the picture size decide."""

    label: str
    epoch: int
    source_url: str | None
    renditions: list[RenditionSpec]
    emit_from: int = 0
    decoder_threads: int = 0


class SetRenditions(msgspec.Struct, frozen=True, tag=True):
    """All renditions wanted from now on. One that is equal to a running one goes on untouched."""

    renditions: list[RenditionSpec]


class ForceKeyFrame(msgspec.Struct, frozen=True, tag=True):
    """A key frame in all renditions of all video inputs, at the same time of the stream: the first that all have at or
    behind ``since`` ms."""

    since: int = 0


class SetBitrate(msgspec.Struct, frozen=True, tag=True):
    id: int
    bitrate: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Encode what is there, send it, and end."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker has loaded its libraries."""

    pid: int


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Sums since the start of this worker: input consumed (bytes, packets), the newest dts consumed (ns), packets
    made. ``fed``: raw frames given to the renditions, so that very slow encoders are not taken for a dead worker."""

    consumed_bytes: int
    consumed_packets: int
    consumed_ns: int
    produced: int
    fed: int = 0


class RenditionStats(msgspec.Struct, frozen=True):
    """``frames_in``: raw frames that were due; ``dropped``: of those, lost before the encoder because it was slower
    than real time; ``duplicated``: repeated to keep the frame rate; ``output_dropped``: packets lost because the engine
    did not read; ``queue``: raw frames waiting; ``skip``: the automatic skip count (-1 off)."""

    id: int
    encoder: str = ""
    frames_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0
    dropped: int = 0
    duplicated: int = 0
    output_dropped: int = 0
    queue: int = 0
    skip: int = -1


class Stats(msgspec.Struct, frozen=True, tag=True):
    """Once a second. ``source_frames`` decoded or captured; ``source_dropped`` of a raw source, lost because it was
    late; ``decode_errors``: packets the decoder refused."""

    cpu_seconds: float
    rss_bytes: int
    source_frames: int
    source_dropped: int
    decode_errors: int
    renditions: list[RenditionStats]


class Fault(msgspec.Struct, frozen=True, tag=True):
    """Something is wrong. ``fatal``: the worker ends; else only rendition ``id`` (or the input, when None) suffers."""

    text: str
    id: int | None = None
    fatal: bool = False


ToWorker = Configure | SetRenditions | ForceKeyFrame | SetBitrate | Stop
FromWorker = Ready | Progress | Stats | Fault

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)
_track = msgspec.msgpack.Decoder(Track)
_encoded_track = msgspec.msgpack.Decoder(EncodedTrack)
_LENGTH = struct.Struct("<I")


def pack_control(message: ToWorker | FromWorker) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class _ControlReceiver:
    def __init__(self) -> None:
        self._buffer = bytearray()

    def bodies(self, data: bytes) -> Iterator[bytes]:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > CONTROL_LIMIT:
                raise RemoteProtocolError(f"control message of {length} bytes")
            if len(buffer) < 4 + length:
                return
            body = bytes(buffer[4 : 4 + length])
            del buffer[: 4 + length]
            yield body


class WorkerControl(_ControlReceiver):
    """The engine's end: bytes from the worker in, messages out. Raises RemoteProtocolError."""

    def receive_data(self, data: bytes) -> Iterator[FromWorker]:
        for body in self.bodies(data):
            try:
                yield _from_worker.decode(body)
            except msgspec.DecodeError as error:
                raise RemoteProtocolError(f"control message: {error}") from None


class EngineControl(_ControlReceiver):
    """The worker's end."""

    def receive_data(self, data: bytes) -> Iterator[ToWorker]:
        for body in self.bodies(data):
            try:
                yield _to_worker.decode(body)
            except msgspec.DecodeError as error:
                raise RemoteProtocolError(f"control message: {error}") from None


class Frame(IntEnum):
    """Kinds of media frame. LAPSE: packets of this track were dropped here."""

    PACKET = 0
    TRACK = 1
    LAPSE = 2


#: length of the payload, kind, key frame, track id, pts, dts, duration
HEAD = struct.Struct("<IBBHqqI")


class MediaFrame(msgspec.Struct, frozen=True, gc=False):
    kind: Frame
    keyframe: bool
    track: int
    pts: int
    dts: int
    duration: int
    payload: bytes


def packet_head(track: int, pts: int, dts: int, duration: int, keyframe: bool, size: int) -> bytes:
    return HEAD.pack(size, 0, keyframe, track, pts, dts, duration)


def pack_track(track: Track | EncodedTrack) -> bytes:
    body = _encoder.encode(track)
    return HEAD.pack(len(body), Frame.TRACK, 0, track.id, 0, 0, 0) + body


def pack_lapse(track: int) -> bytes:
    return HEAD.pack(0, Frame.LAPSE, 0, track, 0, 0, 0)


def unpack_track(body: bytes) -> Track:
    try:
        return _track.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"track: {error}") from None


def unpack_encoded_track(body: bytes) -> EncodedTrack:
    try:
        return _encoded_track.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"track: {error}") from None


class MediaReceiver:
    """Bytes of a media socket in, frames out. Raises RemoteProtocolError."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes | memoryview) -> list[MediaFrame]:
        buffer = self._buffer
        buffer += data
        frames: list[MediaFrame] = []
        position = 0
        end = len(buffer)
        while end - position >= HEAD.size:
            size, kind, keyframe, track, pts, dts, duration = HEAD.unpack_from(buffer, position)
            if size > MEDIA_LIMIT or kind > Frame.LAPSE:
                raise RemoteProtocolError(f"media frame of kind {kind} and {size} bytes")
            start = position + HEAD.size
            if end - start < size:
                break
            position = start + size
            with memoryview(buffer) as view:
                payload = bytes(view[start:position])
            frames.append(MediaFrame(Frame(kind), keyframe != 0, track, pts, dts, duration, payload))
        if position:
            del buffer[:position]
        return frames
