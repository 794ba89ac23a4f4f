"""Debian's Chromium plays with the players that people use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit import browser, ffmpeg
from tests.kit.ffmpeg import HD, LONG
from tests.kit.kiln import KilnProcess

pytestmark = [pytest.mark.needs("chromium", "node", "npm"), pytest.mark.system]

#: A player finds its place behind the live edge in the first seconds; after them nothing may stall.
START = 5
SECONDS = START + 20


@pytest.fixture(autouse=True)
def installed() -> None:
    if reason := browser.missing():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def published(kiln: KilnProcess) -> Iterator[KilnProcess]:
    """The engine with ``app/cam1`` sent to it by RTMP."""
    with ffmpeg.publish(ffmpeg.source(LONG), kiln.rtmp("cam1"), loop=True):
        kiln.wait_stream("cam1")
        yield kiln


def check(playback: browser.Playback, record_property: object, seconds: float = SECONDS) -> None:
    known = {"latency": playback.latency, "behind the clock": playback.behind_clock}
    report = ", ".join(f"{name} {value:.2f} s" for name, value in known.items() if value is not None)
    report = ", ".join(filter(None, (report, f"{playback.frames} frames in {playback.watched:.1f} s")))
    assert callable(record_property)
    record_property("playback", report)
    assert playback.watched >= seconds - 1
    assert [stall for stall in playback.stalls if stall["at"] > START] == [], report
    assert playback.longest_stand <= 0.75, report
    assert playback.advanced >= seconds - 1, report
    assert playback.frames >= 30 * (seconds - 1) * 0.9, report
    assert not [problem for problem in playback.problems if "fatal" in problem], playback.problems


@pytest.mark.parametrize(
    ("player", "stream"),
    [
        ("hls", "cam1"), ("ovenplayer", "pattern"),
        pytest.param("hls", "pattern", marks=pytest.mark.long),
        pytest.param("ovenplayer", "cam1", marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_plays_without_a_stall(published: KilnProcess, player: str, stream: str, record_property: object) -> None:
    playback = browser.play(published.hls(stream), player, SECONDS)
    check(playback, record_property)
    assert playback.latency is not None
    assert playback.behind_clock is not None
    # Three parts of half a second held back, and what encoder, network and player add.
    assert playback.latency <= 4
    assert -0.5 <= playback.behind_clock <= 4


def test_the_status_page_plays(published: KilnProcess, record_property: object) -> None:
    """The page at / with its own inline player, without a line of script from anywhere else."""
    playback = browser.play(f"http://127.0.0.1:{published.ports.http}/", "page", 8)
    check(playback, record_property, 8)


def test_hls_js_changes_between_three_renditions(kiln: KilnProcess, record_property: object) -> None:
    with ffmpeg.publish(ffmpeg.source(HD), kiln.rtmp("levels", "ladder"), loop=True):
        kiln.wait_stream("levels", app="ladder")
        playback = browser.play(kiln.hls("levels", "ladder.m3u8", app="ladder"), "hls", 5, switch=True)
    assert {level["wanted"] for level in playback.levels} == {360, 288, 180}
    assert all(level["height"] == level["wanted"] for level in playback.levels), playback.levels
    assert playback.advanced >= 4
