"""The RTMP chunk layer, both directions (RTMP 1.0 section 5.3)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from appliance.errors import RemoteProtocolError

T = TypeVar("T")

DEFAULT_CHUNK_SIZE: Final = 128
#: A message length has 24 bits, so a larger chunk size (the wire allows 0x7FFFFFFF) changes nothing.
MAX_CHUNK_SIZE: Final = 0xFFFFFF
#: Ours: how many chunk streams a peer may use at once (a publisher needs about six).
MAX_CHUNK_STREAMS: Final = 64

SET_CHUNK_SIZE: Final = 1
ABORT: Final = 2

_EXTENDED: Final = 0xFFFFFF
_U32: Final = struct.Struct(">I")
#: The head of a type 1 chunk on a low chunk stream, basic header included: what nearly all messages begin with.
_COMMON_HEAD: Final = struct.Struct(">Q").unpack_from
_HEADER_SIZE: Final = (11, 7, 3, 0)


class Message(msgspec.Struct, frozen=True, gc=False):
    """``timestamp`` in ms (32 bits, it wraps), ``type_id`` as in RTMP 1.0 section 5.4 and 7.1."""

    timestamp: int
    type_id: int
    stream_id: int
    body: bytes


#: Makes what the reader hands out for one type of message from its timestamp and body.
Maker = Callable[[int, bytes], T]


class _Incoming:
    """What the reader knows of one chunk stream. ``length`` is -1 until a header told it."""

    __slots__ = ("absolute", "body", "continuation", "delta", "extended", "length", "stream_id", "timestamp", "type_id")

    def __init__(self) -> None:
        self.timestamp = 0
        self.delta = 0
        self.length = -1
        self.type_id = 0
        self.stream_id = 0
        self.extended: bytes = b""
        self.absolute = False
        # The message in progress; None between messages.
        self.body: bytearray | None = None
        # The header of a type 3 chunk that goes on with the message.
        self.continuation: bytes = b""


class ChunkReader(Generic[T]):
    """Bytes in, messages out. Set Chunk Size and Abort are obeyed here and not handed on.

    ``max_unfinished``: bytes that all messages in progress may declare together. ``pause_on``: types of message
    after which reading stops, so that the caller can act on it before what follows is understood; the rest waits for
    the next ``receive_data`` (which may be empty). ``makers``: what to make of some types in place of a Message.
    """

    def __init__(
        self,
        *,
        max_unfinished: int,
        pause_on: frozenset[int] = frozenset(),
        makers: Mapping[int, Maker[T]] | None = None,
    ) -> None:
        self.max_unfinished = max_unfinished
        self.pause_on = pause_on
        self._makers = makers or {}
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self._streams: dict[int, _Incoming] = {}
        self._unfinished = 0
        self._data = b""
        self._position = 0
        # The chunk whose payload is being read, and how much of that is missing.
        self._stream: _Incoming | None = None
        self._left = 0
        self._payload_at = 0
        #: Whether reading stopped after a message of ``pause_on`` and bytes may be waiting behind it.
        self.paused = False

    @property
    def missing(self) -> int:
        """How many bytes must come at least before another message can be complete (at least 1)."""
        stream = self._stream
        if stream is None or stream.body is None:
            return 1
        after = stream.length - len(stream.body) - self._left
        chunks = -(-after // self.chunk_size)
        return max(1, self._left + after + chunks * len(stream.continuation))

    def receive_data(self, data: bytes) -> list[Message | T]:
        """The messages that are complete now. Raises RemoteProtocolError; the reader is of no use after that."""
        position = 0
        if self._data:
            if data:
                data = self._data[self._position :] + data
            else:
                data, position = self._data, self._position
        self.paused = False
        messages: list[Message | T] = []
        end = len(data)
        stream = self._stream
        while True:
            if stream is None:
                if position >= end:
                    break
                stream = self._read_header(data, position)
                if stream is None:
                    break
                position = self._payload_at
            body = stream.body
            left = self._left
            if position + left > end:
                if body is None:
                    stream.body = body = bytearray()
                body += data[position:end]
                self._left = left - (end - position)
                position = end
                break
            chunk_end = position + left
            if body is None:
                if left == stream.length:
                    payload = data[position:chunk_end]
                else:
                    stream.body = bytearray(data[position:chunk_end])
                    position = self._read_run(stream, data, chunk_end)
                    stream = None
                    continue
            else:
                body += data[position:chunk_end]
                if len(body) < stream.length:
                    position = self._read_run(stream, data, chunk_end)
                    stream = None
                    continue
                payload = bytes(body)
                stream.body = None
            position = chunk_end
            self._unfinished -= stream.length
            kind = stream.type_id
            maker = self._makers.get(kind)
            if maker is not None:
                messages.append(maker(stream.timestamp, payload))
            elif 0 < kind <= ABORT:
                self._control(kind, payload)
            else:
                messages.append(Message(stream.timestamp, kind, stream.stream_id, payload))
                if kind in self.pause_on:
                    self.paused = True
                    stream = None
                    break
            stream = None
        self._stream = stream
        if position < end:
            self._data, self._position = data, position
        elif self._data:
            self._data, self._position = b"", 0
        return messages

    def _read_header(self, data: bytes, position: int) -> _Incoming | None:
        """The chunk stream whose payload begins at ``_payload_at`` and has ``_left`` bytes in this chunk.

        None when the header is not all there.
        """
        first = data[position]
        if first & 0xC0 == 0x40 and first & 0x3E and position + 8 <= len(data):
            stream = self._streams.get(first & 63)
            if stream is not None and stream.body is None:
                head = _COMMON_HEAD(data, position)[0]
                delta = head >> 32 & 0xFFFFFF
                if delta != _EXTENDED:
                    stream.length = head >> 8 & 0xFFFFFF
                    stream.type_id = head & 0xFF
                    stream.delta = delta
                    stream.timestamp = stream.timestamp + delta & 0xFFFFFFFF
                    stream.absolute = False
                    if stream.extended:
                        stream.extended = b""
                        stream.continuation = stream.continuation[:-4]
                    return self._begin(stream, position + 8)
        return self._read_any_header(data, position)

    def _read_any_header(self, data: bytes, position: int) -> _Incoming | None:
        end = len(data)
        first = data[position]
        position += 1
        form = first >> 6
        chunk_stream = first & 63
        if chunk_stream < 2:
            extra = chunk_stream + 1
            if position + extra > end:
                return None
            chunk_stream = 64 + int.from_bytes(data[position : position + extra], "little")
            position += extra
        stream = self._streams.get(chunk_stream)
        body_at = position + _HEADER_SIZE[form]
        if form == 3:
            return self._read_short_header(data, position, stream)
        if body_at > end:
            return None
        value = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
        extended = b""
        if value == _EXTENDED:
            extended = data[body_at : body_at + 4]
            if len(extended) < 4:
                return None
            body_at += 4
            value = int.from_bytes(extended, "big")
        if stream is None:
            stream = self._open(chunk_stream)
        elif stream.body is not None:
            # A new header in the middle of a message: the sender gave that message up.
            self._drop(stream)
        if form == 2:
            if stream.length < 0:
                raise RemoteProtocolError(f"RTMP chunk stream {chunk_stream} begins without a message length")
        else:
            stream.length = data[position + 3] << 16 | data[position + 4] << 8 | data[position + 5]
            stream.type_id = data[position + 6]
        stream.delta = value
        if form == 0:
            stream.stream_id = int.from_bytes(data[position + 7 : position + 11], "little")
            stream.timestamp = value
        else:
            stream.timestamp = (stream.timestamp + value) & 0xFFFFFFFF
        stream.absolute = form == 0
        stream.extended = extended
        stream.continuation = _basic_header(3, chunk_stream) + extended
        return self._begin(stream, body_at)

    def _read_short_header(self, data: bytes, position: int, stream: _Incoming | None) -> _Incoming | None:
        """A type 3 header: the next chunk of a message, or a new message like the last one."""
        if stream is None or stream.length < 0:
            raise RemoteProtocolError("RTMP chunk stream begins with a type 3 chunk")
        if stream.extended:
            field = data[position : position + 4]
            if len(field) < 4:
                return None
            if stream.body is None:
                stream.extended = field
                stream.delta = int.from_bytes(field, "big")
                stream.continuation = stream.continuation[:-4] + field
                position += 4
            elif field == stream.extended:
                position += 4
            # Else it is one of the senders that leave it out of continuations: these bytes are payload.
        if stream.body is not None:
            self._left = min(stream.length - len(stream.body), self.chunk_size)
            self._payload_at = position
            return stream
        if stream.absolute and stream.extended:
            # Such a field is a time: as a difference it would be over four hours.
            stream.timestamp = stream.delta
        else:
            stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF
        return self._begin(stream, position)

    def _begin(self, stream: _Incoming, payload_at: int) -> _Incoming:
        length = stream.length
        unfinished = self._unfinished = self._unfinished + length
        if unfinished > self.max_unfinished:
            raise RemoteProtocolError(
                f"RTMP messages of {unfinished} bytes in progress, at most {self.max_unfinished} allowed"
            )
        self._payload_at = payload_at
        self._left = length if length <= self.chunk_size else self.chunk_size
        return stream

    def _read_run(self, stream: _Incoming, data: bytes, position: int) -> int:
        """Take all full continuation chunks that follow each other without another stream's between, in C.

        Small chunks would otherwise cost one turn of the loop for every 128 bytes.
        """
        body = stream.body
        assert body is not None
        header = stream.continuation
        size = self.chunk_size
        stride = size + len(header)
        # The last chunk is left to the loop, which knows what to do at the end of a message.
        count = min((len(data) - position) // stride, (stream.length - len(body) - 1) // size)
        for offset, byte in enumerate(header):
            if count < 2:
                return position
            column = data[position + offset : position + count * stride : stride]
            count -= len(column.lstrip(bytes((byte,))))
        if count < 2:
            return position
        run = bytearray(data[position : position + count * stride])
        for offset in range(len(header)):
            del run[:: stride - offset]
        body += run
        return position + count * stride

    def _open(self, chunk_stream: int) -> _Incoming:
        if len(self._streams) >= MAX_CHUNK_STREAMS:
            raise RemoteProtocolError(f"more than {MAX_CHUNK_STREAMS} RTMP chunk streams")
        stream = self._streams[chunk_stream] = _Incoming()
        return stream

    def _drop(self, stream: _Incoming) -> None:
        if stream.body is not None:
            stream.body = None
            self._unfinished -= stream.length

    def _control(self, type_id: int, payload: bytes) -> None:
        if type_id == SET_CHUNK_SIZE:
            size = int.from_bytes(payload[:4], "big") if len(payload) >= 4 else 0
            if not 1 <= size <= 0x7FFFFFFF:
                raise RemoteProtocolError(f"RTMP Set Chunk Size {payload[:8].hex() or 'without a size'}")
            self.chunk_size = min(size, MAX_CHUNK_SIZE)
        elif type_id == ABORT and len(payload) >= 4:
            stream = self._streams.get(int.from_bytes(payload[:4], "big"))
            if stream is not None:
                self._drop(stream)
        else:
            raise RemoteProtocolError(f"RTMP control message of type {type_id} with {len(payload)} bytes")


def _basic_header(form: int, chunk_stream: int) -> bytes:
    if chunk_stream < 64:
        return bytes((form << 6 | chunk_stream,))
    if chunk_stream < 320:
        return bytes((form << 6, chunk_stream - 64))
    return bytes((form << 6 | 1, (chunk_stream - 64) & 0xFF, (chunk_stream - 64) >> 8))


def control_message(type_id: int, body: bytes) -> bytes:
    """A protocol control message (types 1 to 6; at most 128 bytes), on chunk stream 2 of message stream 0.

    Its header depends on no message before it, so that a sender may leave one out.
    """
    return b"\x02\x00\x00\x00\x00\x00" + bytes((len(body), type_id)) + bytes(4) + body


class _Outgoing:
    __slots__ = ("delta", "length", "stream_id", "timestamp", "type_id")

    def __init__(self) -> None:
        self.timestamp = -1
        self.delta = -1
        self.length = -1
        self.type_id = -1
        self.stream_id = -1


class ChunkWriter:
    """Messages in, bytes out, with the shortest headers (types 0 to 3) that say the same."""

    def __init__(self) -> None:
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self._streams: dict[int, _Outgoing] = {}

    def set_chunk_size(self, size: int) -> bytes:
        """The message that announces ``size`` (128 to 0xFFFFFF); it holds for all that is written after it."""
        if not DEFAULT_CHUNK_SIZE <= size <= MAX_CHUNK_SIZE:
            raise ValueError(f"a chunk size is {DEFAULT_CHUNK_SIZE} to {MAX_CHUNK_SIZE} here, not {size}")
        self.chunk_size = size
        return control_message(SET_CHUNK_SIZE, _U32.pack(size))

    def message(self, chunk_stream: int, type_id: int, stream_id: int, timestamp: int, body: bytes) -> bytes:
        """One message on ``chunk_stream`` (3 to 65599); ``timestamp`` in ms is taken modulo 2^32."""
        timestamp &= 0xFFFFFFFF
        form, field = self._form(chunk_stream, type_id, stream_id, timestamp, len(body))
        extended = _U32.pack(field) if field >= _EXTENDED else b""
        head = bytearray(_basic_header(form, chunk_stream))
        if form < 3:
            head += min(field, _EXTENDED).to_bytes(3, "big")
        if form < 2:
            head += len(body).to_bytes(3, "big")
            head.append(type_id)
        if form == 0:
            head += stream_id.to_bytes(4, "little")
        head += extended
        size = self.chunk_size
        if len(body) <= size:
            return bytes(head + body)
        again = _basic_header(3, chunk_stream) + extended
        parts = [bytes(head), body[:size]]
        for start in range(size, len(body), size):
            parts.append(again)
            parts.append(body[start : start + size])
        return b"".join(parts)

    def _form(self, chunk_stream: int, type_id: int, stream_id: int, timestamp: int, length: int) -> tuple[int, int]:
        """The header type, and the time field: absolute in type 0, else the difference."""
        if length > 0xFFFFFF:
            raise ValueError(f"an RTMP message holds at most {0xFFFFFF} bytes")
        last = self._streams.get(chunk_stream)
        if last is None:
            last = self._streams[chunk_stream] = _Outgoing()
        delta = timestamp - last.timestamp
        if last.timestamp < 0 or last.stream_id != stream_id or not 0 <= delta < _EXTENDED:
            form, field = 0, timestamp
            # A type 3 header after a type 0 one is read in different ways: never rely on it.
            last.delta = -1
        else:
            field = delta
            same_kind = last.length == length and last.type_id == type_id
            form = 1 if not same_kind else 3 if last.delta == delta else 2
            last.delta = delta
        last.timestamp, last.length, last.type_id, last.stream_id = timestamp, length, type_id, stream_id
        return form, field
