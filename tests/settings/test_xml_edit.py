"""A Server.xml is changed in place: what is not meant stays byte for byte, and what is meant reads as it was meant."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from appliance.errors import ConfigError, Forbidden
from appliance.settings import models
from appliance.settings.export import portable
from appliance.settings.schema import Raw
from appliance.settings.xml import DEFAULT_XML, LoadedServer, load_xml
from appliance.settings.xml_edit import edited, rendered, same, scan
from tests.settings.trees import trees
from tests.settings.writer import application, server

SLOW_DATA = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLAIN = b"""<?xml version="1.0" encoding="UTF-8"?>
<!-- mine -->
<Server version="10">
  <Name>one</Name> <!-- the name -->
  <Type>origin</Type>
  <IP>*</IP>
  <Bind>
    <Managers><API/></Managers>
  </Bind>
  <Managers><Host><Names><Name>a</Name> <!-- first --><Name>b</Name></Names></Host></Managers>
  <!-- the end -->
</Server>
"""


def read(data: bytes, path: Path = DEFAULT_XML) -> LoadedServer:
    return load_xml(path, data=data, environment={})


def change(data: bytes, **values: Any) -> tuple[bytes, Raw]:
    before = read(data).raw
    after = {**copy.deepcopy(before), **values}
    return edited(data, before, after), after


def test_nothing_to_change_changes_no_byte() -> None:
    data = DEFAULT_XML.read_bytes()
    raw = load_xml(DEFAULT_XML).raw
    assert edited(data, raw, raw) == data
    assert edited(data, raw, portable(models.Server, raw)) == data


def test_a_value_is_changed_in_its_place() -> None:
    data, _ = change(PLAIN, name="two <&> more")
    assert data == PLAIN.replace(b"<Name>one<", b"<Name>two &lt;&amp;&gt; more<")
    assert read(data).model.name == "two <&> more"


def test_what_goes_leaves_its_comment() -> None:
    before = read(PLAIN).raw
    after = {key: value for key, value in before.items() if key != "name"}
    data = edited(PLAIN, before, after)
    assert data == PLAIN.replace(b"<Name>one</Name>", b"")
    assert b"<!-- the name -->" in data


def test_what_comes_stands_at_the_end_of_its_section() -> None:
    data, _ = change(PLAIN, bind={"managers": {"api": {"port": 9000}}, "publishers": {"llhls": {}}})
    assert b"<API>\n" in data
    assert b"<Port>9000</Port>" in data
    assert read(data).model.bind.managers.api == models.BindApi(port=9000)
    assert read(data).model.bind.publishers.llhls == models.BindHttp()
    assert data.endswith(b"  <!-- the end -->\n</Server>\n")


@pytest.mark.parametrize("names", [["b"], ["a"], [], ["a", "b", "c"], ["c", "a", "b"], ["b", "a"], ["x", "y"]])
def test_lists_of_texts(names: list[str]) -> None:
    data, after = change(PLAIN, managers={"host": {"names": names}})
    assert same(models.Server, read(data).raw, after)
    assert b"<!-- first -->" in data


def test_items_are_known_by_their_names() -> None:
    apps = [application(name=name) for name in ("a", "b", "c")]
    data = server(apps="<!-- one -->".join(apps)).encode()
    raw = read(data).raw
    vhost = raw["virtualHosts"][0]
    one, two, three = vhost["applications"]
    new = {"name": "new", "type": "live"}
    for wanted in ([three], [three, one], [one, {**two, "providers": {"rtmp": {}}}, three], [new, two]):
        after = {**raw, "virtualHosts": [{**vhost, "applications": wanted}]}
        made = edited(data, raw, after)
        assert same(models.Server, read(made).raw, after)
        assert made.count(b"<!-- one -->") == 2


@SLOW_DATA
@given(trees(models.VirtualHost), trees(models.VirtualHost))
def test_any_change_reads_as_it_was_meant(before: Raw, after: Raw) -> None:
    head = {"version": "10", "type": "origin", "ip": ["*"], "bind": {}}
    written = read(rendered({**head, "virtualHosts": [before]})).raw
    wanted = {**head, "virtualHosts": [after]}
    data = edited(rendered({**head, "virtualHosts": [before]}), written, wanted)
    loaded = read(data)
    assert loaded.faults == ()
    assert same(models.Server, loaded.raw, wanted)
    assert loaded.model == read(rendered(wanted)).model


def test_what_stands_in_another_file_is_not_changed_here(tmp_path: Path) -> None:
    file = tmp_path / "Server.xml"
    file.write_text(server(hosts='<VirtualHost include="host*.xml"/>'))
    (tmp_path / "host1.xml").write_text("<VirtualHost><Name>tv</Name></VirtualHost>")
    data, raw = file.read_bytes(), load_xml(file).raw
    assert raw["virtualHosts"] == [{"name": "tv"}]
    assert edited(data, raw, {**raw, "name": "x"}).count(b"include=") == 1
    with pytest.raises(Forbidden, match=r"VirtualHost.*include="):
        edited(data, raw, {**raw, "virtualHosts": [{"name": "radio"}]})
    alone = edited(data, raw, {**raw, "virtualHosts": [{"name": "tv"}, {"name": "radio"}]}, inline=True)
    assert b"include" not in alone
    with tempfile.TemporaryDirectory() as elsewhere:
        assert [each["name"] for each in load_xml(Path(elsewhere) / "s.xml", data=alone).raw["virtualHosts"]] == [
            "tv", "radio"
        ]  # fmt: skip


def test_other_encodings() -> None:
    latin = PLAIN.replace(b"UTF-8", b"ISO-8859-1").replace(b"mine", "für mich".encode("latin-1"))
    data, after = change(latin, name="größer 日本")
    assert "für mich".encode("latin-1") in data
    assert read(data).model.name == after["name"]
    with pytest.raises(ConfigError, match="can't be changed here"):
        edited(PLAIN.decode().replace("UTF-8", "UTF-16").encode("utf-16"), {}, {})


def test_elements_that_are_off_stay_as_they_are() -> None:
    data = PLAIN.replace(b"<Name>one</Name>", b'<Name ignore="true">old</Name><Name>one</Name>')
    made, _ = change(data, name="two")
    assert b'<Name ignore="true">old</Name><Name>two</Name>' in made


@pytest.mark.parametrize("data", [b"", b"<", b"<a>", b"<a></b>", b"\x00", b"<a/><b/>"])
def test_what_is_no_document(data: bytes) -> None:
    with pytest.raises(ConfigError, match="Not well-formed"):
        scan(data)


def test_a_tag_is_found_whatever_is_in_it() -> None:
    root = scan(b'<a x="/>"><b>/></b><c><![CDATA[</c>]]></c><!-- </a> --><d></d><e/></a>')
    assert [child.tag for child in root.children] == ["b", "c", "d", "e"]
    assert [child.close for child in root.children][-1] == -1
