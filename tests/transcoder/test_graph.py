"""The inside of a worker, in this process: what a frame goes through, without sockets and clocks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise

import pytest

from appliance.transcoder.messages import Frame, MediaFrame, MediaReceiver
from appliance.transcoder.worker import video, video_encoder
from appliance.transcoder.worker.decode import LOST_PATIENCE_NS, PATIENCE_NS, BurstPatience
from appliance.transcoder.worker.graph import Graph
from appliance.transcoder.worker.outbox import Outbox
from appliance.transcoder.worker.patience import HICCUP_NS, MEMORY_NS, OVERLOAD_NS, Load, Patience
from appliance.transcoder.worker.pattern import BlockText, PatternPicture, PatternSound
from tests.transcoder.harness import h264

SECOND = 1_000_000_000


class Bench:
    """A graph with one video input, and what comes out of it."""

    def __init__(self, media: socket.socket, far: socket.socket) -> None:
        self.faults: list[str] = []
        self.wanted: list[int] = []
        self.outbox = Outbox(media, self._lost)
        self.graph = Graph(self.outbox, lambda text, id, fatal: self.faults.append(text))
        self.frames: list[MediaFrame] = []
        self.read = threading.Event()
        self._far = far
        self._writer = threading.Thread(target=self.outbox.run)
        self._reader = threading.Thread(target=self._receive)
        self._pattern = PatternPicture(160, 96, Fraction(30))
        self._number = 0

    def _lost(self, id: int) -> None:
        self.wanted.append(id)
        self.graph.want_key_frame(id)

    def _receive(self) -> None:
        receiver = MediaReceiver()
        self.read.wait(20)
        while data := self._far.recv(65536):
            self.frames += receiver.receive_data(data)

    def start(self, *, reading: bool = True) -> None:
        self.graph.add_video_input(0, Fraction(30), 0)
        if reading:
            self.read.set()
        self._writer.start()
        self._reader.start()

    def picture(self, count: int = 1) -> None:
        for _ in range(count):
            self.graph.video_frame(0, self._pattern.frame(0, flash=False), self._number * 3000)
            self._number += 1
            self.graph.wait_for_room(0, time.monotonic() + 5)

    def finish(self) -> None:
        self.read.set()
        self.graph.close()
        self.outbox.close()
        self._writer.join(10)
        self._reader.join(10)

    @property
    def packets(self) -> list[MediaFrame]:
        return [frame for frame in self.frames if frame.kind is Frame.PACKET]


@contextmanager
def bench() -> Iterator[Bench]:
    media, far = socket.socketpair()
    with media, far:
        made = Bench(media, far)
        try:
            yield made
        finally:
            made.finish()


def test_an_encoder_that_hardly_keeps_up_gets_more_threads_at_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MOST_THREADS", 4)
    monkeypatch.setattr(video_encoder, "MOST_THREADS", 4)
    monkeypatch.setattr(Load, "heavy", lambda self, now: True)
    with bench() as made:
        made.graph.set_renditions([h264(0)])
        made.start()
        made.picture(100)
        rendition = made.graph._video[0]
    assert rendition._encoder is not None
    assert rendition._encoder.threads == 4
    assert [packet.pts for packet in made.packets] == [3000 * n for n in range(100)]
    assert [packet.pts for packet in made.packets if packet.keyframe] == [0, 90000, 180000, 270000]
    tracks = [frame.payload for frame in made.frames if frame.kind is Frame.TRACK]
    assert len(set(tracks)) == 1
    assert made.faults == []


def test_an_engine_that_does_not_read_costs_packets_to_a_key_frame_and_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("appliance.transcoder.worker.outbox.LIMIT_BYTES", 20_000)
    with bench() as made:
        made.graph.set_renditions([h264(0, bitrate=3_000_000)])
        made.start(reading=False)
        made.picture(400)
        assert made.outbox.dropped[0] > 20
        assert made.wanted
        made.read.set()
        deadline = time.monotonic() + 5
        while made.outbox._waiting and time.monotonic() < deadline:
            time.sleep(0.01)
        made.picture(40)
    times = [packet.pts for packet in made.packets]
    holes = [later for earlier, later in pairwise(times) if later - earlier > 3000]
    keys = {packet.pts for packet in made.packets if packet.keyframe}
    assert holes
    assert set(holes) <= keys


def test_patience() -> None:
    patience = Patience()
    now = 100 * SECOND
    assert patience.limit(now) == HICCUP_NS
    patience.lost(now)
    assert patience.limit(now + SECOND) == OVERLOAD_NS
    assert patience.limit(now + MEMORY_NS) == HICCUP_NS


def test_a_burst_may_be_waited_for_and_overload_may_not() -> None:
    burst = BurstPatience()
    start = 1000 * SECOND
    # A group of pictures at once: each packet's time is later, the clock hardly moves.
    assert all(burst.left(start + n, n * 33_000_000) == PATIENCE_NS for n in range(30))
    # From there on every second of media takes two.
    behind = [burst.left(start + n * 2 * SECOND // 10, SECOND + n * SECOND // 10) for n in range(30)]
    assert behind[0] > 0
    assert behind[-1] == 0
    lost = next(n for n, left in enumerate(behind) if left == 0)
    assert burst.left(start + lost * 2 * SECOND // 10 + SECOND, 10 * SECOND) == 0
    assert burst.left(start + 20 * SECOND + LOST_PATIENCE_NS, 40 * SECOND) > 0


def test_load_is_judged_by_the_window() -> None:
    load = Load()
    assert not load.heavy(0)
    load.worked(SECOND // 2)
    assert not load.heavy(SECOND // 2)
    load.worked(SECOND // 2)
    assert load.heavy(SECOND)
    load.worked(SECOND // 2)
    assert not load.heavy(2 * SECOND)


def test_the_clock_is_drawn_and_small_pictures_go_without() -> None:
    pattern = PatternPicture(640, 360, Fraction(25))
    first, second = (bytes(pattern.frame(ns, flash=False).planes[0]) for ns in (0, 1_000_000))
    row = slice(640 * (360 - 10), 640 * (360 - 9))
    assert first[row] != second[row] or first != second
    assert not BlockText(16, 16, 12).fits
    tiny = PatternPicture(16, 16, Fraction(25))
    assert tiny.frame(0, flash=True).width == 16


def test_the_tone_has_no_seam_at_the_second() -> None:
    sound = PatternSound(44100, 2, 440)
    around = memoryview(bytes(sound.frame(44100 - 512, 1024).planes[0])).cast("h")
    left, right = list(around[0:1024:2]), list(around[1:1024:2])
    assert left == right
    assert max(left) <= 32767 * 0.11
    assert max(around[1024:2048]) > 32767 * 0.5
