"""The configuration as a whole over the API: told, checked, changed, confirmed, undone."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from appliance.engine import pending
from appliance.engine.import_config import CHILD
from appliance.engine.pending import recover
from appliance.settings.store import Store
from appliance.settings.xml import load_xml
from tests.api.box import AUTHORIZATION, Box, open_box

CONFIG = "/box/v1/config"
XML = """<?xml version="1.0" encoding="UTF-8"?>
<Server version="10">
  <Name>box</Name> <!-- mine -->
  <Type>origin</Type>
  <IP>127.0.0.1</IP>
  <Bind><Managers><API><Port>0</Port></API></Managers></Bind>
  <Managers><Host><Names><Name>*</Name></Names></Host><API><AccessToken>ome-access-token</AccessToken></API></Managers>
  <VirtualHosts>
    <VirtualHost><Name>file</Name><Applications>
      <Application><Name>app</Name><Type>live</Type><Providers><RTMP/></Providers></Application>
    </Applications></VirtualHost>
  </VirtualHosts>
</Server>
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "Server.xml"
    made.write_text(XML)
    return made


def text(file: Path) -> str:
    return file.read_text()


def write(file: Path, content: str) -> None:
    file.write_text(content)


@asynccontextmanager
async def opened(file: Path, state: Path) -> AsyncIterator[Box]:
    async with open_box(state, file) as box:
        config = box.engine.config_import
        config.file.path, config.file.data = file, text(file).encode()
        config.file.raw = load_xml(file, environment={}).raw
        yield box


@pytest.fixture
async def box(file: Path, tmp_path: Path) -> AsyncIterator[Box]:
    state = tmp_path / "state"
    state.mkdir()
    async with opened(file, state) as made:
        await made.ask("POST", "/v1/vhosts", body=[{"name": "stored", "applications": [{"name": "a", "type": "live"}]}])
        yield made


async def document(box: Box) -> dict[str, Any]:
    told: dict[str, Any] = (await box.ask("GET", CONFIG)).json()["response"]
    return told


async def as_role(box: Box, role: str, method: str, path: str) -> httpx.Response:
    made = await box.ask("POST", "/box/v1/tokens", body={"name": role, "role": role})
    token = base64.b64encode(made.json()["response"]["token"].encode()).decode()
    return await box.ask(method, path, {"Authorization": f"Basic {token}"})


async def test_the_document_has_the_file_and_the_store(box: Box) -> None:
    told = await document(box)
    assert [vhost["name"] for vhost in told["virtualHosts"]] == ["file", "stored"]
    assert told["name"] == "box"
    text = (await box.ask("GET", f"{CONFIG}?format=xml")).text
    assert "<!-- mine -->" in text
    assert "<Name>stored</Name>" in text
    headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/xml"}
    again = await box.ask("POST", CONFIG, headers, body=text.encode())
    assert again.json()["response"]["changes"] == []


async def test_secrets_are_for_an_admin(box: Box) -> None:
    assert (await document(box))["managers"]["api"]["accessToken"] == "ome-access-token"
    told = await as_role(box, "operator", "GET", CONFIG)
    assert told.json()["response"]["managers"]["api"]["accessToken"] == "***"
    assert (await as_role(box, "viewer", "GET", CONFIG)).status_code == 403


async def test_xml_for_an_operator_has_neither_secrets_nor_comments(box: Box) -> None:
    told = await as_role(box, "operator", "GET", f"{CONFIG}?format=xml")
    assert "***" in told.text
    assert "ome-access-token" not in told.text
    assert "mine" not in told.text


async def test_a_change_of_the_file_and_of_the_store(box: Box, file: Path) -> None:
    told = await document(box)
    told["name"] = "other"
    told["virtualHosts"][0]["applications"][0]["publishers"] = {"llhls": {}}
    told["virtualHosts"][1]["applications"].append({"name": "b", "type": "live"})
    told["virtualHosts"].append({"name": "new"})
    answer = await box.ask("POST", CONFIG, body=told)
    assert answer.status_code == 200
    assert answer.json()["response"]["needsRestart"] == ["Server/Name"]
    assert await document(box) == told
    assert text(file).count("<!-- mine -->") == 1
    assert "<LLHLS></LLHLS>" in text(file)
    assert "stored" not in text(file)
    assert text(file.with_name("Server.xml.bak")) == XML
    assert (await box.ask("GET", "/v1/vhosts/stored/apps")).json()["response"] == ["a", "b"]
    assert (await box.ask("DELETE", "/v1/vhosts/file")).status_code == 403
    assert (await box.ask("DELETE", "/v1/vhosts/new")).status_code == 200
    alarms = (await box.ask("GET", "/box/v1/alarms")).json()["response"]
    assert any(alarm["id"] == "configuration:restart" for alarm in alarms)


async def test_it_is_all_there_after_a_restart(box: Box, file: Path, tmp_path: Path) -> None:
    await box.ask("PATCH", CONFIG, body={"virtualHosts": [{"name": "z"}, {"name": "stored"}, {"name": "file"}]})
    told = await document(box)
    await box.engine.store.close()
    async with opened(file, tmp_path / "state") as again:
        assert await document(again) == told
        # Those of the file come first, the stored ones in the order of the document.
        assert [vhost["name"] for vhost in told["virtualHosts"]] == ["file", "z", "stored"]


async def test_a_dry_run_does_nothing(box: Box, file: Path) -> None:
    before = await document(box)
    answer = await box.ask("PATCH", f"{CONFIG}?dry-run=yes", body={"name": "x", "virtualHosts": []})
    told = answer.json()["response"]
    assert [each["path"] for each in told["changes"]] == ["name", "virtualHosts[file]", "virtualHosts[stored]"]
    assert told["dryRun"] is True
    assert await document(box) == before
    assert text(file) == XML


async def test_what_is_untouched_goes_on(box: Box) -> None:
    live, *_ = box.open("app", "one", vhost="file")
    await box.ask("PATCH", CONFIG, body={"name": "x", "bind": {"providers": {"rtmp": {"port": 0}}}})
    assert box.engine.directory.vhosts["file"].applications["app"].inputs["one"] is live
    await box.ask("PATCH", CONFIG, body={"virtualHosts": [{"name": "file"}]})
    assert live.closed


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"[]", 400), (b"{", 400), (b"{}", 400), (b"<Server", 400), (b"<Server/>", 400), (b"<x>", 400),
    (b"\xff", 400), (b"1", 400), (b'{"name":1}', 400), (b"<!DOCTYPE a [<!ENTITY b 'c'>]><Server version='10'/>", 400),
    (b"[" * 5000, 400),
])  # fmt: skip
async def test_bad_documents(box: Box, file: Path, body: bytes, status: int) -> None:
    before = await document(box)
    answer = await box.ask("POST", CONFIG, body=body)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert await document(box) == before
    assert text(file) == XML


@pytest.mark.parametrize("body", [1, [], "x", {"foo": 1}, {"bind": {"managers": {"api": {"port": -1}}}},
                                  {"virtualHosts": {}}, {"virtualHosts": [1]}, {"virtualHosts": [{"name": "a"}] * 2},
                                  {"ip": None}, {"version": 11}, {"name": "\x00"}])  # fmt: skip
async def test_bad_patches(box: Box, file: Path, body: Any) -> None:
    answer = await box.ask("PATCH", CONFIG, body=body)
    assert answer.status_code == 400, answer.text
    assert text(file) == XML


async def test_faults_come_all_at_once_with_their_lines(box: Box) -> None:
    bad = XML.replace("<Type>origin</Type>", "<Typ>origin</Typ>").replace("<Port>0<", "<Port>x<")
    answer = await box.ask("POST", CONFIG, body=bad.encode())
    told = answer.json()["response"]["faults"]
    assert [(each["path"], each["line"]) for each in told] == [
        ("Server", 2), ("Server.Typ", 4), ("Server.Bind.Managers.API.Port", 6)
    ]  # fmt: skip
    assert "Is Type meant?" in told[1]["hint"]


@pytest.mark.parametrize("query", ["confirm-within=x", "confirm-within=3601", "dry-run=perhaps", "foo=1"])
async def test_bad_queries(box: Box, query: str) -> None:
    assert (await box.ask("PATCH", f"{CONFIG}?{query}", body={"name": "x"})).status_code == 400


async def test_a_file_changed_by_somebody_else_is_left_alone(box: Box, file: Path) -> None:
    write(file, XML.replace("box", "hand"))
    answer = await box.ask("PATCH", CONFIG, body={"name": "x"})
    assert answer.status_code == 409
    assert "hand" in text(file)
    assert (await document(box))["name"] == "box"
    assert (await box.ask("PATCH", CONFIG, body={"virtualHosts": [{"name": "file"}]})).status_code == 409
    assert (await document(box))["virtualHosts"][1]["name"] == "stored"


async def test_a_read_only_file(box: Box, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the kernel answers anybody but root.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file)
    answer = await box.ask("PATCH", CONFIG, body={"name": "x"})
    assert answer.status_code == 403
    assert "read-only" in answer.json()["message"]


async def test_a_file_that_can_not_be_replaced(box: Box, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", refuse)
    told = await document(box)
    told["name"] = "x"
    told["virtualHosts"].append({"name": "new"})
    answer = await box.ask("POST", CONFIG, body=told)
    assert answer.status_code == 403
    assert "busy" in answer.json()["message"]
    assert text(file) == XML
    assert [vhost["name"] for vhost in (await document(box))["virtualHosts"]] == ["file", "stored"]
    assert await box.engine.store.list(pending.KIND) == {}
    assert list(await box.engine.store.list("vhost")) == ["stored"]


# Confirmed, or not


async def test_a_change_that_is_confirmed_stays(box: Box) -> None:
    async with box.engine.supervisor:
        answer = await box.ask("PATCH", f"{CONFIG}?confirm-within=30", body={"name": "x"})
        assert answer.json()["response"]["confirmWithin"] == 30
        assert (await box.ask("PATCH", CONFIG, body={"name": "y"})).status_code == 409
        assert (await box.ask("POST", f"{CONFIG}:confirm")).status_code == 200
        assert (await box.ask("POST", f"{CONFIG}:confirm")).status_code == 409
        for child in [child for name, child in box.engine.supervisor.children.items() if name == CHILD]:
            await child.wait_ended()
        assert (await document(box))["name"] == "x"
    assert await box.engine.store.list(pending.KIND) == {}


async def test_a_change_that_nobody_confirms_is_undone(box: Box, file: Path) -> None:
    before = await document(box)
    async with box.engine.supervisor:
        changed = {"name": "x", "virtualHosts": [{"name": "stored"}, {"name": "new"}]}
        await box.ask("PATCH", f"{CONFIG}?confirm-within=1", body=changed)
        assert text(file) != XML
        assert (await document(box))["name"] == "x"
        (child,) = [child for name, child in box.engine.supervisor.children.items() if name == CHILD]
        with trio.fail_after(10):
            await child.wait_ended()
        assert await document(box) == before
    assert text(file) == XML
    assert list(await box.engine.store.list("vhost")) == ["stored"]
    assert await box.engine.store.list(pending.KIND) == {}
    assert not any(id.startswith("configuration:") for id in box.engine.alarms)


async def test_a_restart_undoes_what_was_not_confirmed(box: Box, file: Path, tmp_path: Path) -> None:
    before = await document(box)
    changed = {"name": "x", "virtualHosts": [{"name": "new"}]}
    await box.ask("PATCH", f"{CONFIG}?confirm-within=3600", body=changed)
    assert text(file) != XML
    await box.engine.store.close()
    store = await Store.open(tmp_path / "state" / "kiln.sqlite")
    assert len(await recover(store)) == 2
    assert await recover(store) == []
    await store.close()
    assert text(file) == XML
    async with opened(file, tmp_path / "state") as again:
        assert await document(again) == before


async def test_a_crash_before_the_file_is_written_finishes_it(box: Box, file: Path) -> None:
    after = XML.replace("box", "crashed").encode()
    change = pending.FileChange(str(file), XML.encode(), after)
    await box.engine.store.transaction(lambda transaction: pending.note_file(transaction, change))
    assert "is written" in (await recover(box.engine.store))[0]
    assert text(file).encode() == after
    assert await recover(box.engine.store) == []


async def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(box: Box, file: Path) -> None:
    change = pending.FileChange(str(file), b"before", b"after")
    await box.engine.store.transaction(lambda transaction: pending.note_file(transaction, change))
    assert "somebody else" in (await recover(box.engine.store))[0]
    assert text(file) == XML
    assert await recover(box.engine.store) == []


@pytest.mark.parametrize("noted", [b"", b"{}", b"\xff", b'{"entries":1}'])
async def test_notes_that_can_not_be_read_end_nothing(box: Box, noted: bytes) -> None:
    await box.engine.store.put(pending.KIND, pending.UNCONFIRMED, noted)
    await recover(box.engine.store)
    assert (await document(box))["name"] == "box"
