"""What systemd is told (sd_notify(3)), the watchdog that it listens to, and the lag of the loop.

Without NOTIFY_SOCKET in the environment nothing is sent and no watchdog runs: the box runs on a laptop as well.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from appliance.logs import RateLimited

log = logging.getLogger("kiln.notify")

SAMPLE_EVERY = 0.1
WINDOW = 60.0
UNRESPONSIVE = 5.0


class Notifier:
    """Sends state to the service manager named by NOTIFY_SOCKET (a path, or ``@name`` for an abstract socket).

    Calls never block and never raise: a manager that doesn't listen is logged and otherwise ignored.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._repeats = RateLimited(log, interval=60.0)
        self._address = ""
        self._socket: socket.socket | None = None
        #: Seconds between two pings (half of WATCHDOG_USEC); None when nobody waits for them.
        self.watchdog_interval = _watchdog_interval(environment)
        address = environment.get("NOTIFY_SOCKET", "")
        if not address:
            return
        if address[0] not in "/@":
            log.warning("service manager not reachable socket=%s reason=kind of address not known", address)
            return
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @property
    def active(self) -> bool:
        """Whether there is a manager to tell."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """Start-up (or a reload) is done."""
        self._send("READY=1", *([_status(status)] if status else []))

    def status(self, text: str) -> None:
        """One line for people, shown by ``systemctl status``."""
        self._send(_status(text))

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """The ordered stop begins."""
        self._send("STOPPING=1", *([_status(status)] if status else []))

    def watchdog(self) -> None:
        """A ping: all is well."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            self._repeats(logging.WARNING, "service manager not told message=%s reason=%s", lines[0], error)


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not environment.get("NOTIFY_SOCKET") or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000


@dataclass(frozen=True, slots=True)
class Lag:
    """How late the loop woke up, in seconds, over the last minute."""

    p50: float
    p99: float
    max: float
    samples: int


class LoopLag:
    """Measures how late the loop wakes up: ``run`` sleeps ``interval`` seconds (0.1 or more) and looks by how much it
    overslept, which is what any other task waited as well."""

    def __init__(self, interval: float = SAMPLE_EVERY) -> None:
        if interval < SAMPLE_EVERY:
            raise ValueError(f"the loop's lag is sampled every {SAMPLE_EVERY} s at most")
        self._interval = interval
        self._samples: deque[tuple[float, float]] = deque(maxlen=round(WINDOW / interval))
        self._due = float("inf")

    async def run(self, progress: Callable[[], None] | None = None) -> None:
        """Sample until cancelled."""
        while True:
            self._due = trio.current_time() + self._interval
            await trio.sleep_until(self._due)
            now = trio.current_time()
            self._samples.append((now, max(0.0, now - self._due)))
            if progress is not None:
                progress()

    def figures(self) -> Lag:
        """Of the last minute; all zero before the first sample."""
        lags = sorted(self._within(WINDOW))
        if not lags:
            return Lag(0.0, 0.0, 0.0, 0)
        last = len(lags) - 1
        return Lag(lags[last // 2], lags[round(last * 0.99)], lags[-1], len(lags))

    def worst(self, seconds: float) -> float:
        """The largest lag of the last ``seconds``, a sample that is overdue right now included."""
        return max([trio.current_time() - self._due, 0.0, *self._within(seconds)])

    def _within(self, seconds: float) -> list[float]:
        since = trio.current_time() - seconds
        return [lag for at, lag in self._samples if at >= since]


class Watchdog:
    """Pings the service manager while the loop is responsive and ``healthy`` says that the core does its work.

    ``healthy`` returns "" or the reason why not. When pings stop, systemd ends and restarts the engine.
    """

    def __init__(self, notifier: Notifier, lag: LoopLag, healthy: Callable[[], str]) -> None:
        self._notifier = notifier
        self._lag = lag
        self._healthy = healthy
        self._repeats = RateLimited(log)

    async def run(self, progress: Callable[[], None] | None = None) -> None:
        """Ping at half of the manager's time-out, until cancelled. Without a manager it only sleeps."""
        interval = self._notifier.watchdog_interval
        if interval is None:
            await trio.sleep_forever()
        while True:
            trouble = self.trouble(interval)
            if trouble:
                self._repeats(logging.ERROR, "watchdog not pinged reason=%s", trouble)
            else:
                self._notifier.watchdog()
            if progress is not None:
                progress()
            await trio.sleep(interval)

    def trouble(self, seconds: float) -> str:
        """Why no ping is due now, "" when it is. ``seconds``: how far back the lag of the loop counts."""
        lag = self._lag.worst(seconds)
        return f"loop lag {lag:.1f} s" if lag >= UNRESPONSIVE else self._healthy()
