"""The gates in tests/conftest.py, proven on small test files of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tests.kit.leaks import Held, leaked, nothing_leaks
from tests.kit.needs import NEEDS, missing


def run_tests(folder: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_sample.py").write_text("import pytest\n" + source)
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "--strict-markers"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={folder}", str(folder)],
        cwd=ROOT,
        env={**os.environ, "CI": "", "KILN_NO_SKIPS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SKIPS = {
    "call": "def test_a(): pytest.skip('no camera')",
    "mark": "@pytest.mark.skipif(True, reason='no camera')\ndef test_a(): pass",
    "module": "pytest.skip('no camera', allow_module_level=True)",
}


@pytest.mark.parametrize("kind", SKIPS)
def test_a_skip_is_a_failure_where_all_is_installed(tmp_path: Path, kind: str) -> None:
    relaxed = run_tests(tmp_path, SKIPS[kind])
    assert relaxed.returncode in (0, 5), relaxed.stdout
    assert "1 skipped" in relaxed.stdout
    strict = run_tests(tmp_path, SKIPS[kind], CI="true", KILN_NO_SKIPS="1")
    assert strict.returncode not in (0, 5), strict.stdout
    assert "skipped where nothing may be" in strict.stdout
    assert "no camera" in strict.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = "@pytest.mark.xfail\ndef test_a(): assert False\ndef test_b(): pass"
    done = run_tests(tmp_path, source, CI="true", KILN_NO_SKIPS="1")
    assert done.returncode == 0, done.stdout


def test_needs_skips_with_the_reason(tmp_path: Path) -> None:
    source = "@pytest.mark.needs('h2load')\ndef test_a(): pass\ndef test_b(): pass"
    done = run_tests(tmp_path, source, PATH=str(tmp_path))
    assert "1 passed, 1 skipped" in done.stdout
    strict = run_tests(tmp_path, source, PATH=str(tmp_path), CI="true", KILN_NO_SKIPS="1")
    assert strict.returncode == 1
    assert "no h2load on this machine" in strict.stdout


def test_every_need_can_be_asked() -> None:
    assert [name for name in NEEDS if not isinstance(missing(name), str)] == []
    with pytest.raises(KeyError):
        missing("a pony")


def test_the_leak_gate_is_quiet_when_nothing_leaks() -> None:
    with nothing_leaks():
        thread = threading.Thread(target=lambda: None)
        thread.start()
        os.close(os.open(os.devnull, os.O_RDONLY))
        subprocess.run(["true"], check=True)


def test_the_leak_gate_finds_what_is_left() -> None:
    baseline = Held.by()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    descriptor = os.open(os.devnull, os.O_RDONLY)
    child = subprocess.Popen(["sleep", "60"])
    try:
        found = leaked(baseline, patience=0.05)
        assert [line.split(" (")[0].split(":")[0] for line in found] == [
            "thread forgotten",
            "1 x file /dev/null",
            f"child {child.pid}",
        ]
    finally:
        release.set()
        thread.join()
        os.close(descriptor)
        child.kill()
        child.wait()
    assert leaked(baseline) == []


def test_the_leak_gate_sees_into_other_processes() -> None:
    program = "import os, sys; print('ready', flush=True); sys.stdin.readline()\n"
    program += "keep = os.pipe(); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        baseline = Held.by(other.pid)
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "open\n"
        assert "2 x file pipe" in leaked(baseline, other.pid, patience=0.05)
        other.stdin.close()


def test_the_fixture_fails_a_leaking_test(tmp_path: Path) -> None:
    source = "import os\nkept = []\ndef test_a(leak_gate): kept.append(os.open(os.devnull, os.O_RDONLY))"
    done = run_tests(tmp_path, source)
    assert done.returncode == 1
    assert "1 x file /dev/null" in done.stdout
