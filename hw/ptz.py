"""PTZ cameras on a bus (up to seven on a serial line, one behind an address), spoken to in VISCA.

Not verified on hardware: tried with the camera of ``hw.fakes`` alone, which has its details from where we have ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from hw import visca
from hw.serial_link import BACKOFF, DeviceFault, SerialLink
from hw.visca import Command, Datagram, PayloadType, Reply, ReplyKind

#: A camera acknowledges within 16 ms, an inquiry takes a frame or two; adapters and networks add to it (s).
ANSWER_WITHIN = 1.0
#: Datagrams are sent again so often when nothing comes back, each time after so many seconds.
TRIES = 3
AGAIN_AFTER = 0.3


class CameraRefuses(Exception):
    """The camera has answered, with an error; the text is for people."""


class CameraSilent(Exception):
    """No camera, or no answer in time."""


class Wire(Protocol):
    """How frames get to the cameras. ``tries`` and ``again_after``: what is lost may be sent again."""

    tries: int
    again_after: float

    async def begin(self) -> None: ...
    async def send(self, frame: bytes, *, inquiry: bool, again: bool) -> None: ...
    async def receive(self) -> list[Reply]: ...


class SerialWire:
    """RS-232 or RS-422, 9600 or 38400 Bd."""

    tries = 1
    again_after = ANSWER_WITHIN

    def __init__(self, link: SerialLink) -> None:
        self._link = link
        self._parser = visca.ViscaParser()

    async def begin(self) -> None:
        """Give the cameras their addresses, in the order of the cable, and empty their buffers."""
        await self._link.send(visca.ADDRESS_SET)
        await self._link.send(visca.CLEAR_ALL)

    async def send(self, frame: bytes, *, inquiry: bool, again: bool) -> None:
        await self._link.send(frame)

    async def receive(self) -> list[Reply]:
        data = await self._link.receive()
        replies = self._parser.receive_data(data)
        self._link.judge(len(data), len(replies))
        return replies


class UdpWire:
    """VISCA over IP: one camera, whose own address is always 1."""

    tries = TRIES
    again_after = AGAIN_AFTER

    def __init__(self, socket: trio.socket.SocketType, peer: str) -> None:
        self._socket = socket
        self._peer = peer
        self._sequence = 0

    async def begin(self) -> None:
        await self._send(visca.SEQUENCE_TO_ZERO)

    async def send(self, frame: bytes, *, inquiry: bool, again: bool) -> None:
        if not again:
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        kind = PayloadType.INQUIRY if inquiry else PayloadType.COMMAND
        await self._send(Datagram(kind, self._sequence, frame))

    async def receive(self) -> list[Reply]:
        try:
            data = await self._socket.recv(512)
        except OSError as error:
            raise DeviceFault(f"{self._peer}: {error.strerror or error}") from error
        datagram = visca.parse_datagram(data)
        if datagram is None or datagram.type is not PayloadType.REPLY:
            return []
        reply = visca.parse_reply(datagram.payload)
        return [reply] if reply else []

    async def _send(self, datagram: Datagram) -> None:
        try:
            await self._socket.send(datagram.encode())
        except OSError as error:
            raise DeviceFault(f"{self._peer}: {error.strerror or error}") from error


@dataclass(slots=True, eq=False)
class _Asked:
    address: int
    command: Command
    answered: trio.Event
    reply: Reply | None = None


class ViscaBus:
    """One command at a time, in the order in which they were asked for; ``run`` hears the answers."""

    def __init__(self) -> None:
        self._turn = trio.Lock()
        self._wire: Wire | None = None
        self._asked: _Asked | None = None
        #: Commands that are at work, by (address, socket).
        self.at_work: set[tuple[int, int]] = set()
        #: How many cameras the address broadcast has found; 0: not told.
        self.cameras = 0
        self.strays = 0

    async def run(self, wire: Wire) -> None:
        """Use ``wire`` until it fails. Raises DeviceFault."""
        self.at_work.clear()
        self.cameras = 0
        await wire.begin()
        self._wire = wire
        try:
            while True:
                for reply in await wire.receive():
                    if reply.kind is ReplyKind.CHANGED:
                        await wire.begin()
                    self._hear(reply)
        finally:
            self._wire = None

    async def ask(self, address: int, command: Command) -> bytes:
        """Until the camera has taken the command, or answered the inquiry: then its data. Raises CameraRefuses,
        CameraSilent."""
        async with self._turn:
            wire = self._wire
            if wire is None:
                raise CameraSilent("the line to the camera is not open")
            asked = self._asked = _Asked(address, command, trio.Event())
            try:
                for number in range(wire.tries):
                    await wire.send(command.frame(address), inquiry=command.inquiry, again=number > 0)
                    with trio.move_on_after(wire.again_after):
                        await asked.answered.wait()
                        break
            except DeviceFault as fault:
                raise CameraSilent(str(fault)) from fault
            finally:
                self._asked = None
        reply = asked.reply
        if reply is None:
            raise CameraSilent(f"camera {address} does not answer")
        if reply.kind is ReplyKind.ERROR:
            raise CameraRefuses(reply.reason)
        return reply.data

    def _hear(self, reply: Reply) -> None:
        if reply.kind is ReplyKind.ADDRESS:
            self.cameras = reply.data[0] - 1
            return
        place = (reply.address, reply.socket)
        if reply.kind is ReplyKind.ACK:
            self.at_work.add(place)
        elif place in self.at_work and reply.kind in (ReplyKind.COMPLETION, ReplyKind.ERROR):
            # The end of an earlier command, not the answer to this one.
            self.at_work.discard(place)
            return
        asked = self._asked
        if asked is None or asked.reply is not None or asked.address != reply.address or not _answers(asked, reply):
            self.strays += 1
            return
        asked.reply = reply
        asked.answered.set()


def _answers(asked: _Asked, reply: Reply) -> bool:
    if reply.kind is ReplyKind.ERROR:
        return True
    # Some cameras complete at once and never acknowledge.
    wanted = (ReplyKind.COMPLETION,) if asked.command.inquiry else (ReplyKind.ACK, ReplyKind.COMPLETION)
    return reply.kind in wanted


class PtzCamera:
    """One camera of a bus."""

    def __init__(self, bus: ViscaBus, address: int) -> None:
        self._bus = bus
        self._address = address

    async def do(self, command: Command) -> None:
        """Raises CameraRefuses, CameraSilent."""
        await self._bus.ask(self._address, command)

    async def power(self) -> bool:
        """Whether it is on. Raises CameraRefuses, CameraSilent."""
        return await self._bus.ask(self._address, visca.POWER_INQUIRY) == b"\x02"

    async def position(self) -> tuple[int, int]:
        """Pan and tilt in the camera's steps. Raises CameraRefuses, CameraSilent."""
        data = await self._bus.ask(self._address, visca.POSITION_INQUIRY)
        pan, tilt = visca.from_nibbles(data[:4], signed=True), visca.from_nibbles(data[4:], signed=True)
        if pan is None or tilt is None:
            raise CameraRefuses(f"the camera tells a position that is none: {data.hex(' ')}")
        return pan, tilt

    async def zoom(self) -> int:
        """Raises CameraRefuses, CameraSilent."""
        data = await self._bus.ask(self._address, visca.ZOOM_INQUIRY)
        position = visca.from_nibbles(data)
        if position is None:
            raise CameraRefuses(f"the camera tells a zoom that is none: {data.hex(' ')}")
        return position


Resolve = Callable[[str, int], Awaitable[tuple[str, int]]]


async def keep_udp(host: str, port: int, bus: ViscaBus, resolve: Resolve, told: Callable[[str], None]) -> None:
    """Hold the bus open to a camera behind an address that ``resolve`` allows; it raises OSError or DeviceFault."""
    failures = 0
    while True:
        try:
            address = await resolve(host, port)
            family = trio.socket.AF_INET6 if ":" in address[0] else trio.socket.AF_INET
            with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as socket:
                await socket.connect(address)
                told("")
                failures = 0
                await bus.run(UdpWire(socket, f"{host}:{port}"))
        except DeviceFault as fault:
            told(str(fault))
        except OSError as error:
            told(f"{host}:{port}: {error.strerror or error}")
        await trio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
        failures += 1
