"""What goes wrong with a worker or its input, and that the stream goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import trio
from av.video.frame import VideoFrame

from appliance.media.packet import Packet
from appliance.transcoder.pool import WorkerPool
from tests.transcoder.harness import FileInput, aac, decode, h264, own_encodes, seconds_of, steps, transcoding

URL = "pattern://?size=320x180&fps=30&vbitrate=500K"


def longest_silence(times: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param("pattern", signal.SIGKILL, id="pattern-killed"),
        pytest.param("compressed", signal.SIGSTOP, id="compressed-stopped"),
        pytest.param("pattern", signal.SIGSTOP, id="pattern-stopped", marks=pytest.mark.long),
        pytest.param("compressed", signal.SIGKILL, id="compressed-killed", marks=pytest.mark.long),
    ],
)
async def test_a_lost_worker_is_replaced_and_time_goes_on(how: signal.Signals, kind: str) -> None:
    source = FileInput() if kind == "compressed" else None
    specs = [h264(0), aac(1)] if source else own_encodes(URL)
    pool = WorkerPool(size=1)
    pool.fill()
    async with trio.open_nursery() as nursery:
        if source:
            nursery.start_soon(source.play)
        async with transcoding(
            specs, source_url=None if source else URL, stream=source.stream if source else None, pool=pool
        ) as (transcoder, recorder):
            await recorder.have(0, 20)
            pool.fill()
            # The spare has its libraries loaded by the time it is needed.
            await recorder.more(0, 45)
            pid = transcoder.worker_pid
            assert pid is not None
            os.kill(pid, how)
            await recorder.until(lambda: transcoder.restarts == 1)
            until_then = len(recorder.packets[0])
            await recorder.more(0, 40)
            await recorder.more(1, 40)
            assert transcoder.worker_pid != pid
            assert not _runs(pid)
        nursery.cancel_scope.cancel()
    await pool.close()
    assert longest_silence(recorder.at[0]) < 3.0
    assert longest_silence(recorder.at[1]) < 3.0
    for id in (0, 1):
        packets = recorder.packets[id]
        assert all(later.dts > earlier.dts for earlier, later in pairwise(packets))
        # Same encoder, same settings: no new codec configuration, so no new generation.
        assert len(recorder.tracks[id]) == 1
    assert recorder.packets[0][until_then].keyframe
    assert len(recorder.faults) == 1
    assert len(decode(recorder.packets[0])) == len(recorder.packets[0])


async def test_garbage_in_the_packets_leaves_the_rest_alone() -> None:
    source = FileInput()
    number = 0

    def spoil(packet: Packet) -> Packet:
        nonlocal number
        number += 1
        if number % 7 or not 0.5 < seconds_of(packet) < 2.5:
            return packet
        rubbish = [b"", b"\xff" * 300, packet.payload[:20], os.urandom(500), b"\0\0\0\x05" + os.urandom(3)]
        return msgspec.structs.replace(packet, payload=rubbish[number // 7 % 5])

    source.mangle = spoil
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.play)
        async with transcoding([h264(0), aac(1)], stream=source.stream) as (transcoder, recorder):
            await recorder.until(lambda: 0 in recorder.packets and seconds_of(recorder.packets[0][-1]) > 3.6)
            await recorder.until(lambda: transcoder.stats.decode_errors > 0)
        nursery.cancel_scope.cancel()
    assert transcoder.restarts == 0
    packets = [packet for packet in recorder.packets[0] if seconds_of(packet) > 3]
    assert len(packets) > 15
    sound = recorder.packets[1]
    assert steps(sound) == {1024}


async def test_an_encoder_that_does_not_open_is_told_and_the_others_run() -> None:
    broken = h264(0, encoders=("h264_v4l2m2m",))
    fallback = h264(1, encoders=("h264_nvenc", "libx264"))
    async with transcoding([broken, fallback], source_url=URL) as (transcoder, recorder):
        await recorder.have(1, 20)
        await recorder.until(lambda: len(recorder.faults) >= 2)
        await recorder.until(lambda: any(r.encoder == "libx264" for r in transcoder.stats.renditions))
    assert 0 not in recorder.packets
    assert any(text.startswith("track 0: ") and "h264_v4l2m2m" in text for text in recorder.faults)
    assert any("using libx264" in text for text in recorder.faults)
    assert transcoder.restarts == 0


async def test_a_source_that_cannot_open_backs_off(caplog: pytest.LogCaptureFixture) -> None:
    async with transcoding([h264(0)], source_url="pattern://?size=1x1") as (transcoder, recorder):
        await recorder.until(lambda: len(recorder.faults) >= 3)
        began = time.monotonic()
        await recorder.until(lambda: len(recorder.faults) >= 4)
        assert time.monotonic() - began > 0.4
    assert transcoder.restarts >= 4
    assert "must be WIDTHxHEIGHT" in recorder.faults[0]


async def test_a_new_picture_size_is_a_new_decode_and_goes_on() -> None:
    small, large = FileInput(), FileInput()
    stream = small.stream
    spec = h264(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(small.play, 1.0)
        async with transcoding([spec], stream=stream) as (_, recorder):
            await recorder.have(0, 30)
            track = msgspec.structs.replace(large.tracks[0], generation=1)
            for index, (_, _, packet) in enumerate(item for item in large._items if item[1].is_video):
                if index >= 30:
                    break
                at = packet.pts + 90000
                stream.publish(Packet(track, at, at, 0, packet.keyframe, packet.payload))
                await trio.sleep(0.02)
            await recorder.have(0, 60)
        nursery.cancel_scope.cancel()
    assert len(recorder.tracks[0]) == 1
    frames = decode(recorder.packets[0])
    assert len(frames) == 60
    assert all(isinstance(frame, VideoFrame) for frame in frames)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.02)


ORPHAN = """
import sys, time, trio
from appliance.transcoder.pool import WorkerPool
async def main():
    pool = WorkerPool(size=1)
    pool.fill()
    worker = await pool.take()
    for message in await worker.hear():
        print(worker.pid, flush=True)
    await trio.sleep_forever()
trio.run(main)
"""


def test_a_worker_dies_with_the_engine() -> None:
    root = Path(__file__).resolve().parents[2]
    engine = subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=root, stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    pid = int(engine.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    os.kill(pid, signal.SIGSTOP)
    engine.kill()
    engine.wait()
    engine.stdout.close()
    deadline = time.monotonic() + 5
    while _runs(pid):
        assert time.monotonic() < deadline, "the worker outlives its engine"
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_spares_are_replaced_when_taken_or_dead() -> None:
    pool = WorkerPool(size=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, lambda: None)
        with trio.fail_after(5):
            await until(lambda: pool.spares == 1)
        worker = await pool.take()
        assert pool.spares == 0
        with trio.fail_after(5):
            await until(lambda: pool.spares == 1)
        assert pool.started == 2
        nursery.cancel_scope.cancel()
    worker.kill()
    await worker.reap()
    assert not worker.alive
    assert pool.spares == 0


HANGING = """
import os, time
import appliance.transcoder.worker.picture_encoder as stage
flag = os.environ["HANG_ONCE"]
encode = stage.PictureEncoder.encode
def hang(self, work):
    if self._spec.id == 1 and work.time > 90000 and os.path.exists(flag):
        os.unlink(flag)
        time.sleep(1000)
    return encode(self, work)
stage.PictureEncoder.encode = hang
"""


async def test_an_encoder_that_hangs_is_seen_by_the_worker_itself(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    flag = tmp_path / "hang"
    flag.touch()
    pool = WorkerPool(size=1, environment={**os.environ, "PYTHONPATH": str(tmp_path), "HANG_ONCE": str(flag)})
    pool.fill()
    specs = [h264(0), h264(1, width=160)]
    async with transcoding(specs, source_url=URL + "&audio=off", pool=pool) as (transcoder, recorder):
        await recorder.have(1, 10)
        pool.fill()
        await recorder.until(lambda: transcoder.restarts == 1, 10)
        await recorder.more(0, 20)
        await recorder.more(1, 20)
    await pool.close()
    assert recorder.faults == ["track 1: the encoder hangs"]
    assert longest_silence(recorder.at[1]) < 3.0


NONSENSE = """
import socket, sys, time
media = socket.socket(fileno=int(sys.argv[-2]))
media.sendall(b"\\xff" * 1000)
time.sleep(60)
"""


async def test_a_worker_that_talks_nonsense_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mad = tmp_path / "python"
    mad.write_text(f"#!{sys.executable}\n{NONSENSE}")
    mad.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(mad))
        pool = WorkerPool(size=1)
        pool.fill()
    async with transcoding([h264(0)], source_url=URL, pool=pool) as (transcoder, recorder):
        await recorder.have(0, 10)
        assert transcoder.restarts == 1
    await pool.close()
    assert recorder.faults == ["media frame of kind 255 and 4294967295 bytes"]
