"""The ``kiln`` command as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from appliance.settings.xml import DEFAULT_XML


def kiln(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version() -> None:
    done = kiln("version")
    assert done.returncode == 0
    assert done.stdout.startswith("kiln ")


def test_check_accepts_the_default() -> None:
    done = kiln("check", str(DEFAULT_XML))
    assert (done.returncode, done.stderr) == (0, "")
    assert "no fault" in done.stdout


def test_check_tells_every_fault_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "Server.xml"
    file.write_text(
        '<Server version="8">\n<Type>origin</Type>\n<IP>*</IP>\n<Bnid/>\n<Bind>\n'
        "<Providers><RTMP><Port>ninety</Port></RTMP></Providers>\n</Bind>\n</Server>\n"
    )
    done = kiln("check", str(file))
    assert done.returncode == 1
    assert "Server.Bnid" in done.stdout
    assert "line 4" in done.stdout
    assert "line 6" in done.stdout
    assert "2 faults" in done.stderr


def test_a_configuration_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    done = kiln("run", "--config", str(tmp_path / "none.xml"), "--state", str(tmp_path / "state"))
    assert done.returncode == 1
    assert "none.xml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_can_not_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = kiln("run", "--state", str(tmp_path / "file" / "state"))
    assert done.returncode == 1
    assert "state folder" in done.stderr
    assert "Traceback" not in done.stderr
    done = kiln("run", "--state", str(tmp_path / "file"))
    assert done.returncode == 1
    assert f"the state folder {tmp_path / 'file'} can't be made: it is not a folder" in done.stderr


def test_wrong_usage_shows_how_it_is_used() -> None:
    done = kiln("fly")
    assert done.returncode == 2
    assert "usage: kiln" in done.stderr
