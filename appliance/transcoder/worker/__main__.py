"""The codec worker process: ``python -m appliance.transcoder.worker CONTROL_FD MEDIA_FD PARENT_PID``.

Plain blocking code. The main thread talks on the control socket and watches the others: one feeds (decodes or
captures), one encodes for each video rendition, one writes media to the engine. The worker never outlives the engine.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from appliance.errors import KilnError

if TYPE_CHECKING:
    from appliance.transcoder.messages import Configure, FromWorker, ToWorker

PR_SET_PDEATHSIG = 1
OOM_SCORE = "300"
#: How often the main thread looks after the others when nobody talks to it.
TICK_SECONDS = 0.05
STATS_SECONDS = 1.0
#: An encode call that runs this long is stuck; the first one of an encoder may load drivers and kernels.
STUCK_NS = 2_000_000_000
STUCK_FIRST_NS = 9_000_000_000
#: Reports that may wait for an engine that does not read.
UNSENT_LIMIT = 256 * 1024
EXIT_FAULT = 3


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the engine's main thread ends; exit at once if that has been already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def go_before_the_engine() -> None:
    """When memory runs out, let the kernel take a worker, which is replaced, and not the engine."""
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write(OOM_SCORE)
    except OSError:
        pass


def main(arguments: list[str]) -> None:
    control_fd, media_fd, parent = (int(argument) for argument in arguments)
    die_with_parent(parent)
    # Ctrl-C goes to the whole terminal group; when to end is the engine's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    go_before_the_engine()
    os.environ.setdefault("SVT_LOG", "1")
    # Without it libasound reads its configuration from a folder that anyone can write.
    os.environ.setdefault("ALSA_CONFIG_PATH", "/usr/share/alsa/alsa.conf")
    sys.setswitchinterval(0.001)
    with socket.socket(fileno=control_fd) as control, socket.socket(fileno=media_fd) as media:
        Worker(control, media).run()


class Source(Protocol):
    """Where raw frames come from."""

    frames: int
    late: int
    fed: int
    consumed_bytes: int
    consumed_packets: int
    consumed_ns: int

    @property
    def decode_errors(self) -> int: ...
    def run(self) -> None: ...


class Worker:
    """The main thread."""

    def __init__(self, control: socket.socket, media: socket.socket) -> None:
        # Here, so that a spare has all of it loaded before it is needed.
        from appliance.transcoder import messages
        from appliance.transcoder.worker import capture, decode, graph, outbox

        self._messages = messages
        self._control = control
        self._media = media
        self._receiver = messages.EngineControl()
        self._faults: deque[messages.Fault] = deque(maxlen=100)
        self._outbox = outbox.Outbox(media, lambda id: self._graph.want_key_frame(id))
        self._graph = graph.Graph(self._outbox, self._fault)
        self._decode = decode
        self._capture = capture
        self._source: Source | None = None
        self._feeder: threading.Thread | None = None
        self._writer = threading.Thread(target=self._outbox.run, name="media out", daemon=True)
        self._crash: str | None = None
        self._stopping = False
        self._last_progress: object = None
        self._stats_at = 0.0
        self._unsent = b""

    def run(self) -> None:
        messages = self._messages
        self._control.setblocking(False)
        self._send(messages.Ready(os.getpid()))
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while not self._stopping:
            if poll.poll(TICK_SECONDS * 1000 if self._source else None) and not self._read():
                os._exit(0)
            self._look_after()
        self._end()

    def _read(self) -> bool:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for message in self._receiver.receive_data(data):
            self._obey(message)
        return bool(data)

    def _obey(self, message: ToWorker) -> None:
        messages = self._messages
        match message:
            case messages.Configure():
                self._configure(message)
            case messages.SetRenditions(renditions):
                self._graph.set_renditions(renditions)
            case messages.ForceKeyFrame(since=since):
                self._graph.force_key_frame(since)
            case messages.SetBitrate(id, bitrate):
                self._graph.set_bitrate(id, bitrate)
            case messages.Stop():
                self._stopping = True

    def _configure(self, message: Configure) -> None:
        if self._source is not None:
            return
        self._graph.set_renditions(message.renditions)
        try:
            self._source = self._open_source(message)
        except KilnError as error:
            self._crash = str(error)
            return
        self._feeder = threading.Thread(target=self._feed, args=(self._source,), name="feed", daemon=True)
        self._feeder.start()
        self._writer.start()

    def _open_source(self, message: Configure) -> Source:
        if message.source_url is None:
            return self._decode.PacketSource(self._media, self._graph, message.emit_from, self._fault,
                                             message.decoder_threads)  # fmt: skip
        return self._capture.open_source(message.source_url, message.epoch, self._graph, self._fault)

    def _feed(self, source: Source) -> None:
        try:
            source.run()
        except Exception as error:  # whatever ends the feeder ends the worker, and the engine is told why
            self._crash = f"{type(error).__name__}: {error}"

    def _fault(self, text: str, id: int | None, fatal: bool) -> None:
        self._faults.append(self._messages.Fault(text, id, fatal))

    def _look_after(self) -> None:
        messages = self._messages
        if self._crash is not None:
            self._fault(self._crash, None, True)
        stuck = self._graph.stuck_since()
        if stuck is not None:
            since, rendition = stuck
            limit = STUCK_NS if rendition.stats.frames_out else STUCK_FIRST_NS
            if time.monotonic_ns() - since > limit:
                self._fault("the encoder hangs", rendition.spec.id, True)
        while self._faults:
            fault = self._faults.popleft()
            self._send(fault)
            if fault.fatal:
                os._exit(EXIT_FAULT)
        source = self._source
        if source is None:
            return
        progress = messages.Progress(source.consumed_bytes, source.consumed_packets, source.consumed_ns,
                                     self._outbox.produced, source.fed)  # fmt: skip
        if progress != self._last_progress:
            self._last_progress = progress
            self._send(progress)
        now = time.monotonic()
        if now - self._stats_at >= STATS_SECONDS:
            self._stats_at = now
            self._send(messages.Stats(time.process_time(), _rss(), source.frames, source.late, source.decode_errors,
                                      self._graph.stats))  # fmt: skip

    def _send(self, message: FromWorker) -> None:
        """Never waits: an engine that does not read for so long that the socket is full misses reports."""
        if len(self._unsent) < UNSENT_LIMIT:
            self._unsent += self._messages.pack_control(message)
        try:
            sent = self._control.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            os._exit(0)
        self._unsent = self._unsent[sent:]

    def _end(self) -> None:
        stop = getattr(self._source, "stop", None)
        if stop is not None:
            stop()
        if self._feeder is not None:
            self._feeder.join(0.5)
        self._graph.close()
        self._outbox.close()
        if self._writer.is_alive():
            self._writer.join(1.0)
        os._exit(0)


def _rss() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main(sys.argv[1:])
