"""What the rows are played on: engines, publishers, peers, and clocks for their CPU."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.kit import ffmpeg, m3u8, procfs
from tests.kit.ffmpeg import Ffmpeg, SourceSpec
from tests.kit.kiln import KilnProcess
from tests.kit.ports import free_port
from tests.kit.server_xml import BYPASS, Application, ServerXml

CORES = sorted(os.sched_getaffinity(0))
#: The engine's core, and that of everybody else; None where there is only one core or no taskset.
ENGINE_CORE = CORES[0] if len(CORES) > 1 and shutil.which("taskset") else None
OTHER_CORE = CORES[-1] if ENGINE_CORE is not None else None

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def note(text: str) -> None:
    print(f"  {text}", flush=True)


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder in memory where there is one."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kiln-bench-", dir=base) as name:
        yield Path(name)


def application(name: str = "app", *, part: float = 0.5, segment: float = 2, count: int = 5) -> Application:
    return Application(name, profiles=BYPASS, part=part, segment=segment, count=count)


@contextmanager
def engine(
    *applications: Application, pinned: bool = False, tls: tuple[Path, Path] | None = None
) -> Iterator[KilnProcess]:
    """A running engine with these applications; ``pinned`` to one core."""
    with running(ServerXml(applications or (application(),), certificate=tls), pinned=pinned) as kiln:
        yield kiln


@contextmanager
def running(
    server: ServerXml, *, pinned: bool = False, environment: dict[str, str] | None = None
) -> Iterator[KilnProcess]:
    """A running engine with this configuration."""
    prefix = ("taskset", "-c", str(ENGINE_CORE)) if pinned and ENGINE_CORE is not None else ()
    with (
        tempfile.TemporaryDirectory(prefix="kiln-bench-") as name,
        KilnProcess(Path(name), server, prefix=prefix, environment=environment or {}) as kiln,
    ):
        yield kiln


def pin_to_other_core(*pids: int) -> None:
    if OTHER_CORE is not None:
        for pid in pids:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {OTHER_CORE})


@contextmanager
def publishing(kiln: KilnProcess, spec: SourceSpec, *names: str, app: str = "app") -> Iterator[list[Ffmpeg]]:
    """ffmpeg sends ``spec`` round and round as each of ``names``; the block begins when all are on the air."""
    source = ffmpeg.source(spec)
    with ExitStack() as stack:
        publishers = [stack.enter_context(ffmpeg.publish(source, kiln.rtmp(name, app), loop=True)) for name in names]
        for name in names:
            kiln.wait_stream(name, app=app, timeout=15)
        pin_to_other_core(*(publisher.pid for publisher in publishers))
        yield publishers


@contextmanager
def ffmpeg_hls(spec: SourceSpec, count: int) -> Iterator[list[Ffmpeg]]:
    """``count`` peers: each an ffmpeg that takes RTMP and writes HLS with fMP4 segments of 2 s, sent the same file."""
    source = ffmpeg.source(spec)
    with ExitStack() as stack:
        base = stack.enter_context(folder())
        peers = []
        for index in range(count):
            out = base / str(index)
            out.mkdir()
            url = f"rtmp://127.0.0.1:{free_port()}/app/peer"
            arguments = [
                "-listen", "1", "-i", url, "-c", "copy", "-f", "hls", "-hls_time", "2", "-hls_list_size", "5",
                "-hls_segment_type", "fmp4", "-hls_flags", "delete_segments", str(out / "live.m3u8"),
            ]  # fmt: skip
            peers.append(stack.enter_context(Ffmpeg(arguments)))
            time.sleep(0.5)
            sender = stack.enter_context(ffmpeg.publish(source, url, loop=True))
            pin_to_other_core(sender.pid)
            wait_for(lambda out=out: (out / "live.m3u8").exists(), 15, "ffmpeg writes no playlist")
        yield peers


def wait_for(condition: object, seconds: float, why: str) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(why)
        time.sleep(0.02)


def cpu_share(groups: dict[str, Sequence[int]], seconds: float) -> dict[str, float]:
    """Percent of a core (user and system) that each group of processes takes over the next ``seconds``."""
    started = time.monotonic()
    before = {name: sum(procfs.cpu_seconds(pid) for pid in pids) for name, pids in groups.items()}
    time.sleep(seconds)
    passed = time.monotonic() - started
    return {
        name: (sum(procfs.cpu_seconds(pid) for pid in pids) - before[name]) / passed * 100
        for name, pids in groups.items()
    }


def fetch(url: str, *, timeout: float = 15, headers: dict[str, str] | None = None) -> bytes:
    with _opener.open(urllib.request.Request(url, headers=headers or {}), timeout=timeout) as answer:
        return bytes(answer.read())


def there(url: str) -> int:
    """The size of what ``url`` gives, 0 when it gives nothing."""
    try:
        return len(fetch(url))
    except urllib.error.HTTPError:
        return 0


def media_playlists(kiln: KilnProcess, stream: str, app: str = "app") -> list[m3u8.MediaPlaylist]:
    """The playlists of the stream's first variant: video, then its audio."""
    url = kiln.hls(stream, app=app)
    until = time.monotonic() + 15
    while True:
        try:
            master = m3u8.parse_master(url, fetch(url).decode())
            break
        except (urllib.error.HTTPError, ValueError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    urls = [master.variants[0].uri, *(media.uri for media in master.media)]
    return [m3u8.parse_media(found, fetch(found).decode()) for found in dict.fromkeys(urls)]
