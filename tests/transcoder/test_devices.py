"""Capture devices: what they give goes through in sync; what they don't give is a slate, and never the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise

import av
from av.audio.frame import AudioFrame
from av.error import FileNotFoundError as AvFileNotFoundError
from av.video.frame import VideoFrame

from appliance.media.clock import NANOSECONDS
from appliance.transcoder import sources
from appliance.transcoder.worker.devices import DeviceSource, SampleClock
from appliance.transcoder.worker.graph import Graph
from tests.transcoder.harness import Recorder, own_encodes, seconds_of, transcoding

URL = "v4l2:///dev/video77?size=320x180&fps=30&audio=hw:7,0"


class Frames(Graph):
    """Where the frames of a device go, with the time they came."""

    def __init__(self) -> None:
        self.pictures: list[tuple[int, VideoFrame]] = []
        self.sounds: list[AudioFrame] = []
        self.faults: list[str] = []
        self.lock = threading.Lock()

    def add_video_input(
        self, id: int, rate: Fraction | None, phase: int | None = None, *, adapt: bool = False
    ) -> None:
        assert rate == 30

    def video_frame(self, input_id: int, frame: VideoFrame, at: int) -> None:
        with self.lock:
            self.pictures.append((at, frame))

    def audio_frame(self, input_id: int, frame: AudioFrame) -> None:
        with self.lock:
            self.sounds.append(frame)

    def fault(self, text: str, id: int | None, fatal: bool) -> None:
        self.faults.append(text)


def camera(pictures: int, *, stall: threading.Event | None = None) -> Callable[[object], Iterator[VideoFrame]]:
    """A V4L2 device that gives so many pictures in real time, with its own monotonic stamps, then ends or stalls."""

    def opened(_: object) -> Iterator[VideoFrame]:
        for _number in range(pictures):
            time.sleep(1 / 30)
            frame = VideoFrame(320, 180, "yuyv422")
            frame.pts = time.monotonic_ns() // 1000
            frame.time_base = Fraction(1, 1_000_000)
            yield frame
        if stall is not None:
            stall.wait(10)

    return opened


def quiet(_: object) -> Iterator[AudioFrame]:
    """A sound device without a clock: it gives as fast as it is read."""
    while True:
        frame = AudioFrame("s16", "stereo", 480)
        frame.sample_rate = 48000
        yield frame


def missing(_: object) -> Iterator[VideoFrame]:
    yield from ()
    raise AvFileNotFoundError(2, "No such file or directory", "/dev/video77")


def play(seconds: float, **openers: Callable[[object], Iterator[object]]) -> tuple[Frames, DeviceSource]:
    graph = Frames()
    epoch = time.monotonic_ns()
    source = DeviceSource(sources.parse(URL), epoch, graph, graph.fault, **openers)  # type: ignore[arg-type]
    thread = threading.Thread(target=source.run)
    thread.start()
    time.sleep(seconds)
    source.stop()
    thread.join(3)
    assert not thread.is_alive()
    return graph, source


def test_pictures_keep_their_stamps_and_sound_is_held_to_real_time() -> None:
    graph, source = play(1.0, open_video=camera(1000), open_audio=quiet)
    assert 20 <= len(graph.pictures) <= 31
    assert source.frames == len(graph.pictures)
    times = [at for at, _ in graph.pictures]
    assert all(later - earlier > 2000 for earlier, later in pairwise(times))
    assert graph.pictures[0][1].format.name == "yuyv422"
    seconds = sum(frame.samples for frame in graph.sounds) / 48000
    assert 0.7 < seconds < 1.4
    stamps = [frame.pts for frame in graph.sounds]
    steps = [b - a for a, b in pairwise(stamps) if a is not None and b is not None]
    assert all(step >= 400 for step in steps)
    # A busy machine may be away for a moment; what then comes is late, but never bent.
    assert sum(abs(step - 480) > 48 for step in steps) <= 3
    assert graph.faults == []


def test_a_device_that_is_not_there_is_named_and_replaced_by_a_slate() -> None:
    graph, _ = play(2.3, open_video=missing, open_audio=missing)
    assert len(graph.pictures) > 20
    assert len(graph.sounds) > 30
    slate = graph.pictures[-1][1]
    assert (slate.width, slate.height, slate.format.name) == (320, 180, "yuv420p")
    light = bytes(slate.planes[0])
    assert light.count(235) > 200
    assert all(later[0] > earlier[0] for earlier, later in pairwise(graph.pictures))
    stamps = [frame.pts for frame in graph.sounds]
    assert {b - a for a, b in pairwise(stamps) if a is not None and b is not None} == {1024}
    # Told once, not at each try.
    assert sorted(graph.faults) == sorted(
        f"{name}: No such file or directory"
        for name in ("camera /dev/video77", "sound device hw:7,0")
    )


def test_a_camera_that_stalls_gives_way_to_the_slate_and_comes_back() -> None:
    stall = threading.Event()
    lives = iter([camera(10, stall=stall), camera(1000)])
    threading.Timer(1.9, stall.set).start()
    graph, _ = play(4.0, open_video=lambda source: next(lives)(source), open_audio=quiet)
    kinds = [frame.format.name for _, frame in graph.pictures]
    assert kinds[0] == "yuyv422"
    assert "yuv420p" in kinds
    assert kinds[-1] == "yuyv422"
    assert graph.faults == ["camera /dev/video77: it ended"]


def test_the_sample_clock_follows_a_drifting_device() -> None:
    clock = SampleClock(48000)
    error = 0
    for index in range(3000):
        # The device's second is 200 ppm short, and its chunks come up to 5 ms late.
        arrived = int((index + 1) * 480 * NANOSECONDS / (48000 * 1.0002)) + (index * 7 % 5) * 1_000_000
        begins = clock.stamp(arrived, 480)
        error = begins - (arrived - 10_000_000)
    assert abs(error) < 8_000_000
    before = clock.stamp(30_000_000_000 + 480, 480)
    assert clock.stamp(40_000_000_000, 480) == 40_000_000_000 - 10_000_000 != before


async def test_a_box_without_the_camera_is_on_the_air_all_the_same() -> None:
    async with transcoding(own_encodes(URL), source_url=URL) as (transcoder, recorder):
        await recorder.have(0, 20)
        await recorder.have(1, 20)
        assert transcoder.restarts == 0
    _no_camera(recorder)


def _no_camera(recorder: Recorder) -> None:
    assert any("camera /dev/video77" in text for text in recorder.faults)
    assert any("sound device hw:7,0" in text for text in recorder.faults)
    assert seconds_of(recorder.packets[0][-1]) > 1


async def test_a_real_alsa_device_is_read_in_real_time() -> None:
    url = "alsa://null?samplerate=44100"
    async with transcoding(own_encodes(url), source_url=url) as (_, recorder):
        packets = list(await recorder.have(0 if 0 in recorder.packets else 1, 60))
        took = recorder.at[1][-1] - recorder.at[1][0]
    assert recorder.tracks[1][0].sample_rate == 44100
    assert {later.pts - earlier.pts for earlier, later in pairwise(packets)} == {1024}
    assert 1.0 < took < 2.5
    assert recorder.faults == []


def test_libav_has_the_devices() -> None:
    assert {"alsa", "video4linux2,v4l2"} <= av.formats_available
