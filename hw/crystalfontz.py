"""The packets of Crystalfontz' CFA635 (4 lines of 20 characters, 6 keys, 4 two-coloured LEDs). Sans-IO.

``type, length, data (0 to 22), CRC-16 low, high``. Not verified on hardware, nor yet against the data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.keys import Key

MOST_DATA = 22
ROWS, COLUMNS = 4, 20
BAUDRATE = 115200

PING, CLEAR, CONTRAST, BACKLIGHT, KEY_REPORTING, WRITE_TEXT, SET_OUTPUT = 0, 6, 13, 14, 23, 31, 34
KEY_ACTIVITY = 0x80
RESPONSE, FAILURE = 0x40, 0xC0
ALL_KEYS = 0x3F
_KEYS = (Key.UP, Key.DOWN, Key.LEFT, Key.RIGHT, Key.ENTER, Key.EXIT)
#: (green, red) outputs of each LED, from the top.
LEDS = ((11, 12), (9, 10), (7, 8), (5, 6))


def crc16(data: bytes) -> int:
    """Polynomial 0x8408 (reversed 0x1021), seed 0xFFFF, inverted at the end."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8408 if crc & 1 else crc >> 1
    return ~crc & 0xFFFF


@dataclass(frozen=True, slots=True)
class Packet:
    """``type`` with its two highest bits: 0 command, 1 response, 2 report, 3 error response."""

    type: int
    data: bytes = b""

    def encode(self) -> bytes:
        body = bytes([self.type, len(self.data)]) + self.data
        return body + crc16(body).to_bytes(2, "little")

    @property
    def pressed(self) -> Key | None:
        """The key whose press this reports; releases are none."""
        if self.type != KEY_ACTIVITY or len(self.data) != 1 or not 1 <= self.data[0] <= 6:
            return None
        return _KEYS[self.data[0] - 1]


class PacketParser:
    """Bytes in, packets out. After a wrong CRC it looks on from the next byte; ``discarded`` counts those skipped."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.discarded = 0

    def receive_data(self, data: bytes) -> list[Packet]:
        found = []
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            length = buffer[1]
            if length > MOST_DATA:
                self._skip()
                continue
            if len(buffer) < length + 4:
                break
            body = bytes(buffer[: length + 2])
            if crc16(body) != int.from_bytes(buffer[length + 2 : length + 4], "little"):
                self._skip()
                continue
            del buffer[: length + 4]
            found.append(Packet(body[0], body[2:]))
        return found

    def _skip(self) -> None:
        del self._buffer[:1]
        self.discarded += 1


def write_text(row: int, column: int, text: bytes) -> Packet:
    """Rows 0 to 3, columns 0 to 19, up to 20 bytes."""
    return Packet(WRITE_TEXT, bytes([column, row]) + text[: COLUMNS - column])


def set_led(led: int, green: int, red: int) -> tuple[Packet, Packet]:
    """``led`` 0 to 3 from the top; 0 to 100 per cent."""
    outputs = LEDS[led]
    return Packet(SET_OUTPUT, bytes([outputs[0], green])), Packet(SET_OUTPUT, bytes([outputs[1], red]))
