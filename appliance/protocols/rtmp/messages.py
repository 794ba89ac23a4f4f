"""The messages above the chunk layer: types, control messages, commands (RTMP 1.0 sections 5.4 and 7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from appliance.errors import RemoteProtocolError
from appliance.protocols import amf0
from appliance.protocols.rtmp.chunks import ChunkWriter, Message, control_message

ACKNOWLEDGEMENT: Final = 3
USER_CONTROL: Final = 4
WINDOW_SIZE: Final = 5
PEER_BANDWIDTH: Final = 6
AUDIO: Final = 8
VIDEO: Final = 9
AMF3_DATA: Final = 15
AMF3_COMMAND: Final = 17
DATA: Final = 18
COMMAND: Final = 20
AGGREGATE: Final = 22

STREAM_BEGIN: Final = 0
PING_REQUEST: Final = 6
PING_RESPONSE: Final = 7

#: Chunk streams that we send on.
COMMAND_CHUNKS: Final = 3
AUDIO_CHUNKS: Final = 4
STREAM_CHUNKS: Final = 5
VIDEO_CHUNKS: Final = 6

#: What we announce; also how often we acknowledge until the peer says otherwise.
WINDOW: Final = 2_500_000
#: The least window we obey: acknowledging every few bytes would cost more than it tells.
SMALLEST_WINDOW: Final = 16_384

_U32: Final = struct.Struct(">I")


class Acknowledger:
    """Counts what comes in and says when an Acknowledgement is due: at half the peer's window."""

    __slots__ = ("_acknowledged", "_step", "received")

    def __init__(self) -> None:
        self.received = 0
        self._acknowledged = 0
        self._step = WINDOW // 2

    def set_window(self, body: bytes) -> None:
        if len(body) < 4:
            raise RemoteProtocolError("RTMP Window Acknowledgement Size without a size")
        self._step = max(_U32.unpack_from(body)[0], SMALLEST_WINDOW) // 2

    def due(self, count: int) -> bytes:
        """The Acknowledgement to send after ``count`` more bytes, b"" when none is due."""
        self.received += count
        if self.received - self._acknowledged < self._step:
            return b""
        self._acknowledged = self.received
        return control_message(ACKNOWLEDGEMENT, _U32.pack(self.received & 0xFFFFFFFF))


def ping_response(request: bytes) -> bytes:
    return control_message(USER_CONTROL, PING_RESPONSE.to_bytes(2, "big") + request[2:6])


def stream_begin(stream_id: int) -> bytes:
    return control_message(USER_CONTROL, STREAM_BEGIN.to_bytes(2, "big") + _U32.pack(stream_id))


def command(writer: ChunkWriter, stream_id: int, *values: object) -> bytes:
    chunks = STREAM_CHUNKS if stream_id else COMMAND_CHUNKS
    return writer.message(chunks, COMMAND, stream_id, 0, amf0.encode(*values))


def amf_values(message: Message) -> list[object]:
    """The values of a command or data message. The AMF3 types carry AMF0 after a zero byte, whoever sends them."""
    body = message.body
    if message.type_id in (AMF3_COMMAND, AMF3_DATA):
        body = body[1:] if body[:1] == b"\x00" else body
    return amf0.decode(body)


def aggregate_parts(message: Message) -> Iterator[Message]:
    """The messages inside an aggregate (section 7.1.6), their times moved to the aggregate's own."""
    body = message.body
    position = 0
    shift: int | None = None
    while position + 11 <= len(body):
        size = int.from_bytes(body[position + 1 : position + 4], "big")
        time = int.from_bytes(body[position + 4 : position + 7], "big") | body[position + 7] << 24
        end = position + 11 + size
        if end > len(body):
            raise RemoteProtocolError("RTMP aggregate ends inside a message")
        if shift is None:
            shift = message.timestamp - time
        yield Message((time + shift) & 0xFFFFFFFF, body[position], message.stream_id, body[position + 11 : end])
        position = end + 4
