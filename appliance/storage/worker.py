"""The disk worker process: ``python -m appliance.storage.worker SOCKET_FD ROOT``.

Plain blocking code. The main thread obeys the engine and keeps the retention; a second one repairs what a crash left,
a file at a time. It outlives the engine for as long as it takes to finish its files: SIGTERM, which systemd sends to
all at once, is not for it; the end of the socket is.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import KilnError
from appliance.storage.catalogue import Catalogue
from appliance.storage.disk import Disk
from appliance.storage.entry import Entry
from appliance.storage.finish import Nothing, full, mend
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
    Ready,
    Receiver,
    Recovered,
    ToWorker,
    Usage,
    Write,
    pack,
)
from appliance.storage.recording import Recording
from appliance.storage.retention import Retention

TICK_SECONDS = 1.0
USAGE_SECONDS = 5.0
RETENTION_SECONDS = 10.0
#: A file that could not be repaired (its disk is full, its old writer still hangs) is tried again so often.
MEND_AGAIN_SECONDS = 5.0
#: At most this is asked to be freed when a write finds the disk full.
ROOM_ON_FULL = 64 << 20
#: When memory runs out, the kernel takes others first: recordings come before everything.
OOM_SCORE = "-200"


class Worker:
    def __init__(self, link: socket.socket, disk: Disk) -> None:
        self._link = link
        self._disk = disk
        self._sending = threading.Lock()
        self._receiver: Receiver[ToWorker] = Receiver(ToWorker)
        self._catalogue = Catalogue(disk)
        self._loaded = False
        self._open: dict[int, Recording] = {}
        self._retention = Retention(disk, self._catalogue, self._tell_evicted)
        self._damaged: list[Entry] = []
        self._usage_at = self._retention_at = 0.0
        self._mender: threading.Thread | None = None
        self._ending = threading.Event()

    def run(self) -> None:
        self._say(Ready(pid=os.getpid()))
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        while True:
            if poll.poll(TICK_SECONDS * 1000) and not self._hear():
                break
            self._housekeeping()
        self._end()

    def _hear(self) -> bool:
        try:
            data = self._link.recv(1 << 20)
        except OSError:
            return False
        for message, raw in self._receiver.receive_data(data):
            self._obey(message, raw)
        return bool(data)

    def _say(self, message: FromWorker) -> None:
        with self._sending, suppress(OSError):
            self._link.sendall(pack(message))

    def _obey(self, message: ToWorker, raw: bytes) -> None:
        match message:
            case Open():
                self._answer(message.number, self._open_file, message, raw)
            case Write():
                self._answer(message.number, self._write, message, raw)
            case Finish():
                self._answer(message.number, self._finish, message, raw)
            case Limits():
                self._retention.limits = message
                self._retention_at = 0.0
                self._say(Done(number=message.number))
            case Mend():
                self._answer(message.number, self._prepare, message, raw)
                if self._mender is None:
                    self._mender = threading.Thread(target=self._mend_all, name="repair", daemon=True)
                    self._mender.start()
            case Ask():
                self._say(self._asked(message))

    def _answer(self, number: int, act: Callable[[Any, bytes], Entry | None], message: ToWorker, raw: bytes) -> None:
        try:
            entry = act(message, raw)
        except OSError as error:
            self._say(Done(number=number, error=error.strerror or str(error)))
        except KilnError as error:
            self._say(Done(number=number, error=str(error)))
        else:
            self._say(Done(number=number, size=len(raw), entry=entry))

    def _tell_evicted(self, entry: Entry, reason: str) -> None:
        self._say(Evicted(entry=entry, reason=reason))

    # Recording

    def _open_file(self, message: Open, raw: bytes) -> None:
        self._load()
        try:
            recording = Recording(self._disk, self._catalogue, message.entry, raw)
        except OSError as error:
            if not (full(error) and self._make_room()):
                raise
            recording = Recording(self._disk, self._catalogue, message.entry, raw)
        self._open[message.number] = recording

    def _write(self, message: Write, raw: bytes) -> None:
        recording = self._open.get(message.file)
        if recording is None:
            raise KilnError("the file is closed")
        try:
            try:
                recording.write(raw, message.elapsed_ms)
            except OSError as error:
                if not (full(error) and self._make_room()):
                    raise
                recording.write(raw, message.elapsed_ms)
        except OSError:
            self._save_what_is_there(message.file)
            raise

    def _make_room(self) -> bool:
        """Old recordings go; whether that can have helped."""
        before = self._disk.space()[0]
        self._retention.make_room(max(self._retention.limits.reserve, ROOM_ON_FULL))
        return self._disk.space()[0] > before

    def _save_what_is_there(self, file: int) -> None:
        """The disk takes no more: what it has of the file is finished now, or repaired as soon as that can be done."""
        recording = self._open.pop(file)
        finished = recording.entry.started + recording.elapsed_ms * 1_000_000
        try:
            if recording.empty:
                recording.discard()
            else:
                self._say(Recovered(entry=recording.finish(finished, False, 0)))
        except (OSError, KilnError):
            self._damaged.append(recording.entry)

    def _finish(self, message: Finish, _: bytes) -> Entry:
        recording = self._open.pop(message.file, None)
        if recording is None:
            raise KilnError("the file is closed")
        try:
            if recording.empty:
                recording.discard()
                return recording.entry
            return recording.finish(message.wall, message.last, message.wall_offset_ms)
        except (OSError, KilnError):
            self._damaged.append(recording.entry)
            raise

    def _end(self) -> None:
        """The engine has gone, or sends no more: finish every file."""
        self._ending.set()
        for recording in list(self._open.values()):
            with suppress(OSError, KilnError):
                if recording.empty:
                    recording.discard()
                else:
                    recording.finish(recording.entry.started + recording.elapsed_ms * 1_000_000, True, 0)
        self._open.clear()
        if self._mender is not None:
            self._mender.join(1)

    # What lies there

    def _prepare(self, _: ToWorker, __: bytes) -> None:
        self._load()

    def _load(self) -> None:
        if not self._loaded:
            self._catalogue.load()
            self._damaged = [entry for entry in self._catalogue.all() if not entry.whole]
            self._loaded = True

    def _mend_all(self) -> None:
        while not self._ending.is_set():
            for entry in list(self._damaged):
                self._mend(entry)
            self._ending.wait(MEND_AGAIN_SECONDS if self._damaged or not self._loaded else TICK_SECONDS)

    def _mend(self, entry: Entry) -> None:
        """One that can't be made whole yet stays on the list."""
        try:
            # Another worker may have finished it meanwhile.
            current = self._catalogue.reload(entry.id)
            if current is not None and not current.whole:
                self._say(Recovered(entry=mend(self._disk, self._catalogue, current)))
        except Nothing as error:
            with suppress(OSError, KilnError):
                self._disk.remove(entry.temporary)
                self._catalogue.forget(entry)
            self._say(Lost(entry=entry, reason=str(error)))
        except (OSError, KilnError):
            return
        self._damaged.remove(entry)

    def _asked(self, message: Ask) -> Found:
        try:
            self._load()
            return Found(number=message.number, entries=self._do(message.what, message.id))
        except OSError as error:
            return Found(number=message.number, entries=[], error=error.strerror or str(error))
        except KilnError as error:
            return Found(number=message.number, entries=[], error=str(error))

    def _do(self, what: str, id: str) -> list[Entry]:
        if what == "list":
            return [entry for entry in self._catalogue.all() if not id or entry.id == id]
        entry = self._catalogue.get(id)
        if entry is None:
            return []
        if what == "delete":
            if not entry.whole:
                raise KilnError("it is still recorded, or waits for its repair")
            self._disk.remove(entry.path)
            self._catalogue.forget(entry)
        else:
            if not entry.whole:
                raise KilnError("it is still recorded, or waits for its repair")
            entry = msgspec.structs.replace(entry, keep=what == "keep")
            self._catalogue.save(entry)
        return [entry]

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now >= self._retention_at and self._loaded:
            self._retention_at = now + RETENTION_SECONDS
            with suppress(OSError, KilnError):
                self._retention.apply(time.time_ns())
        if now >= self._usage_at:
            self._usage_at = now + USAGE_SECONDS
            self._say(self._usage())

    def _usage(self) -> Usage:
        try:
            self._load()
            free, total = self._disk.space()
        except (OSError, KilnError) as error:
            return Usage(error=str(error))
        whole = [entry for entry in self._catalogue.all() if entry.whole]
        return Usage(
            free=free, total=total, recordings=sum(entry.bytes for entry in whole), count=len(whole),
            kept=sum(entry.bytes for entry in whole if entry.keep), damaged=len(self._damaged),
        )  # fmt: skip


def main(arguments: list[str], kind: type[Disk] = Disk) -> None:
    fd, root = arguments
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(OOM_SCORE)
    with socket.socket(fileno=int(fd)) as link:
        Worker(link, kind(Path(root))).run()


if __name__ == "__main__":
    main(sys.argv[1:])
