"""A PTZ camera that answers as the VISCA tables say: bytes of the line in, bytes of its answers out."""

from __future__ import annotations

from hw import visca
from hw.visca import ErrorCode


class FakeViscaCamera:
    """On a serial line with nobody behind it. ``silent`` is a fault of its."""

    def __init__(self, address: int = 1) -> None:
        self.address = address
        self.power = True
        self.pan = self.tilt = self.zoom = self.focus = 0
        self.moving = (0, 0)
        self.presets: dict[int, tuple[int, int, int]] = {}
        self.silent = False
        self.commands: list[bytes] = []
        self._buffer = b""

    def receive_data(self, data: bytes) -> bytes:
        self._buffer += data
        answers = b""
        while b"\xff" in self._buffer:
            frame, _, self._buffer = self._buffer.partition(b"\xff")
            if len(frame) >= 2:
                self.commands.append(frame)
                answers += self._answer(frame)
        return b"" if self.silent else answers

    def _answer(self, frame: bytes) -> bytes:
        if frame[0] == 0x88:
            self.address = frame[2] if frame[1:2] == b"\x30" and len(frame) == 3 else self.address
            return bytes([0x88, 0x30, self.address + 1, 0xFF]) if frame[1] == 0x30 else frame + b"\xff"
        if frame[0] != 0x80 | self.address:
            return b""
        kind, body = frame[1], frame[2:]
        if kind == 0x09:
            return self._inquire(body)
        if kind != 0x01:
            return self._say(0x60, ErrorCode.SYNTAX)
        if not self.power and body[:2] != b"\x04\x00":
            return self._say(0x61, ErrorCode.NOT_EXECUTABLE)
        if not self._obey(body):
            return self._say(0x60, ErrorCode.SYNTAX)
        return self._say(0x41) + self._say(0x51)

    def _obey(self, body: bytes) -> bool:
        group, rest = body[:2], body[2:]
        if group == b"\x04\x00" and rest in (b"\x02", b"\x03"):
            self.power = rest == b"\x02"
        elif group == b"\x04\x3f" and len(rest) == 2:
            self._preset(*rest)
        elif group == b"\x04\x47" and (position := visca.from_nibbles(rest)) is not None:
            self.zoom = position
        elif group == b"\x04\x48" and (position := visca.from_nibbles(rest)) is not None:
            self.focus = position
        elif group == b"\x06\x01" and len(rest) == 4:
            across = {1: -1, 2: 1, 3: 0}[rest[2]] * rest[0]
            self.moving = across, {1: 1, 2: -1, 3: 0}[rest[3]] * rest[1]
            self.pan, self.tilt = self.pan + 10 * self.moving[0], self.tilt + 10 * self.moving[1]
        elif group == b"\x06\x02" and len(rest) == 10:
            pan, tilt = visca.from_nibbles(rest[2:6], signed=True), visca.from_nibbles(rest[6:], signed=True)
            self.pan, self.tilt = pan or 0, tilt or 0
        elif group[:1] == b"\x06" and group[1:] in (b"\x04", b"\x05") and not rest:
            self.pan = self.tilt = 0
        elif group == b"\x04\x07" and len(rest) == 1:
            self.zoom = max(0, min(0x4000, self.zoom + {2: 256, 3: -256}.get(rest[0] >> 4, 0)))
        else:
            return group in (b"\x04\x08", b"\x04\x38", b"\x04\x18")
        return True

    def _preset(self, action: int, number: int) -> None:
        if action == 0:
            self.presets.pop(number, None)
        elif action == 1:
            self.presets[number] = self.pan, self.tilt, self.zoom
        else:
            self.pan, self.tilt, self.zoom = self.presets.get(number, (0, 0, 0))

    def _inquire(self, body: bytes) -> bytes:
        answers = {
            b"\x04\x00": b"\x02" if self.power else b"\x03",
            b"\x04\x47": visca.nibbles(self.zoom),
            b"\x04\x48": visca.nibbles(self.focus),
            b"\x06\x12": visca.nibbles(self.pan) + visca.nibbles(self.tilt),
            b"\x00\x02": bytes.fromhex("00 01 05 1D 01 00 02"),
        }
        known = answers.get(body)
        return self._say(0x60, ErrorCode.SYNTAX) if known is None else self._say(0x50, *known)

    def _say(self, *values: int) -> bytes:
        return bytes([(self.address + 8) << 4, *values, 0xFF])
