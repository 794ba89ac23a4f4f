"""A backup: what one box was, another one is; and files that are none harm nothing."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.backup import LARGEST, NotABackup, unpack
from tests.api.box import Box, open_box

BACKUP = "/box/v1/backup"
APP = {"name": "a", "type": "live", "providers": {"rtmp": {}}, "publishers": {"llhls": {}}}


def archive(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    return made.getvalue()


EMPTY_KEY = b'{"entries":{"x":{"":""}}}'
MANIFEST = json.dumps({"product": "Kiln", "format": 1}).encode()


def with_manifest(**values: Any) -> bytes:
    return json.dumps({"product": "Kiln", "format": 1, **values}).encode()


async def filled(box: Box) -> bytes:
    await box.ask("POST", "/v1/vhosts", body=[{"name": "tv", "applications": [APP]}])
    await box.ask("POST", "/box/v1/tokens", body={"name": "anna", "role": "viewer"})
    await box.ask("POST", "/box/v1/certificates:selfSigned", body={"name": "mine", "names": ["tv.example"]})
    await box.ask("POST", "/box/v1/certificates/mine:assign", body={"vhost": "tv"})
    answer = await box.ask("GET", BACKUP)
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    return answer.content


async def test_another_box_becomes_the_same(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with open_box(tmp_path / "one", seed=True) as one:
        backup = await filled(one)
        document = one.engine.config_import.document()
        tokens = (await one.ask("GET", "/box/v1/tokens")).json()["response"]
    async with open_box(tmp_path / "two", seed=True) as two:
        dry = (await two.ask("POST", f"{BACKUP}?dry-run=yes", body=backup)).json()["response"]
        assert dry["added"] == {"certificates": ["mine"], "named-token": ["anna"]}
        assert (await two.ask("GET", "/box/v1/tokens")).json()["response"] == []
        answer = await two.ask("POST", BACKUP, body=backup)
        assert answer.status_code == 200, answer.text
        told = json.dumps(two.engine.config_import.document()).replace(str(tmp_path / "two"), str(tmp_path / "one"))
        assert json.loads(told) == document
        assert (await two.ask("GET", "/v1/vhosts/tv/apps/a")).status_code == 200
        assert (await two.ask("GET", "/box/v1/tokens")).json()["response"] == tokens
        mine = (await two.ask("GET", "/box/v1/certificates/mine")).json()["response"]
        assert mine["usedBy"] == ["vhost:tv"]
        again = (await two.ask("POST", BACKUP, body=backup)).json()["response"]
        assert (again["changes"], again["added"]) == ([], {})


async def test_what_it_holds(box: Box) -> None:
    with zipfile.ZipFile(io.BytesIO(await filled(box))) as made:
        assert set(made.namelist()) == {"manifest.json", "config.json", "Server.xml", "store.json", "tls/mine.pem"}
        assert b"PRIVATE KEY" in made.read("tls/mine.pem")


async def test_only_an_admin(box: Box) -> None:
    made = await box.ask("POST", "/box/v1/tokens", body={"name": "op", "role": "operator"})
    token = base64.b64encode(made.json()["response"]["token"].encode()).decode()
    assert (await box.ask("GET", BACKUP, {"Authorization": f"Basic {token}"})).status_code == 403


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "no zip"), (b"{}", "no zip"), (b"PK\x03\x04" + bytes(100), "no zip"),
    (archive(), "manifest.json is not in it"), (archive(**{"manifest.json": b"{"}), "can't be read"),
    (archive(**{"manifest.json": b"[]"}), "not that of a backup"),
    (archive(**{"manifest.json": with_manifest(format=2, version="9.9")}), "made by Kiln 9.9 in format 2"),
    (archive(**{"manifest.json": with_manifest(format="1")}), "not that of a backup"),
    (archive(**{"manifest.json": with_manifest(format=True)}), "not that of a backup"),
    (archive(**{"manifest.json": MANIFEST}), "config.json is not in it"),
    (archive(**{"manifest.json": MANIFEST, "config.json": b"[]"}), "must be an object"),
    (archive(**{"manifest.json": MANIFEST, "config.json": b"[" * 100_000}), "can't be read"),
    (archive(**{"manifest.json": MANIFEST, "config.json": b"{}", "store.json": b"1"}), "store.json can't be read"),
    (archive(**{"manifest.json": MANIFEST, "config.json": b"{}", "store.json": EMPTY_KEY}), "characters"),
    *((archive(**{"manifest.json": MANIFEST, name: b""}), "has no file") for name in (
        "../x", "/etc/passwd", "tls/../x.pem", "tls/.x.pem", "tls/a/b.pem", "tls/x.pem\n", "channels/x/a/b/c",
        "channels/scheduled/a/b", "C:\\x", "tls/" + "a" * 200 + ".pem",
    )),
])  # fmt: skip
async def test_what_is_no_backup(box: Box, data: bytes, reason: str) -> None:
    before = box.engine.config_import.document()
    answer = await box.ask("POST", BACKUP, body=data)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["message"]
    assert box.engine.config_import.document() == before


def test_a_bomb_is_not_unpacked() -> None:
    bomb = archive(**{"manifest.json": MANIFEST, "config.json": bytes(LARGEST + 1)})
    assert len(bomb) < 100_000
    with pytest.raises(NotABackup, match="MiB unpacked"):
        unpack(bomb)


def test_a_size_that_lies() -> None:
    data = archive(**{"manifest.json": MANIFEST, "config.json": bytes(100_000)})
    lying = data.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != data
    with pytest.raises(NotABackup):
        unpack(lying)


@pytest.mark.parametrize("step", range(0, 400, 13))
def test_a_file_cut_off_anywhere(step: int) -> None:
    data = archive(**{"manifest.json": MANIFEST, "config.json": b'{"a":1}'})
    with pytest.raises(NotABackup):
        unpack(data[: min(step, len(data) - 1)])


async def test_a_backup_with_a_bad_configuration_changes_nothing(box: Box) -> None:
    store = b'{"entries":{"named-token":{"eve":"e30="}}}'
    data = archive(**{"manifest.json": MANIFEST, "config.json": b'{"foo":1}', "store.json": store})
    answer = await box.ask("POST", BACKUP, body=data)
    assert answer.status_code == 400
    assert len(answer.json()["response"]["faults"]) > 3
    assert await box.engine.store.list("named-token") == {}
