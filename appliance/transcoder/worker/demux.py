"""The demux worker: ``python -m appliance.transcoder.worker.demux FD PARENT_PID``.

Reads files of the media root with libavformat, which gets an opened descriptor and never a name: nothing nested is
opened, and only containers that hold their media themselves are tried. Plain blocking code: it waits for the engine to
read, and the engine kills it when it hangs. A new job takes the place of the one at work.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import sys
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from appliance.errors import BadRequest, KilnError, RemoteProtocolError
from appliance.storage.media_root import open_file
from appliance.transcoder.demux_messages import (
    HEAD,
    Job,
    JobReceiver,
    Kind,
    MakeSlate,
    Opened,
    OpenFile,
    pack_end,
    pack_opened,
    pack_track,
)  # fmt: skip
from appliance.transcoder.worker.__main__ import die_with_parent, go_before_the_engine
from appliance.transcoder.worker.canonical_file import FileTrack, file_tracks
from appliance.transcoder.worker.slate import make_slate
from appliance.transcoder.worker.video_encoder import reason

#: Containers that name no other file.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,flv,mp3,aac,ogg,avi,h264,hevc"
IO_BYTES = 256 * 1024
BATCH_BYTES = 64 * 1024


class Superseded(Exception):
    """Another job has come."""


class Demuxing:
    """Carries out one job after the other until the engine closes its end."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._receiver = JobReceiver()
        self._jobs: deque[Job] = deque()

    def run(self) -> None:
        while True:
            while not self._jobs:
                self._take(wait=True)
            job = self._jobs.pop()
            self._jobs.clear()
            try:
                self._carry_out(job)
                self._send(pack_end(job.job))
            except Superseded:
                continue
            except (KilnError, FFmpegError, OSError, ValueError, MemoryError) as error:
                if isinstance(error, (BrokenPipeError, ConnectionResetError)):
                    os._exit(0)
                self._send(pack_end(job.job, reason(error) or type(error).__name__))

    def _take(self, *, wait: bool) -> None:
        if not wait and not select.select([self._peer], [], [], 0)[0]:
            return
        data = self._peer.recv(65536)
        if not data:
            os._exit(0)
        self._jobs.extend(self._receiver.receive_data(data))

    def _send(self, data: bytes | bytearray) -> None:
        self._peer.sendall(data)

    def _carry_out(self, job: Job) -> None:
        if isinstance(job, MakeSlate):
            for track, payloads in make_slate(job):
                self._send(pack_track(job.job, track))
                for index, payload in enumerate(payloads):
                    self._send(_packet(job.job, track.id, index, index, 1, index == 0 or track.is_audio, payload))
            return
        with os.fdopen(_open(job), "rb", buffering=0) as file:
            options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
            with av.open(file, mode="r", options=options, buffer_size=IO_BYTES) as container:
                self._demux(job, container)

    def _demux(self, job: OpenFile, container: Any) -> None:
        origin = Fraction(container.start_time or 0, 1_000_000)
        tracks = file_tracks(container, origin)
        if not tracks:
            raise BadRequest("there is no track in it that can be carried")
        if job.start > 0:
            container.seek(job.start // 1000 + (container.start_time or 0), backward=True)
        duration = max(0, int((container.duration or 0) * 1000))
        self._send(pack_opened(job.job, Opened(duration, [each.track for each in tracks.values()])))
        batch = bytearray()
        for packet in container.demux([container.streams[index] for index in tracks]):
            if packet.size:
                self._packet(job.job, tracks[packet.stream_index], packet, batch)
            if len(batch) >= BATCH_BYTES or (self._jobs and batch):
                self._take(wait=False)
                if self._jobs:
                    raise Superseded
                self._send(batch)
                batch = bytearray()
        self._send(batch)

    @staticmethod
    def _packet(job: int, file_track: FileTrack, packet: Any, batch: bytearray) -> None:
        before = file_track.track
        for pts, dts, duration, keyframe, payload in file_track.frames(packet):
            if file_track.track is not before:
                before = file_track.track
                batch += pack_track(job, before)
            batch += _packet(job, before.id, pts, dts, duration, keyframe, payload)


def _packet(job: int, track: int, pts: int, dts: int, duration: int, keyframe: bool, payload: bytes) -> bytes:
    return HEAD.pack(len(payload), Kind.PACKET, keyframe, track, job, pts, dts, min(duration, 0xFFFFFFFF)) + payload


def _open(job: OpenFile) -> int:
    """Raises NotFound, Forbidden, BadRequest, OSError."""
    handle = open_file(Path(job.root), Path(job.path), os.O_RDONLY)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BadRequest(f"{job.path} is no file")
        os.set_blocking(handle, True)
    except BaseException:
        os.close(handle)
        raise
    return handle


def main(arguments: list[str]) -> None:
    descriptor, parent = (int(argument) for argument in arguments)
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    go_before_the_engine()
    av.logging.set_level(None)
    with socket.socket(fileno=descriptor) as peer:
        try:
            Demuxing(peer).run()
        except (OSError, RemoteProtocolError):
            os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
