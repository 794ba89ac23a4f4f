"""The server side of one RTMP connection, for publishers (wire catalogue 5)."""

from __future__ import annotations

import logging
import os
from enum import Enum
from typing import Final

from appliance.errors import RemoteProtocolError
from appliance.protocols.amf0 import EcmaArray
from appliance.protocols.rtmp import messages as m
from appliance.protocols.rtmp.address import parse_address
from appliance.protocols.rtmp.chunks import ChunkReader, ChunkWriter, Message, control_message
from appliance.protocols.rtmp.events import Audio, Connect, Event, PlayRefused, Publish, Unpublish, Video
from appliance.protocols.rtmp.handshake import RandomBytes, ServerHandshake

log = logging.getLogger("kiln.rtmp")

#: Bytes of messages in progress before a publisher is accepted, and after.
UNFINISHED_BEFORE_PUBLISH: Final = 64 * 1024
UNFINISHED: Final = 20 * 1024 * 1024
#: What we announce as our chunk size: our replies go out in one piece, and FFmpeg takes it over for what it sends.
CHUNK_SIZE: Final = 60_000

VIDEO_FOUR_CCS: Final = ("avc1", "hvc1", "av01", "vp09")
AUDIO_FOUR_CCS: Final = ("mp4a", "Opus")
#: Enhanced RTMP 2: ModEx (4) and its nanosecond offsets (8).
CAPABILITIES: Final = 0x0C
_CAN_FORWARD: Final = 4

_STREAM_ID: Final = 1
_COMMANDS: Final = frozenset({m.COMMAND, m.AMF3_COMMAND})


class State(Enum):
    """Where a session stands; it goes down this list, and from PUBLISHING back to CONNECTED at the end of a stream."""

    HANDSHAKE = "handshake"
    NEW = "new"
    CONNECTED = "connected"
    ASKED = "asked"
    PUBLISHING = "publishing"
    REFUSED = "refused"


class RtmpServer:
    """``receive_data`` gives events, ``data_to_send`` what must go out after it.

    After a Publish event nothing more is read until ``accept_publish`` or ``reject_publish``; call
    ``receive_data(b"")`` then for what had come behind it. Raises RemoteProtocolError, and nothing else, for what a
    peer may send; the session is over after that.
    """

    def __init__(self, random_bytes: RandomBytes = os.urandom) -> None:
        self.state = State.HANDSHAKE
        self._handshake: ServerHandshake | None = ServerHandshake(random_bytes)
        self._reader: ChunkReader[Video | Audio] = ChunkReader(
            max_unfinished=UNFINISHED_BEFORE_PUBLISH, pause_on=_COMMANDS, makers={m.VIDEO: Video, m.AUDIO: Audio}
        )
        self._writer = ChunkWriter()
        self._received = 0
        self._acknowledge_at = self._acknowledge_step = m.WINDOW // 2
        self._out = bytearray()
        self._app = ""
        self._tc_url = ""
        self._publish_stream = _STREAM_ID

    @property
    def missing(self) -> int:
        """How many bytes must come at least before there can be another event, or something to send (at least 1)."""
        if self._handshake is not None:
            return 1
        return min(self._reader.missing, self._acknowledge_at - self._received)

    @property
    def awaits_answer(self) -> bool:
        """Whether a Publish event waits for ``accept_publish`` or ``reject_publish``."""
        return self.state is State.ASKED

    @property
    def paused(self) -> bool:
        """Whether bytes wait behind an answered Publish event: call ``receive_data(b"")``."""
        return self._handshake is None and self._reader.paused and not self.awaits_answer

    @property
    def refused(self) -> bool:
        """Whether the publisher was told to go."""
        return self.state is State.REFUSED

    @property
    def has_data_to_send(self) -> bool:
        return bool(self._out)

    def data_to_send(self) -> bytes:
        if not self._out:
            return b""
        out = bytes(self._out)
        self._out.clear()
        return out

    def receive_data(self, data: bytes) -> list[Event]:
        if self._handshake is not None:
            done = self._handshake.receive_data(data)
            self._out += self._handshake.data_to_send()
            if not done:
                return []
            data = self._handshake.rest
            self._handshake = None
            self.state = State.NEW
        if self.state is State.ASKED:
            raise RuntimeError("a Publish event is waiting for its answer")
        self._received += len(data)
        if self._received >= self._acknowledge_at:
            self._acknowledge_at = self._received + self._acknowledge_step
            self._out += m.acknowledgement(self._received)
        events: list[Event] = []
        if self.state is State.REFUSED:
            return events
        while True:
            publishing = self.state is State.PUBLISHING
            for message in self._reader.receive_data(data):
                if not isinstance(message, Message):
                    if publishing:
                        events.append(message)
                else:
                    self._handle(message, events)
            if not self._reader.paused or self.awaits_answer:
                return events
            data = b""

    def accept_publish(self) -> None:
        """Tell the peer that it is on."""
        self._require(State.ASKED)
        self.state = State.PUBLISHING
        self._reader.max_unfinished = UNFINISHED
        self._out += m.stream_begin(self._publish_stream)
        self._send_status("status", "NetStream.Publish.Start", "Publishing")

    def reject_publish(self, code: str, description: str) -> None:
        """Tell the peer why not; ``code`` is NetStream.Publish.BadName, .Rejected or .Denied. Close after sending."""
        self._require(State.ASKED)
        self.state = State.REFUSED
        self._send_status("error", code, description)

    def end_publish(self, code: str, description: str) -> None:
        """Tell a publisher that it is put off the air, whatever it has said since. Close after sending."""
        if self.state in (State.HANDSHAKE, State.NEW):
            raise RuntimeError(f"RTMP session is {self.state.value}, nothing was published")
        self.state = State.REFUSED
        self._send_status("error", code, description)

    def _require(self, state: State) -> None:
        if self.state is not state:
            raise RuntimeError(f"RTMP session is {self.state.value}, not {state.value}")

    def _handle(self, message: Message, events: list[Event]) -> None:
        kind = message.type_id
        publishing = self.state is State.PUBLISHING
        if kind in _COMMANDS:
            self._handle_command(message, events)
        elif kind in (m.DATA, m.AMF3_DATA):
            if publishing:
                m.read_data(message, events)
        elif kind == m.AGGREGATE:
            if publishing:
                m.read_aggregate(message, events)
        elif kind == m.WINDOW_SIZE:
            self._acknowledge_step = m.window_step(message.body)
            self._acknowledge_at = self._received + self._acknowledge_step
        elif kind == m.PEER_BANDWIDTH:
            self._out += control_message(m.WINDOW_SIZE, m.WINDOW.to_bytes(4, "big"))
        elif kind == m.USER_CONTROL:
            self._handle_user_control(message.body)

    def _handle_user_control(self, body: bytes) -> None:
        if len(body) < 2:
            raise RemoteProtocolError("RTMP user control message without a type")
        if int.from_bytes(body[:2], "big") == m.PING_REQUEST:
            self._out += m.ping_response(body)

    def _handle_command(self, message: Message, events: list[Event]) -> None:
        values = m.amf_values(message)
        name = values[0] if values else None
        if not isinstance(name, str):
            raise RemoteProtocolError("RTMP command without a name")
        transaction = values[1] if len(values) > 1 and isinstance(values[1], float) else 0.0
        arguments = values[2:]
        match name:
            case "connect":
                self._connect(transaction, arguments, events)
            case "createStream":
                self._out += m.command(self._writer, 0, "_result", transaction, None, float(_STREAM_ID))
            case "FCPublish":
                status = {"code": "NetStream.Publish.Start", "description": f"FCPublish to stream {_name(arguments)}"}
                self._out += m.command(self._writer, 0, "onFCPublish", 0.0, None, status)
            case "publish":
                self._publish(message.stream_id, arguments, events)
            case "deleteStream" | "closeStream" | "FCUnpublish":
                self._unpublish(name, events)
            case "_checkbw" | "checkBandwidth":
                self._out += m.command(self._writer, 0, "_result", transaction, None)
            case "getStreamLength":
                self._out += m.command(self._writer, 0, "_result", transaction, None, 0.0)
            case "play" | "play2":
                self._refuse_play(message.stream_id, arguments, events)
            case _:
                log.debug("command ignored name=%.64s", name)

    def _connect(self, transaction: float, arguments: list[object], events: list[Event]) -> None:
        given = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
        self._app = _text(given.get("app"))
        self._tc_url = _text(given.get("tcUrl"))
        if self.state is State.NEW:
            self.state = State.CONNECTED
        enhanced = "fourCcList" in given or "videoFourCcInfoMap" in given or "capsEx" in given
        properties: dict[str, object] = {"fmsVer": "FMS/3,5,2,654", "capabilities": 31.0, "mode": 1.0}
        if enhanced:
            properties["fourCcList"] = list(VIDEO_FOUR_CCS + AUDIO_FOUR_CCS)
            properties["videoFourCcInfoMap"] = dict.fromkeys(VIDEO_FOUR_CCS, _CAN_FORWARD)
            properties["audioFourCcInfoMap"] = dict.fromkeys(AUDIO_FOUR_CCS, _CAN_FORWARD)
            properties["capsEx"] = float(CAPABILITIES)
        encoding = given.get("objectEncoding")
        information = {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "Connection succeeded.",
            "clientid": 1.0,
            "objectEncoding": encoding if isinstance(encoding, float) else 0.0,
            "data": EcmaArray(version="3,5,2,654"),
        }
        window = m.WINDOW.to_bytes(4, "big")
        self._out += control_message(m.WINDOW_SIZE, window)
        self._out += control_message(m.PEER_BANDWIDTH, window + b"\x02")
        self._out += self._writer.set_chunk_size(CHUNK_SIZE)
        self._out += m.stream_begin(0)
        self._out += m.command(self._writer, 0, "_result", transaction, properties, information)
        events.append(Connect(self._app, self._tc_url, _text(given.get("flashVer")), _four_ccs(given)))

    def _publish(self, stream_id: int, arguments: list[object], events: list[Event]) -> None:
        if self.state is State.PUBLISHING:
            log.warning("second publish on one connection ignored stream=%.128s", _name(arguments))
            return
        if self.state is not State.CONNECTED:
            raise RemoteProtocolError("RTMP publish before connect")
        self.state = State.ASKED
        self._publish_stream = stream_id or _STREAM_ID
        events.append(Publish(parse_address(self._tc_url, self._app, _name(arguments)), self._tc_url))

    def _unpublish(self, command: str, events: list[Event]) -> None:
        if self.state is State.PUBLISHING:
            self.state = State.CONNECTED
            events.append(Unpublish(command))

    def _refuse_play(self, stream_id: int, arguments: list[object], events: list[Event]) -> None:
        self._publish_stream, before = stream_id or _STREAM_ID, self._publish_stream
        self._send_status("error", "NetStream.Play.Failed", "Nothing is played over RTMP here, only published.")
        self._publish_stream = before
        events.append(PlayRefused(_name(arguments)))

    def _send_status(self, level: str, code: str, description: str) -> None:
        status = {"level": level, "code": code, "description": description, "clientid": 1.0}
        self._out += m.command(self._writer, self._publish_stream, "onStatus", 0.0, None, status)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _name(arguments: list[object]) -> str:
    """The stream name: the argument after the null that stands for a command object."""
    return _text(arguments[1]) if len(arguments) > 1 else ""


def _four_ccs(given: dict[str, object]) -> tuple[str, ...]:
    listed = given.get("fourCcList")
    names = [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
    for key in ("videoFourCcInfoMap", "audioFourCcInfoMap"):
        table = given.get(key)
        if isinstance(table, dict):
            names += [name for name in table if name not in names]
    return tuple(names)
