"""The messages above the chunk layer: types, control messages, commands (RTMP 1.0 sections 5.4 and 7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from appliance.errors import RemoteProtocolError
from appliance.protocols import amf0
from appliance.protocols.rtmp.chunks import ChunkWriter, Message, control_message
from appliance.protocols.rtmp.events import Audio, Data, Metadata, Video

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


def window_step(body: bytes) -> int:
    """Half the window that a Window Acknowledgement Size announces: how often the peer wants to hear from us."""
    if len(body) < 4:
        raise RemoteProtocolError("RTMP Window Acknowledgement Size without a size")
    size: int = _U32.unpack_from(body)[0]
    return max(size, SMALLEST_WINDOW) // 2


def acknowledgement(received: int) -> bytes:
    """``received`` bytes in all; the wire has 32 bits for it."""
    return control_message(ACKNOWLEDGEMENT, _U32.pack(received & 0xFFFFFFFF))


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


def read_aggregate(message: Message, events: list[Any]) -> None:
    """Add what is inside an aggregate to ``events``."""
    for part in aggregate_parts(message):
        if part.type_id == VIDEO:
            events.append(Video(part.timestamp, part.body))
        elif part.type_id == AUDIO:
            events.append(Audio(part.timestamp, part.body))
        elif part.type_id == DATA:
            read_data(part, events)


def read_data(message: Message, events: list[Any]) -> None:
    """Add what a data message says to ``events``; nothing when it has no name."""
    values = amf_values(message)
    if values and values[0] == "@setDataFrame":
        values = values[1:]
    name = values[0] if values else None
    if not isinstance(name, str) or name == "@clearDataFrame":
        return
    if name == "onMetaData":
        first = values[1] if len(values) > 1 else None
        events.append(Metadata(message.timestamp, first if isinstance(first, dict) else {}))
    else:
        events.append(Data(message.timestamp, name, values[1:]))
