"""The API while the box works, and the start of a box that has been given much."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.figures import Figure, at_most
from tests.bench.rates import wrk
from tests.bench.stage import engine
from tests.kit.kiln import AUTHORIZATION, KilnProcess
from tests.kit.server_xml import Application, ServerXml

FULL_HD = ("pattern", "pattern://?size=1920x1080&fps=30")
#: Applications of one virtual host; with it they are a thousand stored objects.
STORED = 999


def api(quick: bool) -> list[Figure]:
    """A stream resource asked for by 4 clients while the box encodes 1080p30; start-up with 1 000 stored objects."""
    with engine(Application(captures=(FULL_HD,))) as kiln:
        kiln.wait_stream("pattern")
        url = f"{kiln.api_url}/v1/vhosts/default/apps/app/streams/pattern"
        found = wrk(url, 4 if quick else 10, f"Authorization: {AUTHORIZATION}", connections=4)
    later = _later_start(3 if quick else 5)
    value = f"p99 {found.p99:.1f} ms at {found.rate:.0f}/s"
    good = found.p99 <= 20 and not found.failed
    return [
        Figure("GET …/streams/{s} during a 1080p encode", value, "p99 <= 20 ms", good=good),
        at_most("start to API answer, with 1 000 stored objects more", later, 1.0, "s", digits=2),
    ]


def _later_start(rounds: int) -> float:
    """Seconds by which a box with STORED applications answers later than the same box without."""
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as name:
        plain, full = ServerXml(()), ServerXml(())
        bare = median(_starts(Path(name) / "bare", plain, rounds))
        with KilnProcess(Path(name) / "full", full) as kiln:
            kiln.call("POST", "/v1/vhosts", [{"name": "many"}])
            items = [{"name": f"app{number}", "type": "live"} for number in range(STORED)]
            for first in range(0, STORED, 250):
                kiln.call("POST", "/v1/vhosts/many/apps", items[first : first + 250], timeout=60)
        return median(_starts(Path(name) / "full", full, rounds)) - bare


def _starts(folder: Path, server: ServerXml, rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        with KilnProcess(folder, server) as kiln:
            taken.append(kiln.ready_after)
    return taken
