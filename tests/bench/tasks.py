"""What is done with a stream: recorded, dumped and pushed at once; what a kill and a lost target cost."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av

from tests.bench.figures import Figure, against_peer, at_most, told
from tests.bench.stage import cpu_share, folder, note, pin_to_other_core, publishing, running, wait_for
from tests.kit import ffmpeg, procfs
from tests.kit.ffmpeg import FULL_HD, SMALL, Ffmpeg
from tests.kit.kiln import KilnProcess
from tests.kit.ports import free_port
from tests.kit.server_xml import BYPASS, Application, ServerXml

APP = "/v1/vhosts/default/apps/app"
TARGETS = 3
#: A second of the source: its pictures and its sounds.
PACKETS_A_SECOND = 30 + 48_000 / 1024


@contextmanager
def box() -> Iterator[KilnProcess]:
    application = Application(profiles=BYPASS, segment=2, publishers="<FILE/><Push/>")
    with running(ServerXml((application,)), environment={"KILN_EGRESS_ALLOW": "127.0.0.0/8"}) as kiln:
        yield kiln


def ask(kiln: KilnProcess, command: str, body: dict[str, Any]) -> Any:
    status, answer = kiln.call("POST", f"{APP}{command}", body)
    if status != 200:
        raise RuntimeError(f"{command}: {answer}")
    return answer.get("response")


@contextmanager
def far_end(url: str) -> Iterator[Ffmpeg]:
    """A server of RTMP that takes one publisher and throws everything away."""
    with Ffmpeg(["-listen", "1", "-i", url, "-map", "0", "-c", "copy", "-f", "null", "-"]) as process:
        pin_to_other_core(process.pid)
        yield process


def all_at_once(quick: bool) -> list[Figure]:
    """The box makes LL-HLS besides, because a dump is made of it; ffmpeg writes HLS."""
    seconds = 8 if quick else 30
    with ExitStack() as stack:
        ports = [free_port() for _ in range(2 * TARGETS)]
        urls = [f"rtmp://127.0.0.1:{port}/live/cam" for port in ports]
        for url in urls:
            stack.enter_context(far_end(url))
        kiln = stack.enter_context(box())
        ask(kiln, ":startRecord", {"id": "r", "stream": {"name": "cam"}, "filePath": "/out/cam.mp4"})
        for number, port in enumerate(ports[:TARGETS]):
            target = {"protocol": "rtmp", "url": f"rtmp://127.0.0.1:{port}/live", "streamKey": "cam"}
            ask(kiln, ":startPush", {"id": f"p{number}", "stream": {"name": "cam"}, **target})
        peer = stack.enter_context(_tee(stack.enter_context(folder()), urls[TARGETS:]))
        stack.enter_context(publishing(kiln, FULL_HD, "cam"))
        ask(kiln, "/streams/cam:startHlsDump",
            {"outputStreamName": "cam", "id": "d", "outputPath": "/d", "playlist": ["llhls.m3u8"]})  # fmt: skip
        wait_for(lambda: _at_work(kiln), 20, "not all tasks are at work")
        time.sleep(1 if quick else 5)
        before = {each["id"]: each["sentBytes"] for each in ask(kiln, ":pushes", {})}
        groups: dict[str, Sequence[int]] = {"engine": [kiln.pid], "workers": kiln.workers, "ffmpeg": [peer.pid]}
        used = cpu_share(groups, seconds)
        after = {each["id"]: each["sentBytes"] for each in ask(kiln, ":pushes", {})}
        slowest = min(after[each] - before[each] for each in before) * 8 / seconds / 1e6
        if not (_at_work(kiln) and peer.running):
            raise RuntimeError("a task ended")
    return [
        against_peer("recorded, dumped, pushed to three: engine and disk worker", used["engine"] + used["workers"],
                     used["ffmpeg"], 1.2),
        told("  the engine alone", f"{used['engine']:.2f} %"),
        told("  slowest push", f"{slowest:.2f} Mbit/s"),
    ]  # fmt: skip


def _at_work(kiln: KilnProcess) -> bool:
    records, pushes = ask(kiln, ":records", {}), ask(kiln, ":pushes", {})
    dumped = any((kiln.state / "media/d").rglob("*.m4s"))
    return dumped and [each["state"] for each in (*records, *pushes)] == ["recording"] + ["started"] * TARGETS


@contextmanager
def _tee(out: Path, urls: list[str]) -> Iterator[Ffmpeg]:
    """ffmpeg that takes RTMP, records, writes HLS and pushes to ``urls``, with a publisher of its own."""
    url = f"rtmp://127.0.0.1:{free_port()}/app/peer"
    outputs = [
        f"[f=mp4:movflags=frag_keyframe+empty_moov]{out}/cam.mp4",
        f"[f=hls:hls_time=2:hls_list_size=0:hls_segment_type=fmp4]{out}/live.m3u8",
        *(f"[f=flv]{target}" for target in urls),
    ]
    arguments = ["-listen", "1", "-i", url, "-map", "0", "-c", "copy", "-flags", "+global_header", "-f", "tee"]
    with Ffmpeg([*arguments, "|".join(outputs)]) as peer:
        time.sleep(0.5)
        with ffmpeg.publish(ffmpeg.source(FULL_HD), url, loop=True) as sender:
            pin_to_other_core(sender.pid)
            wait_for(lambda: (out / "live.m3u8").exists(), 20, f"ffmpeg does not work: {peer.said()[-300:]}")
            yield peer


def killed(quick: bool) -> list[Figure]:
    """Packets that had come into the engine at the kill, against those in the file that the next life finishes."""
    chance = random.Random(5)
    alone: list[float] = []
    both: list[float] = []
    for turn in range(4 if quick else 50):
        (both if turn % 2 else alone).append(_kill(chance.uniform(1.5, 3.0), with_disk_worker=bool(turn % 2)))
    return [
        at_most(f"recording lost at SIGKILL of engine and disk worker, worst of {len(both)}", max(both), 1000, "ms"),
        told("  median", f"{statistics.median(both):.0f} ms"),
        at_most(f"recording lost at SIGKILL of the engine, worst of {len(alone)}", max(alone), 1000, "ms"),
        told("  median", f"{statistics.median(alone):.0f} ms"),
    ]


def _kill(after: float, *, with_disk_worker: bool) -> float:
    """Milliseconds of media lost."""
    with box() as kiln:
        media = kiln.state / "media"
        ask(kiln, ":startRecord", {"id": "r", "stream": {"name": "cam"}, "filePath": "/out/cam.mp4"})
        with ffmpeg.publish(ffmpeg.source(SMALL), kiln.rtmp("cam"), loop=True):
            kiln.wait_stream("cam")
            time.sleep(after)
            workers = kiln.workers if with_disk_worker else []
            came = int(kiln.api("/box/v1/vhosts/default/apps/app/streams/cam")["packets"])
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            kiln.kill()
        wait_for(lambda: not any(procfs.alive(pid) for pid in workers), 5, "a worker stays")
        kiln.start()
        wait_for(lambda: not any(media.rglob("tmp_*")) and any(media.rglob("cam*.mp4")), 10, "nothing is repaired")
        (file,) = media.rglob("cam*.mp4")
        return max(0.0, (came - _packets(file)) / PACKETS_A_SECOND * 1000)


def _packets(file: Path) -> int:
    with av.open(str(file)) as container:
        return sum(packet.size > 0 for packet in container.demux())


def flapped(quick: bool) -> list[Figure]:
    """From the moment the target listens again until bytes flow; it is away for 0.5 to 8 s."""
    chance = random.Random(6)
    back: list[float] = []
    port = free_port()
    url = f"rtmp://127.0.0.1:{port}/live"
    with box() as kiln, publishing(kiln, SMALL, "cam"):
        with far_end(f"{url}/cam"):
            ask(kiln, ":startPush",
                {"id": "p", "stream": {"name": "cam"}, "protocol": "rtmp", "url": url, "streamKey": "cam"})  # fmt: skip
            wait_for(lambda: _sent(kiln) > 20_000, 20, "the push does not begin")
        for _ in range(3 if quick else 20):
            away = chance.uniform(0.5, 3 if quick else 8)
            wait_for(lambda: _state(kiln) != "started", 10, "the push does not see that its target is gone")
            time.sleep(away)
            with far_end(f"{url}/cam"):
                wait_for(lambda: _listens(port), 5, "the far end does not listen")
                begin, sent = time.monotonic(), _sent(kiln)
                wait_for(lambda sent=sent: _state(kiln) == "started" and _sent(kiln) != sent, 30, "it stays away")
                back.append(time.monotonic() - begin)
                note(f"away {away:.1f} s, back after {back[-1]:.2f} s")
                time.sleep(0.3)
    return [
        at_most(f"push back after a flap, worst of {len(back)}", max(back), 5, "s", digits=2),
        told("  median", f"{statistics.median(back):.2f} s"),
    ]


def _push(kiln: KilnProcess) -> dict[str, Any]:
    (one,) = ask(kiln, ":pushes", {})
    assert isinstance(one, dict)
    return one


def _state(kiln: KilnProcess) -> str:
    return str(_push(kiln)["state"])


def _sent(kiln: KilnProcess) -> int:
    return int(_push(kiln).get("totalsentBytes") or _push(kiln).get("sentBytes") or 0)


def _listens(port: int) -> bool:
    """Whether somebody listens on the TCP port; the one connection that the far end takes is left to the push."""
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(wanted) and fields[3] == "0A":
            return True
    return False
