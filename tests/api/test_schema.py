"""The OpenAPI document against a running box: what it generates is answered as it says (schemathesis).

A status that no route tells is a fault here, so a 5xx is one wherever DECISIONS allows none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.hostile_box import STREAM, hostile_box
from tests.kit.kiln import AUTHORIZATION, KilnProcess
from tests.kit.shares import long_share

COMMAND = Path(sys.executable).with_name("schemathesis")
CHECKS = "status_code_conformance,content_type_conformance,response_schema_conformance"
#: Answers without an end, and one that is long.
APART = "^/box/v1/(events|logs|support-bundle)$"
#: Paths of what is there, so that more than the look-up is tried.
NAMES = f"""[parameters]
"path.vhost" = "hostile"
"path.app" = "live"
"path.stream" = "{STREAM}"
"path.outputProfile" = "small"
"""
#: The same requests each time; KILN_FUZZ_SEED asks for others.
SEED = os.environ.get("KILN_FUZZ_SEED", "1")
#: With these the application would be gone from under the others.
KEPT = f"{APART}|^/box/v1/(config|backup)"


@pytest.fixture
def kiln(tmp_path: Path) -> Iterator[KilnProcess]:
    with hostile_box(tmp_path) as running:
        yield running
        log = running.log.read_text(errors="replace")
        assert "request failed" not in log
        assert "Traceback" not in log


def generate(kiln: KilnProcess, folder: Path, *options: str, apart: str = APART, names: str = "", within: int) -> None:
    """Asks the box all that schemathesis comes upon; fails with its report."""
    config = folder / "schemathesis.toml"
    config.write_text(names)
    done = subprocess.run(
        [
            str(COMMAND), "--config-file", str(config), "run", f"{kiln.api_url}/openapi.json",
            "-H", f"Authorization: {AUTHORIZATION}", "--checks", CHECKS, "--exclude-path-regex", apart,
            "--request-timeout", "10", "--generation-database", "none", "--suppress-health-check", "all",
            "--warnings", "off", "--continue-on-failure", "--no-color", *options,
        ],
        cwd=folder, capture_output=True, text=True, timeout=within,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]
    assert kiln.call("GET", "/v1/version")[0] == 200


pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="schemathesis is not installed")


@pytest.mark.long
def test_a_little_of_everything(kiln: KilnProcess, tmp_path: Path) -> None:
    generate(
        kiln, tmp_path, "--phases", "fuzzing", "-n", "4", "--exclude-method", "DELETE", "--seed", "1",
        apart=KEPT, names=NAMES, within=100,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_is_there(kiln: KilnProcess, tmp_path: Path) -> None:
    generate(
        kiln, tmp_path, "--phases", "coverage,fuzzing", "-n", "30", "--max-time", str(long_share(240, 30)),
        "--exclude-method", "DELETE", "--seed", SEED, apart=KEPT, names=NAMES, within=400,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(600)
def test_any_name_and_sequences(kiln: KilnProcess, tmp_path: Path) -> None:
    generate(
        kiln, tmp_path, "--phases", "coverage,fuzzing,stateful", "-n", "20", "--max-time", str(long_share(180, 30)),
        "--seed", SEED, within=400,
    )  # fmt: skip
