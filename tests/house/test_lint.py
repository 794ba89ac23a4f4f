"""ruff and mypy, run as tests on what is tracked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.house.tree import ROOT, tracked_files


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


def python_files() -> list[str]:
    files = [name for name in tracked_files() if name.endswith(".py")]
    assert len(files) > 40
    return files


def test_ruff() -> None:
    done = tool("ruff", "check", "--output-format=concise", "--force-exclude", *python_files())
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy() -> None:
    done = tool("mypy", "--cache-dir", str(ROOT / ".mypy_cache"), *python_files())
    tracked = set(python_files())
    # What a tracked file imports is checked as well; a file that is not tracked yet is not this test's matter.
    faults = [line for line in done.stdout.splitlines() if line.partition(":")[0] in tracked and ": note:" not in line]
    assert faults == []
    if done.returncode != 0:
        assert done.returncode == 1, done.stderr
        assert ": error:" in done.stdout, done.stdout + done.stderr


def test_the_tools_find_faults(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import os\n\ndef f(x):\n    return x\n\nvalue: int = 'text'\n")
    config = str(ROOT / "pyproject.toml")
    assert "F401" in tool("ruff", "check", "--config", config, str(bad)).stdout
    found = tool("mypy", "--config-file", config, "--cache-dir", str(tmp_path / "cache"), str(bad)).stdout
    assert "[no-untyped-def]" in found
    assert "[assignment]" in found
