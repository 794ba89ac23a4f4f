"""The client side of one RTMP connection: publishes to a server, or plays from one (RTMP 1.0 section 7.2)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.protocols import amf0
from appliance.protocols.rtmp import messages as m
from appliance.protocols.rtmp.chunks import ChunkReader, ChunkWriter, Message, control_message
from appliance.protocols.rtmp.events import Audio, Data, Metadata, Video
from appliance.protocols.rtmp.handshake import ClientHandshake, RandomBytes

#: The chunk size of what we send; every server is known to take this one.
CHUNK_SIZE: Final = 4096
UNFINISHED: Final = 20 * 1024 * 1024

_CONNECT, _RELEASE, _FC_PUBLISH, _CREATE, _START = 1.0, 2.0, 3.0, 4.0, 5.0
_REPLIES: Final = frozenset({m.COMMAND, m.AMF3_COMMAND})


class Started(msgspec.Struct, frozen=True):
    """The server takes our stream (send media now), or begins to send its own."""

    code: str


class Refused(msgspec.Struct, frozen=True):
    """The server said no, before or after the start. The connection is of no use any more."""

    code: str
    description: str


class Ended(msgspec.Struct, frozen=True):
    """The server says that a stream which we play is over."""

    code: str


ClientEvent = Started | Refused | Ended | Video | Audio | Metadata | Data


class ClientState(Enum):
    """Where a client stands; it goes down this list."""

    HANDSHAKE = "handshake"
    CONNECTING = "connecting"
    CREATING = "creating"
    STARTING = "starting"
    STARTED = "started"
    REFUSED = "refused"
    ENDED = "ended"


class RtmpClient:
    """``data_to_send`` has something from the start; feed ``receive_data`` and wait for Started.

    ``tc_url`` such as ``rtmp://host:1935/app``, ``app`` its path, ``stream`` the stream key with its query.
    ``play``: ask for the stream instead of publishing it. ``digest``: the handshake that some servers insist on.
    ``four_ccs``: codecs beyond the classic ones that will be sent (Enhanced RTMP), such as ``hvc1``.
    Raises RemoteProtocolError, and nothing else, for what a server may send.
    """

    def __init__(
        self,
        tc_url: str,
        app: str,
        stream: str,
        *,
        play: bool = False,
        digest: bool = True,
        four_ccs: Sequence[str] = (),
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        self.state = ClientState.HANDSHAKE
        self._tc_url = tc_url
        self._app = app
        self._stream = stream
        self._play = play
        self._four_ccs = list(four_ccs)
        self._handshake: ClientHandshake | None = ClientHandshake(digest=digest, random_bytes=random_bytes)
        self._reader: ChunkReader[Video | Audio] = ChunkReader(
            max_unfinished=UNFINISHED, makers={m.VIDEO: Video, m.AUDIO: Audio}
        )
        self._writer = ChunkWriter()
        self._stream_id = 0
        self._received = 0
        self._acknowledge_at = self._acknowledge_step = m.WINDOW // 2
        self._out = bytearray(self._handshake.data_to_send())
        #: What the server says that it understands beyond the classic codecs (Enhanced RTMP).
        self.server_four_ccs: tuple[str, ...] = ()
        #: Bytes that the server says it has received.
        self.acknowledged = 0

    def data_to_send(self) -> bytes:
        out = bytes(self._out)
        self._out.clear()
        return out

    def receive_data(self, data: bytes) -> list[ClientEvent]:
        if self._handshake is not None:
            done = self._handshake.receive_data(data)
            self._out += self._handshake.data_to_send()
            if not done:
                return []
            data = self._handshake.rest
            self._handshake = None
            self._connect()
        self._received += len(data)
        if self._received >= self._acknowledge_at:
            self._acknowledge_at = self._received + self._acknowledge_step
            self._out += m.acknowledgement(self._received)
        events: list[ClientEvent] = []
        for message in self._reader.receive_data(data):
            if isinstance(message, Message):
                self._handle(message, events)
            elif self._play and self.state is ClientState.STARTED:
                events.append(message)
        return events

    # ---- what a publisher sends

    def send_video(self, timestamp: int, body: bytes) -> None:
        """The body of an FLV video tag; ``timestamp`` in ms."""
        self._send_media(m.VIDEO_CHUNKS, m.VIDEO, timestamp, body)

    def send_audio(self, timestamp: int, body: bytes) -> None:
        """The body of an FLV audio tag; ``timestamp`` in ms."""
        self._send_media(m.AUDIO_CHUNKS, m.AUDIO, timestamp, body)

    def send_metadata(self, values: Mapping[str, object]) -> None:
        """onMetaData, to be kept for players that come later."""
        body = amf0.encode("@setDataFrame", "onMetaData", amf0.EcmaArray(values))
        self._send_media(m.AUDIO_CHUNKS, m.DATA, 0, body)

    def send_data(self, timestamp: int, name: str, *values: object) -> None:
        """Another data message, such as onTextData."""
        self._send_media(m.AUDIO_CHUNKS, m.DATA, timestamp, amf0.encode(name, *values))

    def stop(self) -> None:
        """Say that the stream is over; close the connection after sending it."""
        if self.state is ClientState.STARTED:
            if not self._play:
                self._command(0, "FCUnpublish", 6.0, None, self._stream)
            self._command(0, "deleteStream", 7.0, None, float(self._stream_id))
        self.state = ClientState.ENDED

    def _send_media(self, chunks: int, type_id: int, timestamp: int, body: bytes) -> None:
        if self._play or self.state is not ClientState.STARTED:
            raise RuntimeError(f"an RTMP client that is {self.state.value} can't send media")
        self._out += self._writer.message(chunks, type_id, self._stream_id, timestamp, body)

    def _command(self, stream_id: int, *values: object) -> None:
        self._out += m.command(self._writer, stream_id, *values)

    # ---- the way to the stream

    def _connect(self) -> None:
        self.state = ClientState.CONNECTING
        self._out += self._writer.set_chunk_size(CHUNK_SIZE)
        given: dict[str, object] = {
            "app": self._app,
            "type": "nonprivate",
            "flashVer": "FMLE/3.0 (compatible; Kiln)",
            "swfUrl": self._tc_url,
            "tcUrl": self._tc_url,
        }
        if self._four_ccs:
            given["fourCcList"] = self._four_ccs
        self._command(0, "connect", _CONNECT, given)

    def _handle(self, message: Message, events: list[ClientEvent]) -> None:
        kind = message.type_id
        if kind in _REPLIES:
            self._handle_reply(message, events)
        elif kind in (m.DATA, m.AMF3_DATA):
            if self._play and self.state is ClientState.STARTED:
                m.read_data(message, events)
        elif kind == m.AGGREGATE:
            if self._play and self.state is ClientState.STARTED:
                m.read_aggregate(message, events)
        elif kind == m.WINDOW_SIZE:
            self._acknowledge_step = m.window_step(message.body)
            self._acknowledge_at = self._received + self._acknowledge_step
        elif kind == m.PEER_BANDWIDTH:
            self._out += control_message(m.WINDOW_SIZE, m.WINDOW.to_bytes(4, "big"))
        elif kind == m.ACKNOWLEDGEMENT:
            self.acknowledged = int.from_bytes(message.body[:4], "big")
        elif kind == m.USER_CONTROL and message.body[:2] == m.PING_REQUEST.to_bytes(2, "big"):
            self._out += m.ping_response(message.body)

    def _handle_reply(self, message: Message, events: list[ClientEvent]) -> None:
        values = m.amf_values(message)
        name = values[0] if values else None
        transaction = values[1] if len(values) > 1 else None
        if name == "_result" and transaction == _CONNECT:
            self._connected(values[2:])
        elif name == "_result" and transaction == _CREATE:
            self._created(values[3] if len(values) > 3 else None)
        elif name == "_error" and transaction in (_CONNECT, _CREATE, _START):
            self._refused(values, "NetConnection.Call.Failed", events)
        elif name == "onStatus":
            self._status(values, events)
        elif name == "close":
            self._refused(values, "NetConnection.Connect.Closed", events)

    def _connected(self, values: list[object]) -> None:
        if self.state is not ClientState.CONNECTING:
            return
        self.state = ClientState.CREATING
        properties = values[0] if values and isinstance(values[0], dict) else {}
        listed = properties.get("fourCcList")
        if isinstance(listed, list):
            self.server_four_ccs = tuple(item for item in listed if isinstance(item, str))
        if not self._play:
            self._command(0, "releaseStream", _RELEASE, None, self._stream)
            self._command(0, "FCPublish", _FC_PUBLISH, None, self._stream)
        self._command(0, "createStream", _CREATE, None)

    def _created(self, stream_id: object) -> None:
        if self.state is not ClientState.CREATING:
            return
        if not isinstance(stream_id, float) or not 0 < stream_id < 1 << 32:
            raise RemoteProtocolError("RTMP createStream gave no stream id")
        self.state = ClientState.STARTING
        self._stream_id = int(stream_id)
        if self._play:
            # -2: live, and recorded where nothing is live.
            self._command(self._stream_id, "play", _START, None, self._stream, -2.0)
        else:
            self._command(self._stream_id, "publish", _START, None, self._stream, "live")

    def _status(self, values: list[object], events: list[ClientEvent]) -> None:
        status = values[3] if len(values) > 3 and isinstance(values[3], dict) else {}
        code = status.get("code")
        if not isinstance(code, str):
            return
        if status.get("level") == "error":
            self._refused(values, code, events)
        elif code in ("NetStream.Publish.Start", "NetStream.Play.Start"):
            if self.state is ClientState.STARTING:
                self.state = ClientState.STARTED
                events.append(Started(code))
        elif code in ("NetStream.Play.Stop", "NetStream.Play.UnpublishNotify", "NetStream.Play.Complete"):
            self.state = ClientState.ENDED
            events.append(Ended(code))

    def _refused(self, values: list[object], code: str, events: list[ClientEvent]) -> None:
        self.state = ClientState.REFUSED
        status = values[3] if len(values) > 3 and isinstance(values[3], dict) else {}
        told, description = status.get("code"), status.get("description")
        events.append(
            Refused(
                told if isinstance(told, str) else code,
                description if isinstance(description, str) else "the server gave no reason",
            )
        )
