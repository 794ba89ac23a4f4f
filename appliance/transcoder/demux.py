"""The engine's side of demux workers: files below the media root as packets, and slates."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import trio

from appliance.errors import Unavailable, WorkerFault
from appliance.media.track import Track
from appliance.transcoder.demux_messages import (
    DemuxFrame,
    FrameReceiver,
    Job,
    Kind,
    MakeSlate,
    Opened,
    OpenFile,
    pack_job,
    unpack_opened,
    unpack_track,
)  # fmt: skip
from appliance.transcoder.pool import worker_environment

log = logging.getLogger("kiln.demux")

#: Seconds for the first answer of a new process, for every later one, and for a killed one to go.
FIRST_ANSWER = 10.0
ANSWER = 5.0
REAP = 2.0
READ_BYTES = 256 * 1024
#: Workers that wait for their next file.
IDLE_KEPT = 2


@dataclass(frozen=True, slots=True)
class Slate:
    """A loop of coded frames. ``frame`` is the length of one in ns; the first one of a picture is a key frame."""

    track: Track
    payloads: tuple[bytes, ...]
    frame: int


class DemuxWorker:
    """One process and the engine's end of its socket. Raises WorkerFault when it is gone, hangs or talks nonsense."""

    def __init__(self) -> None:
        ours, its = socket.socketpair()
        command = [sys.executable, "-P", "-m", "appliance.transcoder.worker.demux", str(its.fileno()), str(os.getpid())]
        try:
            self.process = subprocess.Popen(
                command, pass_fds=(its.fileno(),), stdin=subprocess.DEVNULL, env=worker_environment(os.environ)
            )
        except OSError as error:
            ours.close()
            raise WorkerFault(f"demux worker does not start: {error}") from None
        finally:
            its.close()
        self._socket = trio.socket.from_stdlib_socket(ours)
        self._receiver = FrameReceiver()
        self._frames: deque[DemuxFrame] = deque()
        self._answered = False
        self._job = 0

    async def begin(self, job: Job) -> None:
        self._job = job.job
        self._frames.clear()
        try:
            data = pack_job(job)
            while data:
                sent = await self._socket.send(data)
                data = data[sent:]
        except OSError as error:
            raise WorkerFault(f"demux worker is gone: {error}") from None

    async def next(self) -> DemuxFrame:
        """The next frame of the job at work."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.job == self._job:
                    return frame
            await self._receive()

    @property
    def waiting(self) -> deque[DemuxFrame]:
        """Frames at hand; of the job at work, or of one before it."""
        return self._frames

    async def _receive(self) -> None:
        within = ANSWER if self._answered else FIRST_ANSWER
        data = b""
        with trio.move_on_after(within) as waiting:
            try:
                data = await self._socket.recv(READ_BYTES)
            except OSError as error:
                raise WorkerFault(f"demux worker is gone: {error}") from None
        if waiting.cancelled_caught:
            raise WorkerFault(f"demux worker gives nothing for {within:g} s")
        if not data:
            raise WorkerFault("demux worker ended")
        self._answered = True
        try:
            self._frames.extend(self._receiver.receive_data(data))
        except Exception as error:
            raise WorkerFault(f"demux worker talks nonsense: {error}") from None

    def kill(self) -> None:
        """End the process; `reap` must follow."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        self._socket.close()

    async def reap(self) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(REAP):
            if self.process.poll() is None:
                handle = os.pidfd_open(self.process.pid)
                try:
                    await trio.lowlevel.wait_readable(handle)
                finally:
                    os.close(handle)
        if self.process.poll() is None:
            log.error("demux worker does not die pid=%d", self.process.pid)


class Demuxers:
    """Hands out workers to those who read files, one each; one that has done its work waits for the next."""

    def __init__(self, start: Callable[[], DemuxWorker] = DemuxWorker) -> None:
        self._start = start
        self._idle: list[DemuxWorker] = []
        #: Killed, and not gone yet: one that waits for a dead disk may take long.
        self._dying: list[DemuxWorker] = []
        self._jobs = count(1)

    async def open(self, root: Path, path: Path, start: int = 0) -> OpenedFile:
        """Read ``path``, resolved below ``root``, from the key frame at or before ``start`` (ns of the file).

        Raises Unavailable with the reason: not there, no media, nothing in it that can be carried.
        """
        worker = self._take()
        try:
            await worker.begin(job := OpenFile(next(self._jobs), str(root), str(path), start))
            frame = await worker.next()
            if frame.kind is Kind.OPENED:
                return OpenedFile(self, worker, unpack_opened(frame.payload))
        except WorkerFault as fault:
            await self._discard(worker)
            raise Unavailable(f"{path.name}: {fault}") from None
        except BaseException:
            await self._discard(worker)
            raise
        self._give_back(worker)
        log.debug("file not opened job=%d", job.job)
        raise Unavailable(f"{path.name}: {frame.payload.decode('utf-8', 'replace') or 'it is empty'}")

    async def slates(self, wanted: MakeSlate) -> list[Slate]:
        """The slates of ``wanted`` (its job number is given here). Raises Unavailable."""
        worker = self._take()
        tracks: dict[int, Track] = {}
        payloads: dict[int, list[bytes]] = {}
        try:
            await worker.begin(
                MakeSlate(next(self._jobs), wanted.video, wanted.width, wanted.height, wanted.rate, wanted.audio,
                          wanted.sample_rate, wanted.channels)
            )  # fmt: skip
            while (frame := await worker.next()).kind in (Kind.TRACK, Kind.PACKET):
                if frame.kind is Kind.TRACK:
                    tracks[frame.track] = unpack_track(frame.payload)
                else:
                    payloads.setdefault(frame.track, []).append(frame.payload)
        except WorkerFault as fault:
            await self._discard(worker)
            raise Unavailable(f"no slate: {fault}") from None
        except BaseException:
            await self._discard(worker)
            raise
        self._give_back(worker)
        if frame.kind is Kind.FAULT:
            raise Unavailable(f"no slate: {frame.payload.decode('utf-8', 'replace')}")
        return [Slate(track, tuple(payloads[id]), frame_ns(track)) for id, track in tracks.items() if payloads.get(id)]

    def _take(self) -> DemuxWorker:
        self._dying = [worker for worker in self._dying if worker.process.poll() is None]
        while self._idle:
            worker = self._idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.kill()
            self._dying.append(worker)
        return self._start()

    def _give_back(self, worker: DemuxWorker, *, spent: bool = False) -> None:
        if len(self._idle) < IDLE_KEPT and not spent:
            self._idle.append(worker)
        else:
            worker.kill()
            self._dying.append(worker)

    async def _discard(self, worker: DemuxWorker) -> None:
        worker.kill()
        await worker.reap()

    async def close(self) -> None:
        """End those that wait."""
        idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()
        dying, self._dying = [*self._dying, *idle], []
        for worker in dying:
            await worker.reap()


class OpenedFile:
    """A file being read. ``duration`` ns (0: unknown). Close it when done; read to its end it is closed already."""

    def __init__(self, owner: Demuxers, worker: DemuxWorker, opened: Opened) -> None:
        self.duration = opened.duration
        self.tracks = opened.tracks
        self._owner = owner
        self._worker: DemuxWorker | None = worker
        #: Its worker is not to be used again.
        self.hung = False

    async def read(self) -> DemuxFrame | None:
        """The next PACKET or TRACK frame, None at the end. Raises Unavailable when the file turns out broken."""
        worker = self._worker
        if worker is None:
            return None
        try:
            frame = await worker.next()
        except WorkerFault as fault:
            self._worker = None
            await self._owner._discard(worker)
            raise Unavailable(str(fault)) from None
        if frame.kind in (Kind.PACKET, Kind.TRACK):
            return frame
        self.close()
        if frame.kind is Kind.FAULT:
            raise Unavailable(frame.payload.decode("utf-8", "replace"))
        return None

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._owner._give_back(worker, spent=self.hung)


def frame_ns(track: Track) -> int:
    """How long one frame of ``track`` lasts, as its codec or its rate says."""
    if track.is_video:
        return round(1e9 / (track.frame_rate or 30.0))
    samples = {"AAC": 1024, "MP3": 1152, "OPUS": 960}.get(str(track.codec), 1024)
    return round(samples * 1e9 / (track.sample_rate or 48_000))
