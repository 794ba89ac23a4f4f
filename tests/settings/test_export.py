"""The configuration as one document: every fault at once, nothing that was hidden, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.settings import models
from appliance.settings.export import ConfigFaults, differences, portable, read_json, read_xml
from appliance.settings.xml import DEFAULT_XML, load_xml
from tests.settings.writer import application, server

HERE = Path("/srv/kiln")
GOOD: dict[str, Any] = {"version": 10, "type": "origin", "ip": ["*"], "bind": {}}


def faults(value: Any, known: Any = None) -> list[tuple[str, str]]:
    with pytest.raises(ConfigFaults) as caught:
        read_json(value, HERE, known=known or {})
    assert caught.value.status == 400
    return [(fault.path, fault.message) for fault in caught.value.faults]


def test_the_default_goes_through_json_and_back() -> None:
    raw = portable(models.Server, load_xml(DEFAULT_XML).raw)
    assert read_json(raw, DEFAULT_XML.parent, known={}) == raw
    assert list(differences(load_xml(DEFAULT_XML).raw, raw)) == []


def test_texts_that_json_would_read_otherwise_are_turned() -> None:
    flags = "<Alert><Rules><Ingress><StreamStatus></StreamStatus></Ingress></Rules></Alert>"
    text = server(more=f"<PrivacyProtection>1</PrivacyProtection>{flags}")
    raw = portable(models.Server, load_xml(HERE / "s.xml", data=text.encode()).raw)
    assert raw["privacyProtection"] is True
    assert raw["alert"]["rules"]["ingress"]["streamStatus"] is True
    assert read_json(raw, HERE, known={}) == raw


def test_every_fault_at_once() -> None:
    bind = {"managers": {"api": {"port": "x", "foo": 1}}}
    bad = {"version": 7, "bind": bind, "virtualHosts": [{"name": ".a"}], "ip": []}
    paths = [path for path, _ in faults(bad)]
    assert len(paths) >= 5
    assert {"server.version", "server.bind.managers.api.port", "server.bind.managers.api"} <= set(paths)


@pytest.mark.parametrize("value", [None, 1, "x", [], [{}]])
def test_what_is_no_object(value: Any) -> None:
    assert faults(value) == [("server", "The configuration must be an object")]


def test_ports_that_clash() -> None:
    bind = {"managers": {"api": {"port": 3333}}, "publishers": {"llhls": {"port": 3333}}}
    ((path, text),) = faults({**GOOD, "bind": bind})
    assert path == "Server.Bind.Publishers.LLHLS.Port"
    assert "already taken" in text


def test_a_hidden_secret_is_not_a_secret() -> None:
    ((path, text),) = faults({**GOOD, "managers": {"api": {"accessToken": "***"}}})
    assert path == "server.managers.api.accessToken"
    assert "hidden" in text


def test_own_variables_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_ACCESS_TOKEN", "secret")
    wanted = {**GOOD, "name": "${env:KILN_ACCESS_TOKEN}"}
    assert len(faults(wanted)) == 1
    assert read_json(wanted, HERE, known=wanted) == wanted
    text = server(more="<Name>${env:KILN_ACCESS_TOKEN}</Name>").encode()
    with pytest.raises(ConfigFaults, match="No variable KILN_"):
        read_xml(text, HERE / "s.xml", known={})
    assert read_xml(text, HERE / "s.xml", known=wanted)["name"] == wanted["name"]


def test_xml_with_its_lines() -> None:
    text = server(bind="\n<Foo/>\n<Managers><API><Port>x</Port></API></Managers>")
    with pytest.raises(ConfigFaults) as caught:
        read_xml(text.encode(), HERE / "s.xml", known={})
    assert [fault.line for fault in caught.value.faults] == [2, 3]


def test_xml_reads_no_file_of_the_box() -> None:
    text = server(hosts='<VirtualHost include="/etc/passwd"/>')
    with pytest.raises(ConfigFaults, match="include= can't stand"):
        read_xml(text.encode(), HERE / "s.xml", known={})


def test_tls_only_needs_a_tls_port() -> None:
    bind = {"managers": {"api": {"tlsOnly": True}}}
    assert faults({**GOOD, "bind": bind})[0][0] == "Server.Bind.Managers.API.TLSOnly"


@pytest.mark.parametrize("port", [{"tlsPort": 8082}, {"tlsPort": 8082, "tlsOnly": True}])
def test_tls_with_a_certificate_of_the_box(port: dict[str, Any]) -> None:
    bind = {"managers": {"api": port}}
    assert "needs a certificate" in faults({**GOOD, "bind": bind})[0][1]
    made = {**GOOD, "bind": bind, "managers": {"host": {"tls": {"selfSigned": True}}}}
    assert read_json(made, HERE, known={}) == made


def test_what_differs() -> None:
    before = load_xml(HERE / "s.xml", data=server(apps=application() + application(name="b")).encode()).raw
    applications = [{"name": "b", "type": "live", "providers": {"rtmp": {}}}, {"name": "app", "type": "live"}]
    vhosts = [{"name": "default", "applications": applications}, {"name": "tv"}]
    after = {**before, "name": "x", "virtualHosts": vhosts}
    paths = [each.path for each in differences(before, after)]
    assert paths == [
        "name", "virtualHosts[default].applications[b].providers",
        "virtualHosts[default].applications (order)", "virtualHosts[tv]",
    ]  # fmt: skip
