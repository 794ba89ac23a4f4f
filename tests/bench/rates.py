"""Requests a second that one core answers."""

from __future__ import annotations

import re
import shutil
import subprocess
from urllib.parse import urlsplit

from tests.bench.figures import Figure, told
from tests.bench.stage import OTHER_CORE, application, engine, fetch, media_playlists, publishing
from tests.kit.ffmpeg import MEGABIT
from tests.kit.kiln import AUTHORIZATION

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
            _rate(f"requests/s, a part of {size / 1000:.0f} kB", part, 25_000, seconds),
            _rate("requests/s, a playlist", playlist.url, 20_000, seconds),
            _rate("requests/s, GET …/streams/{s}", api, 10_000, seconds, f"Authorization: {AUTHORIZATION}"),
        ]


def _rate(what: str, url: str, target: int, seconds: int, *headers: str) -> Figure:
    pin = ["taskset", "-c", str(OTHER_CORE)] if OTHER_CORE is not None else []
    extra = [word for header in headers for word in ("-H", header)]
    command = [*pin, "wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", *extra, url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said)
    if rate is None or tail is None:
        raise RuntimeError(f"wrk said for {urlsplit(url).path}: {said}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", said)
    p99 = float(tail[1]) * _UNITS[tail[2]]
    value = f"{float(rate[1]):.0f}/s, p99 {p99:.1f} ms" + (f", {failed[0]}" if failed else "")
    good = float(rate[1]) >= target and p99 <= 10 and not failed
    return Figure(what, value, f">= {target}/s, p99 <= 10 ms", good=good)
