"""A GPS receiver on a serial line: where the box is, and what time it is. Not verified on hardware."""

from __future__ import annotations

import trio

from hw.nmea import NmeaParser, Position
from hw.serial_link import DeviceFault, SerialLink

#: Receivers speak once a second; silence for so long is a fault (s).
SILENT_AFTER = 10.0
#: What was heard is no position any more after so long (s).
STALE_AFTER = 5.0


class GpsReceiver:
    """``position`` is what was heard last; ``age`` says when."""

    def __init__(self) -> None:
        self.position = Position()
        self.corrupt = 0
        self._heard_at = float("-inf")

    @property
    def age(self) -> float:
        """Seconds since the last sentence; infinite before the first."""
        return trio.current_time() - self._heard_at

    @property
    def fresh(self) -> bool:
        return self.age <= STALE_AFTER

    async def run(self, link: SerialLink) -> None:
        """Raises DeviceFault."""
        parser = NmeaParser()
        self.position = Position()
        while True:
            data = b""
            with trio.move_on_after(SILENT_AFTER):
                data = await link.receive()
            if not data:
                raise DeviceFault(f"{link.name} says nothing for {SILENT_AFTER:g} s: is it a GPS receiver?")
            sentences = parser.receive_data(data)
            link.judge(len(data), len(sentences))
            self.corrupt = parser.corrupt
            for sentence in sentences:
                if self.position.apply(sentence):
                    self._heard_at = trio.current_time()
