"""Every setting that the API takes, with every type that it does not: 4xx with the reason, and nothing is made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.json_form import load_json
from appliance.settings.schema import Field, Kind, Node, fields_of
from tests.api.box import open_box
from tests.api.configured import APPS, PROFILES, make, told


def _paths(model: type[Node], way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Field]]:
    """Every setting below ``model``; the way goes through lists by their first item."""
    for field in fields_of(model):
        if field.attribute or (model is models.VirtualHost and field.attr == "applications"):
            continue
        steps = (*way, field.json, *([field.item_json] if field.nested else []), *(["0"] if field.many else []))
        yield steps, field
        if field.section:
            yield from _paths(field.section, steps)


def _with(steps: tuple[str, ...], value: Any) -> Any:
    for step in reversed(steps):
        value = [value] if step == "0" else {step: value}
    return value


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}
    return over


BASES: dict[type[Node], dict[str, Any]] = {
    models.VirtualHost: {"name": "v"},
    models.Application: {"name": "a", "type": "live"},
}
FIELDS = [(model, steps, field) for model in BASES for steps, field in _paths(model)]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
WRONG: dict[Kind, list[Any]] = {
    Kind.TEXT: [5, True, {}, []],
    Kind.INTEGER: ["x", "5x", True, {}, [], 1.5],
    Kind.NUMBER: ["x", "1.5x", False, {}, []],
    Kind.BOOLEAN: ["x", 1, {}, []],
    Kind.BITRATE: [True, {}, []],
    Kind.SECTION: [5, "x", True],
}


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """``post(path, body)`` of a box that lives as long as the module's tests of this kind."""
    folder = Path(tempfile.mkdtemp())

    def post(path: str, bodies: list[Any]) -> list[httpx.Response]:
        async def run() -> list[httpx.Response]:
            async with open_box(folder) as box:
                await told(box, "POST", "/v1/vhosts", [{"name": "v1"}])
                return [await box.ask("POST", path, body=body) for body in bodies]

        return trio.run(run)

    yield post
    shutil.rmtree(folder)


def test_a_wrong_type_at_any_setting_is_told(api: Any) -> None:
    cases: dict[str, list[Any]] = {"/v1/vhosts": [], "/v1/vhosts/v1/apps": []}
    for model, steps, field in FIELDS:
        path = "/v1/vhosts" if model is models.VirtualHost else "/v1/vhosts/v1/apps"
        for wrong in WRONG.get(field.kind, []):
            cases[path].append(_merged(BASES[model], _with(steps, wrong)))
    assert len(cases["/v1/vhosts"]) > 50
    assert len(cases["/v1/vhosts/v1/apps"]) > 500
    for path, items in cases.items():
        (answer,) = api(path, [items])
        results = answer.json()
        accepted = [item for item, each in zip(items, results, strict=True) if each["statusCode"] == 200]
        assert not accepted
        assert {each["statusCode"] for each in results} <= {400, 409}
        assert all(each["message"].startswith("[Config] ") for each in results if each["statusCode"] == 400)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FIELDS), ANYTHING)
def test_whatever_stands_at_a_setting_is_read_or_refused(
    place: tuple[type[Node], tuple[str, ...], Field], value: Any
) -> None:
    """What is read is read again from what is kept."""
    model, steps, _ = place
    item = _merged(BASES[model], _with(steps, value))
    try:
        loaded = load_json(model, item)
    except ConfigError as error:
        reason = str(error)
    else:
        reason = ""
    if reason:
        return
    again = load_json(model, msgspec.json.decode(msgspec.json.encode(loaded.raw)))
    assert again.model == loaded.model
    assert again.raw == loaded.raw


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANYTHING, min_size=1, max_size=5))
def test_whatever_is_posted_is_answered(bodies: list[Any]) -> None:
    async def run(folder: Path) -> None:
        async with open_box(folder) as box:
            await make(box)
            for body in bodies:
                for method, path in (("POST", "/v1/vhosts"), ("POST", APPS), ("PATCH", f"{APPS}/one"),
                                     ("POST", PROFILES), ("PATCH", f"{PROFILES}/bypass")):  # fmt: skip
                    for sent in (body, [body]):
                        answer = await box.ask(method, path, body=msgspec.json.encode(sent))
                        assert answer.status_code < 500, (method, path, sent, answer.text)

    with tempfile.TemporaryDirectory() as folder:
        trio.run(run, Path(folder))
