"""VISCA, the control protocol of PTZ cameras (Sony, EVI-D100 and SRG command tables): frames, commands, replies.

Sans-IO. A frame is ``8x … FF`` to camera x (1 to 7, 8 is all of them) and ``z0 … FF`` (z = x + 8) back, at most 16
bytes. VISCA over IP puts a header of 8 bytes before it (UDP port 52381).
Not verified on hardware, nor yet against the data sheet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum

END = 0xFF
LONGEST = 16
ALL = 8
UDP_PORT = 52381
MAX_PAN_SPEED = 0x18
MAX_TILT_SPEED = 0x14
MAX_VARIABLE_SPEED = 7
MAX_PRESET = 0x7F
MAX_ZOOM = MAX_FOCUS = 0xFFFF


class ReplyKind(Enum):
    """ACK: taken, and at work in its socket. COMPLETION: done; of an inquiry, ``data`` is the answer. ADDRESS: of a
    broadcast, ``data`` the next free address. CHANGED: another camera has joined: addresses are to be set again."""

    ACK = "ack"
    COMPLETION = "completion"
    ERROR = "error"
    ADDRESS = "address"
    CLEARED = "cleared"
    CHANGED = "changed"


class ErrorCode(IntEnum):
    LENGTH = 0x01
    SYNTAX = 0x02
    BUFFER_FULL = 0x03
    CANCELLED = 0x04
    NO_SOCKET = 0x05
    NOT_EXECUTABLE = 0x41


ERRORS = {
    ErrorCode.LENGTH: "the camera finds the message too long",
    ErrorCode.SYNTAX: "the camera does not know this command",
    ErrorCode.BUFFER_FULL: "the camera is busy with two commands",
    ErrorCode.CANCELLED: "the command was cancelled",
    ErrorCode.NO_SOCKET: "the camera has no such command at work",
    ErrorCode.NOT_EXECUTABLE: "the camera can't do this now (switched off, or in another mode)",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """From camera ``address`` (1 to 7; 0 a broadcast). ``socket`` 1 or 2, 0 where there is none; ``code`` of errors."""

    kind: ReplyKind
    address: int
    socket: int = 0
    data: bytes = b""
    code: int = 0

    @property
    def reason(self) -> str:
        """Of an error, for people."""
        known = ERRORS.get(self.code)  # type: ignore[call-overload]
        return known or f"the camera refuses: error {self.code:#04x}"


class ViscaParser:
    """Bytes of the serial line in, replies out. What is no frame is skipped and counted in ``discarded``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = False
        self.discarded = 0

    def receive_data(self, data: bytes) -> list[Reply]:
        found = []
        for frame in self._frames(data):
            reply = parse_reply(frame)
            if reply is None:
                self.discarded += len(frame)
            else:
                found.append(reply)
        return found

    def _frames(self, data: bytes) -> Iterator[bytes]:
        for byte in data:
            self._buffer.append(byte)
            if byte == END:
                frame, self._buffer = bytes(self._buffer), bytearray()
                skipped, self._skipping = self._skipping, False
                if skipped:
                    self.discarded += len(frame)
                else:
                    yield frame
            elif len(self._buffer) >= LONGEST:
                # Too long for a frame: all up to the next end is lost.
                self.discarded += len(self._buffer)
                self._buffer.clear()
                self._skipping = True


def parse_reply(frame: bytes) -> Reply | None:
    """One frame with its end; None for what is no reply of a camera."""
    if not 3 <= len(frame) <= LONGEST or frame[-1] != END:
        return None
    first, body = frame[0], frame[1:-1]
    if first == 0x80 | ALL:
        if len(body) == 2 and body[0] == 0x30 and 1 <= body[1] <= 8:
            return Reply(ReplyKind.ADDRESS, 0, data=body[1:])
        return Reply(ReplyKind.CLEARED, 0) if body == b"\x01\x00\x01" else None
    address = (first >> 4) - 8
    if first & 0x0F or not 1 <= address <= 7:
        return None
    high, socket = body[0] & 0xF0, body[0] & 0x0F
    if body == b"\x38":
        return Reply(ReplyKind.CHANGED, address)
    if high == 0x40 and len(body) == 1:
        return Reply(ReplyKind.ACK, address, socket)
    if high == 0x50:
        return Reply(ReplyKind.COMPLETION, address, socket, body[1:])
    if high == 0x60 and len(body) == 2:
        return Reply(ReplyKind.ERROR, address, socket, code=body[1])
    return None


# Commands: what stands between the address and the end.


@dataclass(frozen=True, slots=True)
class Command:
    """``inquiry``: the answer comes with the completion, and there is no ACK."""

    body: bytes
    inquiry: bool = False

    def frame(self, address: int) -> bytes:
        return bytes([0x80 | address]) + self.body + b"\xff"


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


ADDRESS_SET = _hex("88 30 01 FF")
CLEAR_ALL = _hex("88 01 00 01 FF")
POWER_ON = Command(_hex("01 04 00 02"))
POWER_OFF = Command(_hex("01 04 00 03"))
HOME = Command(_hex("01 06 04"))
RECALIBRATE = Command(_hex("01 06 05"))
ZOOM_STOP = Command(_hex("01 04 07 00"))
FOCUS_STOP = Command(_hex("01 04 08 00"))
FOCUS_AUTO = Command(_hex("01 04 38 02"))
FOCUS_MANUAL = Command(_hex("01 04 38 03"))
FOCUS_ONE_PUSH = Command(_hex("01 04 18 01"))
POWER_INQUIRY = Command(_hex("09 04 00"), inquiry=True)
ZOOM_INQUIRY = Command(_hex("09 04 47"), inquiry=True)
FOCUS_INQUIRY = Command(_hex("09 04 48"), inquiry=True)
POSITION_INQUIRY = Command(_hex("09 06 12"), inquiry=True)
VERSION_INQUIRY = Command(_hex("09 00 02"), inquiry=True)


def cancel(socket: int) -> Command:
    return Command(bytes([0x20 | socket]))


def drive(pan: int, tilt: int) -> Command:
    """Move until told otherwise: ``pan`` -24 (left) to 24, ``tilt`` -20 (down) to 20, 0 stops. Raises ValueError."""
    _check("pan", pan, -MAX_PAN_SPEED, MAX_PAN_SPEED)
    _check("tilt", tilt, -MAX_TILT_SPEED, MAX_TILT_SPEED)
    across = 3 if pan == 0 else 1 if pan < 0 else 2
    up = 3 if tilt == 0 else 2 if tilt < 0 else 1
    return Command(_hex("01 06 01") + bytes([abs(pan) or 1, abs(tilt) or 1, across, up]))


def move_to(pan: int, tilt: int, pan_speed: int = MAX_PAN_SPEED, tilt_speed: int = MAX_TILT_SPEED) -> Command:
    """To a position, in the camera's own steps, -32768 to 32767. Raises ValueError."""
    _check("pan", pan, -0x8000, 0x7FFF)
    _check("tilt", tilt, -0x8000, 0x7FFF)
    _check("panSpeed", pan_speed, 1, MAX_PAN_SPEED)
    _check("tiltSpeed", tilt_speed, 1, MAX_TILT_SPEED)
    return Command(_hex("01 06 02") + bytes([pan_speed, tilt_speed]) + nibbles(pan) + nibbles(tilt))


def zoom(speed: int) -> Command:
    """-8 (wide, fast) to 8 (tele, fast), 0 stops. Raises ValueError."""
    return _variable(0x07, "zoom", speed)


def focus(speed: int) -> Command:
    """-8 (near, fast) to 8 (far, fast), 0 stops. Raises ValueError."""
    return _variable(0x08, "focus", speed)


def zoom_to(position: int) -> Command:
    """0 (wide) to 65535; most cameras end at 16384. Raises ValueError."""
    _check("zoom", position, 0, MAX_ZOOM)
    return Command(_hex("01 04 47") + nibbles(position))


def focus_to(position: int) -> Command:
    """Raises ValueError."""
    _check("focus", position, 0, MAX_FOCUS)
    return Command(_hex("01 04 48") + nibbles(position))


def preset(action: str, number: int) -> Command:
    """``action`` clear, set or recall; ``number`` 0 to 127. Raises ValueError."""
    _check("preset", number, 0, MAX_PRESET)
    actions = ("clear", "set", "recall")
    if action not in actions:
        raise ValueError(f"a preset is cleared, set or recalled, not {action[:64]}")
    return Command(_hex("01 04 3F") + bytes([actions.index(action), number]))


def _variable(code: int, name: str, speed: int) -> Command:
    _check(name, speed, -MAX_VARIABLE_SPEED - 1, MAX_VARIABLE_SPEED + 1)
    how = 0 if speed == 0 else (0x20 if speed > 0 else 0x30) | (abs(speed) - 1)
    return Command(bytes([0x01, 0x04, code, how]))


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is from {low} to {high}, not {value}")


def nibbles(value: int) -> bytes:
    """16 bits, four bits a byte: ``0p 0q 0r 0s``."""
    return bytes((value >> shift) & 0x0F for shift in (12, 8, 4, 0))


def from_nibbles(data: bytes, *, signed: bool = False) -> int | None:
    """None for what is not four of them."""
    if len(data) != 4 or any(byte > 0x0F for byte in data):
        return None
    value = data[0] << 12 | data[1] << 8 | data[2] << 4 | data[3]
    return value - 0x10000 if signed and value >= 0x8000 else value


# VISCA over IP


class PayloadType(IntEnum):
    COMMAND = 0x0100
    INQUIRY = 0x0110
    REPLY = 0x0111
    SETTING = 0x0120
    CONTROL = 0x0200
    CONTROL_REPLY = 0x0201


@dataclass(frozen=True, slots=True)
class Datagram:
    """``sequence`` 32 bits; a reply has that of its command."""

    type: PayloadType
    sequence: int
    payload: bytes

    def encode(self) -> bytes:
        return struct.pack(">HHI", self.type, len(self.payload), self.sequence) + self.payload


#: Puts the camera's sequence number back to 0, before anything else is sent.
SEQUENCE_TO_ZERO = Datagram(PayloadType.CONTROL, 0, b"\x01")


def parse_datagram(data: bytes) -> Datagram | None:
    """None for what is none: too short, another length than it says, a type that is not known."""
    if not 8 <= len(data) <= 8 + LONGEST:
        return None
    kind, length, sequence = struct.unpack_from(">HHI", data)
    if length != len(data) - 8 or kind not in PayloadType._value2member_map_:
        return None
    return Datagram(PayloadType(kind), sequence, data[8:])
