"""What comes in: many SRT and RTMP publishers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.bench.figures import Figure, at_most, told
from tests.bench.stage import cpu_share, engine, note, pin_to_other_core, running
from tests.kit import ffmpeg
from tests.kit.ffmpeg import Ffmpeg, SourceSpec
from tests.kit.kiln import KilnProcess
from tests.kit.ports import free_port
from tests.kit.server_xml import Application, ServerXml

#: What an encoder sends: 8 and 6 Mbit/s with their sound.
EIGHT = SourceSpec("1080p30-8", "1920x1080", 30, 7_800_000, 9.6, 30)
SIX = SourceSpec("1080p30-6", "1920x1080", 30, 5_800_000, 9.6, 30)
SRT_INGESTS = 16
RTMP_INGESTS = 20


@dataclass(frozen=True)
class SrtXml(ServerXml):
    """With a port for SRT publishers."""

    srt: int = field(default_factory=free_port)

    def xml(self) -> str:
        return super().xml().replace("</RTMP></Providers>", f"</RTMP><SRT><Port>{self.srt}</Port></SRT></Providers>", 1)


class Quiet(Application):
    """Without a publisher: what comes in goes nowhere."""

    def xml(self) -> str:
        before, _, rest = super().xml().partition("<Publishers>")
        return before + "<Publishers></Publishers>" + rest.partition("</Publishers>")[2]


def srt_sixteen(quick: bool) -> list[Figure]:
    """Ours makes LL-HLS of them; srt-live-transmit, one process a stream, only hands the bytes on."""
    from appliance.net.srt import installed

    if not installed():
        return [told("SRT ingests", "libsrt is not installed")]
    seconds = 6 if quick else 20
    server = SrtXml((Application("app", providers="<SRT/>"),))
    names = [f"cam{index}" for index in range(SRT_INGESTS)]
    with running(server) as kiln:
        idle = cpu_share({"kiln": [kiln.pid]}, 2)["kiln"]
        with sending(names, [f"srt://127.0.0.1:{server.srt}?streamid=default/app/{name}" for name in names]):
            for name in names:
                kiln.wait_stream(name, timeout=30)
            time.sleep(2)
            ours = cpu_share({"kiln": [kiln.pid]}, seconds)["kiln"]
        dropped = sum("transport stream damaged" in line for line in kiln.said(2000).splitlines())
    figures = [
        told(f"engine CPU, {SRT_INGESTS} SRT ingests of 8 Mbit/s to LL-HLS, each", f"{ours / SRT_INGESTS:.2f} %"),
        told("  of the engine with none", f"{idle:.2f} %"), told("  warnings of damage", str(dropped)),
    ]  # fmt: skip
    peer = shutil.which("srt-live-transmit")
    if peer is None:
        return [*figures, told("srt-live-transmit", "not installed")]
    theirs = _peer_share(peer, names, seconds)
    return [
        Figure("  beside srt-live-transmit of the same", f"{ours / SRT_INGESTS:.2f} %", "",
               f"{theirs / SRT_INGESTS:.2f} %", f"{ours / theirs:.2f}" if theirs else "?"), *figures,
    ]  # fmt: skip


def _peer_share(peer: str, names: list[str], seconds: float) -> float:
    with ExitStack() as stack:
        ports = [free_port() for _ in names]
        processes = [
            stack.enter_context(_ended(subprocess.Popen(
                [peer, "-q", f"srt://127.0.0.1:{port}?mode=listener", "file://con"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )))
            for port in ports
        ]  # fmt: skip
        time.sleep(1)
        stack.enter_context(sending(names, [f"srt://127.0.0.1:{port}" for port in ports]))
        time.sleep(5)
        share = cpu_share({"peer": [process.pid for process in processes]}, seconds)["peer"]
        alive = sum(process.poll() is None for process in processes)
    if alive < len(names):
        note(f"only {alive} of {len(names)} srt-live-transmit were at work")
    return share


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def sending(names: list[str], urls: list[str]) -> Iterator[list[Ffmpeg]]:
    """An ffmpeg each, on the core that is not the engine's."""
    source = str(ffmpeg.source(EIGHT))
    arguments = ["-stream_loop", "-1", "-re", "-i", source, "-c", "copy", "-f", "mpegts"]
    with ExitStack() as stack:
        senders = [stack.enter_context(Ffmpeg([*arguments, url])) for url in urls]
        pin_to_other_core(*(sender.pid for sender in senders))
        yield senders
        gone = [name for name, sender in zip(names, senders, strict=True) if not sender.running]
        if gone:
            note(f"senders that ended: {', '.join(gone)} (load {os.getloadavg()[0]:.1f})")


def rtmp_twenty(quick: bool) -> list[Figure]:
    """Nothing is made of the streams: the figure is of the protocol, the time line and the hub alone."""
    names = [f"cam{index}" for index in range(RTMP_INGESTS)]
    with engine(Quiet("app")) as kiln, publishing_six(kiln, names):
        time.sleep(2)
        used = cpu_share({"kiln": [kiln.pid]}, 6 if quick else 20)["kiln"]
        there = len(kiln.streams())
    return [
        at_most(f"engine CPU, {RTMP_INGESTS} RTMP ingests of 6 Mbit/s", used, 15, "% of a core"),
        told("  streams on the air", f"{there} of {RTMP_INGESTS}"),
    ]


@contextmanager
def publishing_six(kiln: KilnProcess, names: list[str]) -> Iterator[None]:
    source = ffmpeg.source(SIX)
    with ExitStack() as stack:
        senders = [stack.enter_context(ffmpeg.publish(source, kiln.rtmp(name), loop=True)) for name in names]
        pin_to_other_core(*(sender.pid for sender in senders))
        for name in names:
            kiln.wait_stream(name, timeout=30)
        yield
