"""Front panels: a character display with keys and LEDs, whatever the make. Not verified on hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from hw import crystalfontz, matrix_orbital
from hw.keys import Key
from hw.serial_link import DeviceFault, SerialLink

ROWS, COLUMNS = 4, 20
#: A panel answers a packet within 250 ms; with an adapter between.
ANSWER_WITHIN = 1.0


class Panel(Protocol):
    """``show`` writes the rows that have changed. Both raise DeviceFault."""

    async def begin(self) -> None: ...
    async def show(self, rows: Sequence[str]) -> None: ...
    async def light(self, led: int, *, green: bool, red: bool) -> None: ...
    async def receive(self) -> list[Key]: ...


def fitted(text: str) -> bytes:
    """One row: what the display has no letter for is ``?``, filled up with blanks."""
    return text[:COLUMNS].encode("ascii", "replace").ljust(COLUMNS)


class CrystalfontzPanel:
    """CFA635. Each packet is acknowledged before the next one is sent; an answer that does
    not come is counted in ``unanswered``, and the row is written again."""

    def __init__(self, link: SerialLink) -> None:
        self._link = link
        self._parser = crystalfontz.PacketParser()
        self._shown: list[bytes] = [b""] * ROWS
        self._awaited = -1
        self._answered = trio.Event()
        self._turn = trio.Lock()
        self.unanswered = 0

    async def begin(self) -> None:
        await self._link.send(crystalfontz.Packet(crystalfontz.CLEAR).encode())
        reporting = crystalfontz.Packet(crystalfontz.KEY_REPORTING, bytes([crystalfontz.ALL_KEYS, 0]))
        await self._link.send(reporting.encode())

    async def show(self, rows: Sequence[str]) -> None:
        for number, text in enumerate(rows[:ROWS]):
            row = fitted(text)
            if row != self._shown[number] and await self._command(crystalfontz.write_text(number, 0, row)):
                self._shown[number] = row

    async def light(self, led: int, *, green: bool, red: bool) -> None:
        for packet in crystalfontz.set_led(led, 100 * green, 100 * red):
            await self._command(packet)

    async def receive(self) -> list[Key]:
        data = await self._link.receive()
        packets = self._parser.receive_data(data)
        self._link.judge(len(data), len(packets))
        if any(packet.type == self._awaited for packet in packets):
            self._answered.set()
        return [packet.pressed for packet in packets if packet.pressed is not None]

    async def _command(self, packet: crystalfontz.Packet) -> bool:
        async with self._turn:
            self._answered = trio.Event()
            self._awaited = crystalfontz.RESPONSE | packet.type
            await self._link.send(packet.encode())
            with trio.move_on_after(ANSWER_WITHIN):
                await self._answered.wait()
                return True
            self.unanswered += 1
            return False


class MatrixOrbitalPanel:
    """LK204-7T-1U. It answers nothing; only its keys are heard."""

    def __init__(self, link: SerialLink) -> None:
        self._link = link
        self._parser = matrix_orbital.KeyParser()
        self._shown: list[bytes] = [b""] * ROWS

    async def begin(self) -> None:
        await self._link.send(
            matrix_orbital.CLEAR + matrix_orbital.SCROLL_OFF + matrix_orbital.WRAP_OFF + matrix_orbital.BACKLIGHT_ON
            + matrix_orbital.KEYS_ON
        )  # fmt: skip

    async def show(self, rows: Sequence[str]) -> None:
        for number, text in enumerate(rows[:ROWS]):
            row = fitted(text)
            if row != self._shown[number]:
                await self._link.send(matrix_orbital.write_text(number, 0, row))
                self._shown[number] = row

    async def light(self, led: int, *, green: bool, red: bool) -> None:
        if led < len(matrix_orbital.LEDS):
            await self._link.send(matrix_orbital.set_led(led, green, red))

    async def receive(self) -> list[Key]:
        data = await self._link.receive()
        keys = self._parser.receive_data(data)
        self._link.judge(len(data), len(keys))
        return keys


MAKES: dict[str, tuple[type[CrystalfontzPanel] | type[MatrixOrbitalPanel], int]] = {
    "crystalfontz": (CrystalfontzPanel, crystalfontz.BAUDRATE),
    "matrixorbital": (MatrixOrbitalPanel, matrix_orbital.BAUDRATE),
}
"""By the name in the settings: the driver, and the speed it comes with (Bd)."""


def make_panel(make: str, link: SerialLink) -> Panel:
    """Raises DeviceFault for a make that is not known."""
    if make not in MAKES:
        raise DeviceFault(f"no panel is called {make}")
    return MAKES[make][0](link)
