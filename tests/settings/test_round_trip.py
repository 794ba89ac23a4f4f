"""One model serves XML and JSON: what is written in one form reads the same in the other, and comes back as written."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.json_form import load_json
from appliance.settings.schema import Node
from appliance.settings.xml import LoadedServer, load_xml
from tests.settings.trees import trees
from tests.settings.writer import as_texts, server, to_xml

SLOW_DATA = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def load(text: str | bytes) -> LoadedServer:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Server.xml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_xml(file, environment={})


@SLOW_DATA
@given(trees(models.VirtualHost))
def test_xml_and_json_give_the_same_model(raw: dict[str, Any]) -> None:
    from_json = load_json(models.VirtualHost, raw, environment={})
    loaded = load(server(hosts=f"<VirtualHost>{to_xml(models.VirtualHost, raw)}</VirtualHost>"))
    assert [str(fault) for fault in loaded.faults] == []
    assert all(" is of old: " in warning.message for warning in loaded.warnings)
    assert loaded.model.virtual_hosts == (from_json.model,)
    assert from_json.raw == raw
    assert loaded.raw["virtualHosts"] == [as_texts(raw)]


@SLOW_DATA
@given(trees(models.Application))
def test_what_xml_is_answered_as_may_be_sent_back(raw: dict[str, Any]) -> None:
    texts = as_texts(raw)
    again = load_json(models.Application, texts, environment={})
    assert again.model == load_json(models.Application, raw, environment={}).model
    assert again.raw == texts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "providers", "rtmp", "outputProfiles", "x"]), below, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.sampled_from([models.VirtualHost, models.Application, models.OutputProfile]), JSON)
def test_any_json_is_read_or_is_a_config_error(model: type[Node], value: Any) -> None:
    with suppress(ConfigError):
        loaded = load_json(model, value, environment={})
        assert load_json(model, loaded.raw, environment={}) == loaded


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees(models.VirtualHost), st.data())
def test_one_wrong_value_anywhere_is_a_config_error(raw: dict[str, Any], data: st.DataObject) -> None:
    tree = msgspec.json.decode(msgspec.json.encode(raw))
    at = tree
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], (dict, list)) or not at[key] or data.draw(st.integers(0, 3)) == 0:
            break
        at = at[key]
    at[key] = data.draw(st.sampled_from([[[]], {"surely": "unknown"}, float("nan"), 2**70]))
    with pytest.raises(ConfigError):
        load_json(models.VirtualHost, tree, environment={})


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"<Server version='8'>{text}</Server>".encode())
)
def test_any_bytes_give_faults_and_no_exception(content: bytes) -> None:
    loaded = load(content)
    assert loaded.faults
    with pytest.raises(ConfigError):
        _ = loaded.model
