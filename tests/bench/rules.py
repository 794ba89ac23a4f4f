"""The rules of LL-HLS on live streams: the conformance suite, counted."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.bench.figures import Figure
from tests.kit.kiln import ROOT

SUITE = "tests/conformance/llhls"


def kept(quick: bool) -> list[Figure]:
    """One check a rule, on an engine of its own. ``quick`` changes nothing: the rules take the time they take."""
    del quick
    command = [sys.executable, "-m", "pytest", SUITE, "-m", "not long", "-q", "-p", "no:cacheprovider"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False).stdout
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", said)}
    passed = counts.get("passed", 0)
    missed = sum(counts.get(word, 0) for word in ("failed", "error"))
    return [
        Figure("LL-HLS rules, checks passed", f"{passed} of {passed + missed}", "all", good=passed > 0 and not missed)
    ]
