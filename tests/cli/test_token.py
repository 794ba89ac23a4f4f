"""``kiln token`` against a state folder, and against a box that runs."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import httpx

from tests.kit.kiln import KilnProcess
from tests.kit.server_xml import Application, ServerXml

COMMAND = str(Path(sys.executable).with_name("kiln"))


def kiln(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([COMMAND, "token", *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_tokens_of_a_folder_that_nobody_uses(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path))
    status, token, _ = kiln("add", "anna", "--role", "viewer", *state)
    assert status == 0
    assert token.startswith("anna.")
    assert kiln("list", *state)[1].split() == ["anna", "viewer"]
    status, _, said = kiln("add", "anna", "--role", "admin", *state)
    assert status == 1
    assert "already" in said
    assert kiln("revoke", "anna", *state)[0] == 0
    assert kiln("list", *state)[1] == ""
    assert kiln("revoke", "anna", *state)[0] == 1


def test_wrong_usage(tmp_path: Path) -> None:
    assert kiln("add", "anna", "--role", "king")[0] == 2
    assert kiln("add", "a/b", "--role", "admin", "--state", str(tmp_path))[0] == 1
    assert kiln("list", "--state", str(tmp_path / "nowhere"))[0] == 1


def test_tokens_of_a_box_that_runs(tmp_path: Path) -> None:
    with KilnProcess(tmp_path, ServerXml((Application(),))) as box:
        state = ("--state", str(box.state))
        status, token, said = kiln("add", "anna", "--role", "viewer", *state)
        assert (status, said) == (0, "")
        url = f"http://127.0.0.1:{box.ports.api}"
        headers = {"Authorization": "Basic " + base64.b64encode(token.encode()).decode()}
        assert httpx.get(f"{url}/v1/vhosts", headers=headers).status_code == 200
        assert httpx.get(f"{url}/box/v1/tokens", headers=headers).status_code == 403
        assert kiln("list", *state)[1].split() == ["anna", "viewer"]
        assert kiln("revoke", "anna", *state)[0] == 0
        assert httpx.get(f"{url}/v1/vhosts", headers=headers).status_code == 401
