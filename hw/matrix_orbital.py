"""The commands of Matrix Orbital's character displays (LK204-7T-1U: 4 x 20, 7 keys, 3 two-coloured LEDs). Sans-IO.

A command is 0xFE and its bytes; all else is text. A key press is one letter.
Not verified on hardware, nor yet against the data sheet.
"""

from __future__ import annotations

from hw.keys import Key

PREFIX = 0xFE
ROWS, COLUMNS = 4, 20
BAUDRATE = 19200

CLEAR = bytes([PREFIX, 0x58])
KEYS_ON = bytes([PREFIX, 0x41])
BACKLIGHT_ON = bytes([PREFIX, 0x42, 0])
#: No scrolling, no wrapping into the next line.
SCROLL_OFF = bytes([PREFIX, 0x52])
WRAP_OFF = bytes([PREFIX, 0x44])

_KEYS = {"B": Key.UP, "H": Key.DOWN, "D": Key.LEFT, "C": Key.RIGHT, "E": Key.ENTER, "A": Key.EXIT, "G": Key.EXIT}
#: (green, red) outputs of each LED, from the top. An output that is on puts its colour out.
LEDS = ((2, 1), (4, 3), (6, 5))


class KeyParser:
    """Bytes in, keys out; ``discarded`` counts what is no key."""

    def __init__(self) -> None:
        self.discarded = 0

    def receive_data(self, data: bytes) -> list[Key]:
        found = [_KEYS.get(chr(byte)) for byte in data]
        keys = [key for key in found if key is not None]
        self.discarded += len(found) - len(keys)
        return keys


def write_text(row: int, column: int, text: bytes) -> bytes:
    """Rows 0 to 3, columns 0 to 19. A byte that would be a command is shown as ``?``."""
    shown = text[: COLUMNS - column].replace(bytes([PREFIX]), b"?")
    return bytes([PREFIX, 0x47, column + 1, row + 1]) + shown


def set_led(led: int, green: int, red: int) -> bytes:
    """``led`` 0 to 2 from the top; above 0 is on."""
    outputs = LEDS[led]
    return b"".join(
        bytes([PREFIX, 0x56 if value else 0x57, output]) for output, value in zip(outputs, (green, red), strict=True)
    )
