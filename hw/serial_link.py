"""Serial devices on trio: opened for us alone, waited on without a thread, opened again when they are plugged in again.

pyserial sets the line up; reading and writing is ours, for its own waits would hold up the loop.
"""

from __future__ import annotations

import errno
import grp
import os
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from hw.paths import DevicePaths

if TYPE_CHECKING:
    import serial

#: Seconds between two tries to open a device that is not there; the last one holds on.
BACKOFF = (0.5, 1.0, 2.0, 5.0)
#: A device that takes no byte for so long (flow control, a stuck adapter) is given up and opened again (s).
WRITE_WITHIN = 5.0
#: So many bytes in a row without one whole message are no device of the kind that was asked for.
BABBLE = 8192
READ_AT_ONCE = 1024


class DeviceFault(Exception):
    """A device does not do what it should; the text is for people."""


class SerialLink:
    """One open serial line. Writes are whole and in the order in which they were asked for."""

    def __init__(self, port: serial.Serial, name: str) -> None:
        self.name = name
        self._port = port
        self._fd: int = port.fileno()
        self._turn = trio.Lock()
        self._since_message = 0

    @classmethod
    def open(cls, path: Path, baudrate: int) -> SerialLink:
        """8 data bits, no parity, 1 stop bit. Raises DeviceFault, which says what to do."""
        import serial

        try:
            port = serial.Serial(str(path), baudrate, timeout=0, write_timeout=0, exclusive=True)
        except (OSError, ValueError) as error:
            raise DeviceFault(_refusal(path, error)) from error
        return cls(port, str(path))

    async def receive(self) -> bytes:
        """What has come, at least one byte. Raises DeviceFault when the device is gone."""
        while True:
            try:
                await trio.lowlevel.wait_readable(self._fd)
                data = os.read(self._fd, READ_AT_ONCE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone(error) from error
            if not data:
                raise DeviceFault(f"{self.name} is gone: unplugged")
            return data

    def judge(self, received: int, messages: int) -> None:
        """Told by who reads: of ``received`` bytes came ``messages`` whole ones. Raises DeviceFault for a device that
        babbles, so that it is closed and left alone for a while."""
        self._since_message = 0 if messages else self._since_message + received
        if self._since_message > BABBLE:
            raise DeviceFault(
                f"{self.name} sends what is no message, {self._since_message} bytes of it: "
                "another device, or another speed?"
            )

    async def send(self, data: bytes) -> None:
        """Raises DeviceFault."""
        async with self._turn:
            rest = memoryview(data)
            with trio.move_on_after(WRITE_WITHIN):
                while rest:
                    try:
                        await trio.lowlevel.wait_writable(self._fd)
                        rest = rest[os.write(self._fd, rest) :]
                    except BlockingIOError:
                        continue
                    except OSError as error:
                        raise self._gone(error) from error
            if rest:
                raise DeviceFault(f"{self.name} takes nothing for {WRITE_WITHIN:g} s")

    def close(self) -> None:
        """Whoever waits in it is told that it is gone."""
        if self._port.is_open:
            trio.lowlevel.notify_closing(self._fd)
            try:
                self._port.close()
            except OSError:
                self._port.fd = None

    def _gone(self, error: OSError) -> DeviceFault:
        return DeviceFault(f"{self.name} is gone: {error.strerror or error}")


def _refusal(path: Path, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return f"{path} may not be opened: put the user of Kiln into the group {_group_of(path)}"
    if number == errno.ENOENT:
        return f"{path} is not there: not plugged in, or another name"
    if number in (errno.EBUSY, errno.EWOULDBLOCK):
        return f"{path} is in use by another program"
    return f"{path} can't be opened: {error}"


def _group_of(path: Path) -> str:
    try:
        number = os.stat(path).st_gid
    except OSError:
        return "dialout"
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


async def keep_open(
    path: Path, baudrate: int, use: Callable[[SerialLink], Awaitable[None]], told: Callable[[str], None]
) -> None:
    """Open the device and ``use`` it, again and again, with a pause that grows while it fails.

    ``told`` hears why it is not in use, and "" each time ``use`` begins. ``use`` ends with DeviceFault.
    """
    failures = 0
    while True:
        began = trio.current_time()
        try:
            with closing(SerialLink.open(path, baudrate)) as link:
                told("")
                await use(link)
        except (DeviceFault, trio.ClosedResourceError) as fault:
            told(str(fault))
        if trio.current_time() - began > BACKOFF[-1]:
            failures = 0
        await trio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
        failures += 1


def serial_names(paths: DevicePaths) -> list[str]:
    """Names that stay with a device whatever else is plugged in (``/dev/serial/by-id/…``), as settings have them."""
    try:
        return sorted(f"/dev/serial/by-id/{entry.name}" for entry in (paths.dev / "serial" / "by-id").iterdir())
    except OSError:
        return []
