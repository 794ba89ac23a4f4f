"""Codec worker processes: started by the engine's main thread, one kept warm."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import trio

from appliance.errors import WorkerFault
from appliance.media.contracts import Progress
from appliance.transcoder.messages import FromWorker, ToWorker, WorkerControl, pack_control

log = logging.getLogger("kiln.transcoder")

#: How long a killed process may take to go before nobody waits for it any more.
REAP_SECONDS = 2.0
#: A taken spare is replaced after this, so that the start of the new one does not slow down the one just put to work.
REFILL_DELAY = 1.0
LOOK_SECONDS = 5.0
_ROOT = str(Path(__file__).resolve().parents[2])


def worker_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """``inherited`` with what a worker process needs to find itself, and libasound a configuration that is safe."""
    path = os.pathsep.join(filter(None, (_ROOT, inherited.get("PYTHONPATH", ""))))
    return {"ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf", **inherited, "PYTHONPATH": path}


class Worker:
    """One worker process and the engine's ends of its two sockets."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        control, its_control = socket.socketpair()
        media, its_media = socket.socketpair()
        fds = (its_control.fileno(), its_media.fileno())
        # -P: never import from the folder the engine happens to stand in.
        command = [sys.executable, "-P", "-m", "appliance.transcoder.worker", *map(str, fds), str(os.getpid())]
        try:
            self.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=dict(environment))
        except OSError as error:
            control.close()
            media.close()
            raise WorkerFault(f"codec worker does not start: {error}") from None
        finally:
            its_control.close()
            its_media.close()
        control.setblocking(False)
        self.control = control
        self.media = trio.socket.from_stdlib_socket(media)
        self._receiver = WorkerControl()
        self._unsent = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def tell(self, message: ToWorker) -> None:
        """Send a control message at once. Raises WorkerFault when the worker is gone or has stopped listening."""
        data = pack_control(message)
        try:
            sent = self.control.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise WorkerFault(f"codec worker {self.pid} is gone: {error}") from None
        if sent < len(data):
            raise WorkerFault(f"codec worker {self.pid} does not listen")

    async def hear(self) -> Iterator[FromWorker]:
        """The next control messages. Raises WorkerFault when the worker is gone, RemoteProtocolError on nonsense."""
        while True:
            await trio.lowlevel.wait_readable(self.control)
            try:
                data = self.control.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                raise WorkerFault(f"codec worker {self.pid} ended{await self._how()}")
            return self._receiver.receive_data(data)

    async def ended(self) -> None:
        """Wait until the process has gone."""
        if not self.alive:
            return
        if sys.platform == "linux":
            handle = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(handle)
            finally:
                os.close(handle)
            self.process.poll()
        else:
            await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)

    async def _how(self) -> str:
        with trio.move_on_after(0.2):
            await self.ended()
        code = self.process.returncode
        return "" if code is None else f" by signal {-code}" if code < 0 else f" with status {code}"

    def kill(self) -> None:
        """End the process and close the sockets; `reap` must follow."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        self.control.close()
        self.media.close()

    async def reap(self) -> None:
        """Wait for a killed process to go. One that does not (stuck in a driver) is left to the kernel."""
        with trio.CancelScope(shield=True), trio.move_on_after(REAP_SECONDS):
            await self.ended()
        if self.process.returncode is None:
            log.error("codec worker does not die pid=%d", self.pid)
            _undead.append(self.process)


#: Processes stuck in the kernel, kept so that they are asked for again and nobody warns about them.
_undead: list[subprocess.Popen[bytes]] = []


class WorkerPool:
    """Hands out workers; keeps ``size`` of them started with their libraries loaded.

    `run` keeps the spares; without it `take` starts a worker each time. `close` ends the spares.
    """

    def __init__(self, size: int = 1, environment: Mapping[str, str] | None = None) -> None:
        self._size = size
        self._environment = worker_environment(os.environ if environment is None else environment)
        self._spares: deque[Worker] = deque()
        self._taken = trio.Event()
        self._closed = False
        self.started = 0

    @property
    def spares(self) -> int:
        return len(self._spares)

    def fill(self) -> None:
        """Start spares until there are enough. Raises WorkerFault."""
        while not self._closed and len(self._spares) < self._size:
            self._spares.append(self._start())

    def _start(self) -> Worker:
        self.started += 1
        return Worker(self._environment)

    async def take(self) -> Worker:
        """A warm spare, or a new worker when there is none. Raises WorkerFault."""
        await trio.lowlevel.checkpoint()
        self._taken.set()
        while self._spares:
            worker = self._spares.popleft()
            if worker.alive:
                return worker
            worker.kill()
        return self._start()

    async def run(self, progress: Progress) -> None:
        """A supervised child: replaces spares that were taken or died, until cancelled."""
        try:
            while True:
                self._replace_dead()
                self.fill()
                progress()
                self._taken = trio.Event()
                with trio.move_on_after(LOOK_SECONDS) as waited:
                    await self._taken.wait()
                if not waited.cancelled_caught:
                    await trio.sleep(REFILL_DELAY)
        finally:
            await self.close()

    def _replace_dead(self) -> None:
        for worker in [worker for worker in self._spares if not worker.alive]:
            log.warning("spare codec worker died pid=%d status=%s", worker.pid, worker.process.returncode)
            worker.kill()
            self._spares.remove(worker)
        _undead[:] = [process for process in _undead if process.poll() is None]

    async def close(self) -> None:
        """End the spares. A worker that was handed out is its taker's."""
        self._closed = True
        spares, self._spares = list(self._spares), deque()
        for worker in spares:
            worker.kill()
        for worker in spares:
            await worker.reap()
