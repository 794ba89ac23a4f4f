"""A serial device at the end of a pair of pseudo terminals."""

from __future__ import annotations

import os
import pty
import termios
import tty
from pathlib import Path
from typing import Protocol

import trio


class Answers(Protocol):
    """Bytes of the line in, bytes of its answer out."""

    def receive_data(self, data: bytes) -> bytes: ...


class PtyDevice:
    """``device`` answers at ``node``. ``run`` keeps it alive; ``say`` sends unasked; ``unplug`` takes it away."""

    def __init__(self, device: Answers) -> None:
        self.device = device
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs, termios.TCSANOW)
        os.set_blocking(self._ours, False)
        self.node = Path(os.ttyname(self._theirs))

    async def run(self) -> None:
        """Until it is unplugged."""
        while self._ours >= 0:
            try:
                await trio.lowlevel.wait_readable(self._ours)
                data = os.read(self._ours, 4096)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return
            self.say(self.device.receive_data(data))

    def say(self, data: bytes) -> None:
        """What does not fit into the line is lost, as it is with a real one."""
        try:
            if data:
                os.write(self._ours, data)
        except BlockingIOError:
            return

    def unplug(self) -> None:
        if self._ours >= 0:
            trio.lowlevel.notify_closing(self._ours)
            os.close(self._ours)
            os.close(self._theirs)
            self._ours = self._theirs = -1
