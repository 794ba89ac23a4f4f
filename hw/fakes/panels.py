"""Front panels that answer as ``hw`` takes their protocols to be, and keep what they show in ``rows``."""

from __future__ import annotations

from typing import ClassVar

from hw import crystalfontz
from hw.crystalfontz import Packet, PacketParser
from hw.keys import Key

_ROWS, _COLUMNS = 4, 20


class FakeCrystalfontz:
    """CFA635."""

    def __init__(self) -> None:
        self._parser = PacketParser()
        self._cells = [bytearray(b" " * _COLUMNS) for _ in range(_ROWS)]
        self.outputs: dict[int, int] = {}
        self.silent = False

    @property
    def rows(self) -> list[str]:
        return [row.decode("ascii", "replace") for row in self._cells]

    def receive_data(self, data: bytes) -> bytes:
        answers = b"".join(self._answer(packet).encode() for packet in self._parser.receive_data(data))
        return b"" if self.silent else answers

    def press(self, key: Key) -> bytes:
        """What it reports then."""
        number = list(Key).index(key) + 1
        return Packet(crystalfontz.KEY_ACTIVITY, bytes([number])).encode()

    def _answer(self, packet: Packet) -> Packet:
        data = packet.data
        if packet.type == crystalfontz.CLEAR:
            self._cells = [bytearray(b" " * _COLUMNS) for _ in range(_ROWS)]
        elif packet.type == crystalfontz.WRITE_TEXT and len(data) >= 3 and data[0] < _COLUMNS and data[1] < _ROWS:
            text = data[2 : 2 + _COLUMNS - data[0]]
            self._cells[data[1]][data[0] : data[0] + len(text)] = text
        elif packet.type == crystalfontz.SET_OUTPUT and len(data) == 2:
            self.outputs[data[0]] = data[1]
        elif packet.type == crystalfontz.PING:
            return Packet(crystalfontz.RESPONSE, data)
        elif packet.type != crystalfontz.KEY_REPORTING:
            return Packet(crystalfontz.FAILURE | packet.type)
        return Packet(crystalfontz.RESPONSE | packet.type)


class FakeMatrixOrbital:
    """LK204-7T-1U."""

    #: How many bytes follow the code of a command.
    _ARGUMENTS: ClassVar = {0x58: 0, 0x41: 0, 0x42: 1, 0x52: 0, 0x44: 0, 0x47: 2, 0x56: 1, 0x57: 1}

    def __init__(self) -> None:
        self._cells = [bytearray(b" " * _COLUMNS) for _ in range(_ROWS)]
        self._pending = b""
        self._at = (0, 0)
        self.outputs: dict[int, bool] = {}

    @property
    def rows(self) -> list[str]:
        return [row.decode("ascii", "replace") for row in self._cells]

    def press(self, key: Key) -> bytes:
        return {"up": b"B", "down": b"H", "left": b"D", "right": b"C", "enter": b"E", "exit": b"A"}[key]

    def receive_data(self, data: bytes) -> bytes:
        for byte in data:
            self._take(byte)
        return b""

    def _take(self, byte: int) -> None:
        if not self._pending and byte != 0xFE:
            row, column = self._at
            if row < _ROWS and column < _COLUMNS:
                self._cells[row][column] = byte
                self._at = row, column + 1
            return
        self._pending += bytes([byte])
        if len(self._pending) < 2 or len(self._pending) < 2 + self._ARGUMENTS.get(self._pending[1], 0):
            return
        code, arguments, self._pending = self._pending[1], self._pending[2:], b""
        if code == 0x58:
            self._cells = [bytearray(b" " * _COLUMNS) for _ in range(_ROWS)]
        elif code == 0x47:
            self._at = arguments[1] - 1, arguments[0] - 1
        elif code in (0x56, 0x57):
            self.outputs[arguments[0]] = code == 0x57
