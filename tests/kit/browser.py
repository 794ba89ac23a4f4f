"""A headless Chromium that plays, driven by tests/browser/play.mjs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "browser"


def missing() -> str:
    """Why no browser test can run here; "" when they can."""
    if not chromium():
        return "no Chromium on this machine: `make system-packages` installs it"
    if not shutil.which("node"):
        return "no Node.js on this machine: `make system-packages` installs it"
    if not (FOLDER / "node_modules" / "hls.js").is_dir():
        return "tests/browser/node_modules is not there: `make test` installs it"
    return ""


def chromium() -> str:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


@dataclass(frozen=True)
class Playback:
    """What a player did: samples four a second from when it first played, and each time it had to wait after that."""

    samples: list[dict[str, Any]]
    stalls: list[dict[str, float]]
    problems: list[str]
    levels: list[dict[str, float]]
    said: list[str]
    #: Text tracks at the end: kind, label, mode, and cues with start, text, and type, key, info and data of metadata.
    tracks: list[dict[str, Any]]

    @property
    def watched(self) -> float:
        """Seconds between the first and the last sample."""
        return float(self.samples[-1]["at"] - self.samples[0]["at"])

    @property
    def advanced(self) -> float:
        """How far currentTime went in that time."""
        return float(self.samples[-1]["time"] - self.samples[0]["time"])

    @property
    def longest_stand(self) -> float:
        """The longest time in seconds in which currentTime did not move."""
        longest = 0.0
        since = self.samples[0]
        for sample in self.samples[1:]:
            if sample["time"] > since["time"]:
                since = sample
            longest = max(longest, sample["at"] - since["at"])
        return longest

    @property
    def frames(self) -> int:
        return int(self.samples[-1]["frames"] - self.samples[0]["frames"])

    @property
    def latency(self) -> float | None:
        """Seconds behind the live edge, as hls.js reckons, in the middle of all samples."""
        known = [sample["latency"] for sample in self.samples if sample["latency"] is not None]
        return median(known) if known else None

    @property
    def behind_clock(self) -> float | None:
        """Seconds between a picture's PROGRAM-DATE-TIME and the moment it is shown, in the middle of all samples."""
        known = [sample["behindClock"] for sample in self.samples if sample["behindClock"] is not None]
        return median(known) if known else None


def play(url: str, player: str, seconds: float = 20, *, switch: bool = False, click: str = "") -> Playback:
    """Play ``url`` with ``hls`` or ``ovenplayer``, or open a ``page`` that plays (after a ``click`` on a selector).

    ``switch`` first goes through all levels by hand. Raises AssertionError when it doesn't start within 20 s.
    """
    job = {"url": url, "player": player, "seconds": seconds, "switch": switch, "click": click, "chromium": chromium()}
    said, errors = _run(["node", str(FOLDER / "play.mjs"), json.dumps(job)], seconds + 100)
    try:
        found = json.loads(said)
    except json.JSONDecodeError:
        raise AssertionError(f"no report from the browser: {said}{errors}") from None
    if "error" in found:
        raise AssertionError(f"{player} does not play {url}: {found['error']}\n" + "\n".join(found["said"]))
    parts = ("samples", "stalls", "problems", "levels", "said", "tracks")
    return Playback(*(found[part] for part in parts))


def _run(command: list[str], timeout: float) -> tuple[str, str]:
    """Both outputs of ``command``; when it hangs it is killed with all it started."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            return process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.communicate()
