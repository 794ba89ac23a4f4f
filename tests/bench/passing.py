"""Streams that pass through: CPU and memory of the engine, beside ffmpeg in the same run."""

from __future__ import annotations

import time

from tests.bench.figures import Figure, against_peer, at_most, told
from tests.bench.stage import application, cpu_share, engine, ffmpeg_hls, media_playlists, note, publishing, there
from tests.kit.ffmpeg import FULL_HD
from tests.kit.kiln import KilnProcess
from tests.kit.m3u8 import MediaPlaylist

MIB = 1024 * 1024


def _cpu(count: int, limit: float, quick: bool) -> list[Figure]:
    names = [f"cam{index}" for index in range(count)]
    with engine() as kiln:
        idle = cpu_share({"kiln": [kiln.pid]}, 2 if quick else 5)["kiln"]
        with publishing(kiln, FULL_HD, *names), ffmpeg_hls(FULL_HD, count) as peers:
            time.sleep(2 if quick else 5)
            used = cpu_share({"kiln": [kiln.pid], "ffmpeg": [peer.pid for peer in peers]}, 8 if quick else 30)
    what = "engine CPU, one bypassed stream" if count == 1 else f"engine CPU, {count} bypassed streams"
    return [
        against_peer(what, used["kiln"], used["ffmpeg"], limit),
        told("  of it with no stream at all", f"{idle:.2f} %"),
    ]


def cpu_one(quick: bool) -> list[Figure]:
    return _cpu(1, 1.3, quick)


def cpu_four(quick: bool) -> list[Figure]:
    return _cpu(4, 1.2, quick)


def memory(quick: bool) -> list[Figure]:
    """With SegmentDuration 2 and SegmentCount 5, once as much is kept as ever will be."""
    fill = 15 if quick else 45
    further = 2 if quick else 3
    with engine(application(segment=2, count=5)) as kiln:
        empty = kiln.rss()
        with publishing(kiln, FULL_HD, "cam0") as first:
            note(f"filling for {fill} s")
            seen = _collect(kiln, "cam0", fill)
            one = kiln.rss()
            retained = _retained(seen)
            with publishing(kiln, FULL_HD, *(f"cam{index}" for index in range(1, 1 + further))):
                note(f"filling for {fill} s")
                time.sleep(fill)
                each = (kiln.rss() - one) / further
        assert first
    allowed = 1.3 * retained + 4 * MIB
    return [
        at_most("memory of the engine with one bypassed stream", one / MIB, 90, "MiB"),
        told("  with no stream", f"{empty / MIB:.1f} MiB"),
        at_most("memory of a further bypassed stream", each / MIB, 15, "MiB"),
        at_most(f"  beside {retained / MIB:.1f} MiB retained", each / MIB, round(allowed / MIB, 1), "MiB"),
    ]


def _collect(kiln: KilnProcess, stream: str, seconds: float) -> dict[str, list[str]]:
    """All segment URLs that the stream's playlists list over ``seconds``, by playlist."""
    seen: dict[str, list[str]] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for playlist in media_playlists(kiln, stream):
            _add(seen.setdefault(playlist.url, []), playlist)
        time.sleep(1)
    return seen


def _add(urls: list[str], playlist: MediaPlaylist) -> None:
    known = set(urls)
    urls += [segment.uri for segment in playlist.segments if segment.uri and segment.uri not in known]


def _retained(seen: dict[str, list[str]]) -> int:
    """Bytes of all segments that can still be fetched, and of the one in the making (half a segment)."""
    total = 0
    for urls in seen.values():
        sizes = [size for size in (there(url) for url in urls) if size]
        total += sum(sizes) + (sizes[-1] // 2 if sizes else 0)
    return total
