"""Requests a second that one core answers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.figures import Figure, told
from tests.bench.stage import ENGINE_CORE, OTHER_CORE, application, engine, fetch, media_playlists, publishing
from tests.kit.ffmpeg import MEGABIT
from tests.kit.kiln import AUTHORIZATION, ROOT, KilnProcess

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def rates(quick: bool) -> list[Figure]:
    """A 60 kB part, a live playlist, and a stream resource of the API, keep-alive, 32 connections."""
    if not shutil.which("wrk"):
        return [told("requests/s", "wrk is not installed (`make system-packages`)")]
    seconds = 3 if quick else 8
    # Long segments: the part that is asked for stays in the playlist's window all the time.
    with engine(application(segment=2, count=20), pinned=True) as kiln, publishing(kiln, MEGABIT, "cam0"):
        playlist = media_playlists(kiln, "cam0")[0]
        while not any(segment.parts and len(segment.parts) > 2 for segment in playlist.segments):
            playlist = media_playlists(kiln, "cam0")[0]
        part = playlist.segments[-1].parts[0].uri if playlist.segments[-1].parts else playlist.segments[-2].parts[0].uri
        size = len(fetch(part))
        api = f"{kiln.api_url}/v1/vhosts/default/apps/app/streams/cam0"
        return [
            *_rate(kiln, f"requests/s, a part of {size / 1000:.0f} kB", part, 25_000, seconds),
            *_rate(kiln, "requests/s, a playlist", playlist.url, 20_000, seconds),
            *_rate(kiln, "requests/s, GET …/streams/{s}", api, 10_000, seconds, f"Authorization: {AUTHORIZATION}"),
        ]


def _rate(kiln: KilnProcess, what: str, url: str, target: int, seconds: int, *headers: str) -> list[Figure]:
    """Judged by what is reached; beside it what a bare loop reaches with a body of this size at this moment."""
    size = len(fetch(url, headers=dict(header.split(": ", 1) for header in headers)))
    before = kiln.cpu()
    found = wrk(url, seconds, *headers)
    used = kiln.cpu() - before
    with _bare(size) as port:
        ceiling = wrk(f"http://127.0.0.1:{port}/", min(seconds, 4))
    value = f"{found.rate:.0f}/s, p99 {found.p99:.1f} ms" + (f", {found.failed}" if found.failed else "")
    good = found.rate >= target and found.p99 <= 10 and not found.failed
    return [
        Figure(what, value, f">= {target}/s, p99 <= 10 ms", f"bare loop {ceiling.rate:.0f}/s",
               f"{found.rate / ceiling.rate:.2f}", good),
        told("  for each second of the engine's CPU", f"{found.count / used:.0f}"),
    ]  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What wrk said: ``p99`` in milliseconds."""

    rate: float
    p99: float
    count: int
    failed: str


def wrk(url: str, seconds: int, *headers: str, connections: int = 32) -> Found:
    pin = ["taskset", "-c", str(OTHER_CORE)] if OTHER_CORE is not None else []
    extra = [word for header in headers for word in ("-H", header)]
    command = [*pin, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *extra, url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    count = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said)
    if rate is None or tail is None or count is None:
        raise RuntimeError(f"wrk said for {url}: {said}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", said)
    return Found(float(rate[1]), float(tail[1]) * _UNITS[tail[2]], int(count[1]), failed[0] if failed else "")


@contextmanager
def _bare(size: int) -> Iterator[int]:
    core = [] if ENGINE_CORE is None else [str(ENGINE_CORE)]
    command = [sys.executable, "-m", "tests.bench.bare", str(size), *core]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
