"""The engine's side of a disk worker: files that are recorded, and what lies on the volume."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import trio

from appliance.errors import BadRequest, NotFound, RemoteProtocolError, Unavailable
from appliance.media.clock import Clock
from appliance.media.contracts import Progress
from appliance.storage.entry import Entry
from appliance.storage.messages import (
    Ask,
    Done,
    Evicted,
    Finish,
    Found,
    FromWorker,
    Limits,
    Lost,
    Mend,
    Open,
    Receiver,
    Recovered,
    Rule,
    ToWorker,
    Usage,
    Write,
    pack,
)

log = logging.getLogger("kiln.storage")

NANOSECONDS = 1_000_000_000
#: An answer that is due for so long: the disk hangs. From half of it on, recordings say so.
HANG_SECONDS = 5.0
LATE_SECONDS = 1.5
LOOK_SECONDS = 0.25
#: What the worker may have before it and not on the disk yet, of all files and of each.
MAX_BYTES = 16 << 20
MAX_FRAGMENTS = 10
#: A worker that ended is replaced after so long, longer each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
#: How long the end of the engine waits for the worker to finish its files. It goes on after that, only unwatched.
FINISH_SECONDS = 3.5
#: The reserve covers this much of recording at the measured rate.
RESERVE_SECONDS = 600
#: A volume with less is told as nearly full, whatever the reserve is.
LEAST_FREE = 4 << 20
#: The rate is measured over so many reports of five seconds.
RATE_REPORTS = 12
USAGE_SECONDS = 5
_ROOT = str(Path(__file__).resolve().parents[2])
_WORKER = (sys.executable, "-P", "-m", "appliance.storage.worker")


Policy = Callable[[], tuple[Sequence[Rule], float]]


class DiskFault(Unavailable):
    """The disk did not take it. The message is what the disk said, or that it says nothing."""


class RecordedFile:
    """A file on its way to the disk. ``bytes`` are on the disk for sure; ``fault`` is "" or why it takes no more."""

    def __init__(self, client: DiskClient, number: int) -> None:
        self._client = client
        self.number = number
        self.bytes = 0
        #: What was told with the last fragment that is on the disk.
        self.safe_ms = 0
        self.waiting = 0
        self.fault = ""

    async def write(self, data: bytes, elapsed_ms: int) -> None:
        """Hand over a whole fragment; waits only while too much of earlier ones is under way. Raises DiskFault."""
        await self._client.credit(self, len(data))
        message = Write(number=self._client.next_number(), file=self.number, elapsed_ms=elapsed_ms)
        self._client.send(message, data, self).elapsed_ms = elapsed_ms

    async def finish(self, wall: int, last: bool, wall_offset_ms: int) -> Entry:
        """All of it is on the disk, under its final name. Raises DiskFault; the file is repaired later then."""
        answer = await self._client.request(self._finish(wall, last, wall_offset_ms), b"", self)
        if not isinstance(answer, Done) or answer.entry is None:
            raise DiskFault("the disk worker gave another answer")
        return answer.entry


    def leave(self, wall: int) -> None:
        """The same, and nobody waits for it: for a recording that can't go on, or is cancelled."""
        with suppress(DiskFault):
            self._client.send(self._finish(wall, True, 0), b"", self)

    def _finish(self, wall: int, last: bool, wall_offset_ms: int) -> Finish:
        return Finish(
            number=self._client.next_number(), file=self.number, wall=wall, last=last, wall_offset_ms=wall_offset_ms
        )


class _Pending:
    """A message whose answer is due."""

    __slots__ = ("answer", "answered", "elapsed_ms", "fault", "file", "size")

    def __init__(self, size: int, file: RecordedFile | None) -> None:
        self.size = size
        self.file = file
        self.answer: FromWorker | None = None
        self.fault = ""
        self.elapsed_ms = 0
        self.answered = trio.Event()


class DiskClient:
    """One volume, the folder ``root``. `run` keeps its worker; everything else raises DiskFault while there is none.

    ``told(topic, text)`` hears what an operator should know (topics: ``disk``, ``room``, ``repaired``, ``lost``; no
    text: it is over). ``policy`` says what may stay: rules, and the share of the volume that stays free (0: nothing is
    deleted for room). ``command`` starts the worker (socket and root follow).
    """

    def __init__(
        self, root: Path, *, clock: Clock | None = None, told: Callable[[str, str], None] | None = None,
        policy: Policy | None = None, command: Sequence[str] = _WORKER,
    ) -> None:  # fmt: skip
        self.root = root
        self.clock = clock or Clock()
        self.usage = Usage()
        #: "" or why the volume can't be used now.
        self.fault = "not started yet"
        self.recovered: deque[Entry] = deque(maxlen=100)
        #: As the policy said last.
        self.rules: list[Rule] = []
        self.reserve_share = 0.05
        self._policy = policy or (lambda: ((), 0.05))
        self._limits: tuple[list[Rule], int] | None = None
        self.restarts = 0
        self._told = told or (lambda topic, text: None)
        self._command = tuple(command)
        self._numbers = count(1)
        self._pending: dict[int, _Pending] = {}
        self._files: dict[int, RecordedFile] = {}
        self._in_flight = 0
        self._moved = trio.Event()
        self._up = trio.Event()
        self._out: trio.MemorySendChannel[tuple[ToWorker, bytes]] | None = None
        self._heard_at = 0
        self._written = 0
        self._rates: deque[float] = deque(maxlen=RATE_REPORTS)
        self._reported_written = 0
        self._process: subprocess.Popen[bytes] | None = None

    # What others call

    async def open(self, entry: Entry, head: bytes) -> RecordedFile:
        """A new file that begins with ``head``; both are on the disk when this returns. Raises DiskFault."""
        await self._wait_up()
        number = self.next_number()
        file = self._files[number] = RecordedFile(self, number)
        await self.request(Open(number=number, entry=entry), head, file)
        file.bytes += len(head)
        return file

    def forget(self, file: RecordedFile) -> None:
        """Nothing of ``file`` is under way any more."""
        self._files.pop(file.number, None)

    async def entries(self, id: str = "") -> list[Entry]:
        """All recordings of the volume, or that one. Raises DiskFault."""
        return await self._ask("list", id)

    async def keep(self, id: str, keep: bool) -> Entry:
        """Mark a recording so that retention leaves it alone, or not. Raises NotFound, BadRequest, DiskFault."""
        return await self._ask_one("keep" if keep else "unkeep", id)

    async def delete(self, id: str) -> Entry:
        """Raises NotFound, BadRequest (it is still recorded), DiskFault."""
        return await self._ask_one("delete", id)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def in_flight(self) -> int:
        """Bytes that were handed over and are not on the disk yet."""
        return self._in_flight

    @property
    def late(self) -> bool:
        """An answer has been due for longer than a working disk takes."""
        return bool(self._pending) and self._silence() > LATE_SECONDS

    @property
    def rate(self) -> float:
        """Bytes a second that are recorded, over the last minute."""
        return sum(self._rates) / len(self._rates) if self._rates else 0.0

    @property
    def reserve(self) -> int:
        """Bytes that are to stay free."""
        if not self.reserve_share:
            return 0
        wanted = max(int(self.usage.total * self.reserve_share), int(self.rate * RESERVE_SECONDS))
        # A volume that is small for the rate would keep no recording at all else.
        return min(wanted, self.usage.total // 2)

    @property
    def short(self) -> str:
        """"" or that less is free than is to stay free: what is left is for recordings."""
        usage = self.usage
        if not usage.total or usage.free >= max(self.reserve, LEAST_FREE):
            return ""
        return f"nearly full: {usage.free >> 20} MiB free"

    @property
    def hours_left(self) -> float | None:
        """Until the reserve is reached at the measured rate; None while nothing is recorded."""
        rate = self.rate
        return max(0.0, self.usage.free - self.reserve) / rate / 3600 if rate else None

    # The worker's life

    async def run(self, progress: Progress) -> None:
        """A supervised child: keeps a worker until cancelled, then waits a little for it to finish its files."""
        pause = FIRST_PAUSE
        while True:
            started = self.clock.monotonic()
            reason = await self._one_life(progress)
            self._fail(reason)
            log.error("disk worker ended volume=%s reason=%r", self.root, reason)
            self._told("disk", f"the disk of the recordings: {reason}")
            self.restarts += 1
            if self.clock.monotonic() - started > 60 * NANOSECONDS:
                pause = FIRST_PAUSE
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _one_life(self, progress: Progress) -> str:
        """Why it ended."""
        ours, its = socket.socketpair()
        try:
            self._process = self._start(its.fileno())
        except OSError as error:
            ours.close()
            return f"its worker does not start: {error}"
        finally:
            its.close()
        link = trio.socket.from_stdlib_socket(ours)
        self._out, messages = trio.open_memory_channel[tuple[ToWorker, bytes]](float("inf"))
        reason = "its worker ended"
        self._heard_at = self.clock.monotonic()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_write_all, link, messages)
                nursery.start_soon(self._introduce)
                nursery.start_soon(self._read_all, link, nursery.cancel_scope)
                reason = await self._watch(progress)
                nursery.cancel_scope.cancel()
        finally:
            self._out = None
            link.close()
            await self._part(reason)
        if self._process is not None and self._process.returncode is not None and reason == "its worker ended":
            reason = f"its worker ended with status {self._process.returncode}"
        return reason

    def _start(self, fd: int) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH", ""))))
        return subprocess.Popen(
            [*self._command, str(fd), str(self.root)], pass_fds=(fd,), stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    async def _introduce(self) -> None:
        """A worker that has read what lies there is one that the disk answers."""
        with suppress(DiskFault):
            await self.request(Mend(number=self.next_number()), b"")
            self._send_limits()
            self.fault = ""
            self._told("disk", "")
            self._up.set()

    async def _watch(self, progress: Progress) -> str:
        while True:
            progress()
            await trio.sleep(LOOK_SECONDS)
            if self._pending and self._silence() > HANG_SECONDS:
                if self._process is not None:
                    self._process.kill()
                return f"no answer for {HANG_SECONDS:.0f} s"

    async def _part(self, reason: str) -> None:
        """The socket is closed: the worker finishes its files and goes. One that the kernel holds is left to it."""
        process = self._process
        if process is None:
            return
        with trio.CancelScope(shield=True), trio.move_on_after(FINISH_SECONDS if reason == "its worker ended" else 0.5):
            await _ended(process)
        if process.returncode is None:
            log.warning("disk worker still at work volume=%s pid=%d", self.root, process.pid)
            _left.append(process)
        _left[:] = [each for each in _left if each.poll() is None]

    def _silence(self) -> float:
        return (self.clock.monotonic() - self._heard_at) / NANOSECONDS

    # Messages

    def next_number(self) -> int:
        return next(self._numbers)

    def send(self, message: ToWorker, data: bytes, file: RecordedFile | None = None) -> _Pending:
        """Raises DiskFault when there is no worker, or the file has failed."""
        if self._out is None:
            raise DiskFault(self.fault or "no disk worker")
        if file is not None and file.fault:
            raise DiskFault(file.fault)
        if not self._pending:
            self._heard_at = self.clock.monotonic()
        pending = self._pending[message.number] = _Pending(len(data), file)
        self._in_flight += len(data)
        if file is not None:
            file.waiting += 1
        self._out.send_nowait((message, data))
        return pending

    async def credit(self, file: RecordedFile, size: int) -> None:
        """Wait until the worker may be given ``size`` bytes more of ``file``. Raises DiskFault."""
        while not file.fault and (
            file.waiting >= MAX_FRAGMENTS or (self._in_flight and self._in_flight + size > MAX_BYTES)
        ):
            await self._moved.wait()
        if file.fault:
            raise DiskFault(file.fault)

    async def request(self, message: ToWorker, data: bytes, file: RecordedFile | None = None) -> FromWorker:
        """The answer. Raises DiskFault with what the disk said."""
        pending = self.send(message, data, file)
        await pending.answered.wait()
        if pending.answer is None or pending.fault:
            raise DiskFault(pending.fault or "no answer")
        return pending.answer

    async def _ask(self, what: str, id: str) -> list[Entry]:
        await self._wait_up()
        answer = await self.request(Ask(number=self.next_number(), what=what, id=id), b"")
        if not isinstance(answer, Found):
            raise DiskFault("the disk worker gave another answer")
        if answer.error:
            raise BadRequest(answer.error)
        return answer.entries

    async def _ask_one(self, what: str, id: str) -> Entry:
        found = await self._ask(what, id)
        if not found:
            raise NotFound(f"There is no recording {id}")
        return found[0]

    async def _wait_up(self) -> None:
        with trio.move_on_after(HANG_SECONDS):
            await self._up.wait()
        if not self._up.is_set():
            raise DiskFault(self.fault or "the disk does not answer")

    async def _read_all(self, link: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        receiver: Receiver[FromWorker] = Receiver(FromWorker)
        while True:
            try:
                data = await link.recv(65536)
                for message, _ in receiver.receive_data(data):
                    self._hear(message)
            except (OSError, RemoteProtocolError) as error:
                log.error("disk worker volume=%s fault=%s", self.root, error)
                data = b""
            if not data:
                scope.cancel()
                return

    def _hear(self, message: FromWorker) -> None:
        self._heard_at = self.clock.monotonic()
        match message:
            case Done() | Found():
                self._answered(message)
            case Usage():
                self._note_usage(message)
            case Recovered(entry=entry):
                self.recovered.append(entry)
                what = "repaired" if entry.state == "recovered" else "finished early"
                text = f"recording {what}: {entry.path}, {entry.ms} ms, {entry.lost_bytes} bytes lost"
                log.warning("recording %s stream=%s/%s/%s path=%s ms=%d lost_bytes=%d", what, entry.vhost, entry.app,
                            entry.stream, entry.path, entry.ms, entry.lost_bytes)  # fmt: skip
                self._told("repaired", text)
            case Lost(entry=entry, reason=reason):
                log.warning("recording lost stream=%s/%s/%s path=%s reason=%r", entry.vhost, entry.app, entry.stream,
                            entry.target, reason)  # fmt: skip
                self._told("lost", f"recording {entry.target} could not be repaired: {reason}")
            case Evicted(entry=entry, reason=reason):
                log.info("recording deleted path=%s reason=%r", entry.path, reason)

    def _answered(self, message: Done | Found) -> None:
        pending = self._pending.pop(message.number, None)
        if pending is None:
            return
        self._in_flight -= pending.size
        pending.answer = message
        pending.fault = message.error if isinstance(message, Done) else ""
        file = pending.file
        if file is not None:
            file.waiting -= 1
            if pending.fault:
                file.fault = file.fault or pending.fault
                self.forget(file)
            elif isinstance(message, Done) and message.entry is not None:
                self.forget(file)
            else:
                file.bytes += pending.size
                file.safe_ms = max(file.safe_ms, pending.elapsed_ms)
                self._written += pending.size
        self._move()
        pending.answered.set()

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    def _fail(self, reason: str) -> None:
        """The worker is gone: everything that waits for it is told."""
        self.fault = reason
        self._limits = None
        self._up = trio.Event()
        waiting, self._pending = list(self._pending.values()), {}
        self._in_flight = 0
        for file in self._files.values():
            file.fault = file.fault or reason
        self._files.clear()
        for pending in waiting:
            pending.fault = reason
            pending.answered.set()
        self._move()

    def _note_usage(self, usage: Usage) -> None:
        self.usage = usage
        self._rates.append((self._written - self._reported_written) / USAGE_SECONDS)
        self._reported_written = self._written
        self._send_limits()
        if usage.error:
            self._told("disk", f"the disk of the recordings: {usage.error}")
        elif not self.fault:
            self._told("disk", "")
        short = self.short
        self._told("room", f"the disk of the recordings is {short}" if short else "")

    def _send_limits(self) -> None:
        """The worker hears of what changed; of the reserve only in steps of a twentieth."""
        rules, self.reserve_share = self._policy()
        self.rules = list(rules)
        known = self._limits
        if known is not None and known[0] == self.rules and abs(known[1] - self.reserve) * 20 <= known[1]:
            return
        with suppress(DiskFault):
            self.send(Limits(number=self.next_number(), rules=self.rules, reserve=self.reserve), b"")
            self._limits = (self.rules, self.reserve)


async def _ended(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    handle = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(handle)
    finally:
        os.close(handle)
    process.poll()


async def _write_all(
    link: trio.socket.SocketType, messages: trio.MemoryReceiveChannel[tuple[ToWorker, bytes]]
) -> None:
    """A link that is closed at the other end is the reader's to tell of."""
    async for message, data in messages:
        for part in (pack(message, len(data)), data):
            view = memoryview(part)
            while view:
                try:
                    view = view[await link.send(view) :]
                except OSError:
                    return


#: Workers that were given up on while the kernel holds them, kept so that they are asked for again.
_left: list[subprocess.Popen[bytes]] = []
