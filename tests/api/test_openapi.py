"""The OpenAPI document: every route is in it, each with its role, and bodies as the models take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.access.roles import Role
from appliance.api.contracts import CONTRACTS
from appliance.api.management import ManagementApi
from appliance.api.openapi import public_path
from appliance.api.routes import Route
from tests.api.box import Box, open_box


def routes(box: Box) -> tuple[Route, ...]:
    """Those of the API behind the status page."""
    cells = [cell.cell_contents for cell in box.api.__closure__ or ()]
    (api,) = [each for each in cells if isinstance(each, ManagementApi)]
    return api._routes.routes


async def document(box: Box) -> dict[str, Any]:
    answer = await box.ask("GET", "/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    made: dict[str, Any] = answer.json()
    return made


async def test_every_route_is_told_with_its_role(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        told = await document(box)
        known = routes(box)
    operations = {
        (method.upper(), path): operation
        for path, found in told["paths"].items()
        for method, operation in found.items()
    }
    assert len(known) > 40
    assert operations.keys() == {(route.method, public_path(route.path)[0]) for route in known}
    for route in known:
        operation = operations[route.method, public_path(route.path)[0]]
        assert isinstance(route.role, Role)
        assert operation["x-kiln-role"] == route.role.word
        assert {"401", "403"} <= operation["responses"].keys()
        assert operation["summary"]
    identities = [operation["operationId"] for operation in operations.values()]
    assert len(set(identities)) == len(identities)


async def test_what_changes_something_is_not_for_viewers(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        for route in routes(box):
            if route.method != "GET" and not route.path.endswith((":records", ":pushes", ":hlsDumps")):
                assert route.role > Role.VIEWER, route.path


async def test_contracts_are_of_routes_that_exist(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        known = {(route.method, route.path) for route in routes(box)}
    assert CONTRACTS.keys() - known == set()


async def test_every_route_that_takes_a_body_tells_it(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        silent = [
            (route.method, route.path)
            for route in routes(box)
            if route.method in ("POST", "PATCH") and not (route.contract or CONTRACTS.get((route.method, route.path)))
        ]
    assert silent == []


async def test_bodies_are_the_models(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        told = await document(box)
    body = told["paths"]["/v1/vhosts/{vhost}/apps"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"type": "array", "items": {"$ref": "#/components/schemas/Application"}}
    schemas = told["components"]["schemas"]
    application = schemas["Application"]
    assert "name" in application["required"]
    assert {"providers", "publishers", "outputProfiles"} <= application["properties"].keys()
    assert application["additionalProperties"] is False
    assert "dVR" in schemas["LLHlsPublisher"]["properties"]
    dangling = [ref for ref in references(told) if ref.removeprefix("#/components/schemas/") not in schemas]
    assert dangling == []


async def test_an_answer_that_says_the_box_failed_is_one_of_a_few(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        told = await document(box)
    for path, operations in told["paths"].items():
        for operation in operations.values():
            faults = {int(status) for status in operation["responses"] if status >= "500"}
            allowed = {501, 502, 503, 507} | ({500} if "ertificate" in path else set())
            assert faults <= allowed, path


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for each in value.values() for ref in references(each)]
    return [ref for each in value for ref in references(each)] if isinstance(value, list) else []


async def test_the_document_is_valid_openapi(tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    async with open_box(tmp_path) as box:
        told = await document(box)
    schema = schemathesis.openapi.from_dict(told)
    assert schema.specification.version == "3.1.0"
    found = list(schema.get_all_operations())
    assert len(found) == sum(map(len, told["paths"].values()))
    assert [each for each in found if not hasattr(each, "ok")] == []


@pytest.mark.parametrize(
    ("path", "public", "names"),
    [
        ("/v1/vhosts/{v}/apps/{a}/streams/{s}:x", "/v1/vhosts/{vhost}/apps/{app}/streams/{stream}:x",
         ["vhost", "app", "stream"]),
        ("/v1/vhosts/{v}/apps/{a}:", "/v1/vhosts/{vhost}/apps/{app}:", ["vhost", "app"]),
        ("/a/{v}/b/{v}", "/a/{name}/b/{name1}", ["name", "name1"]),
    ],
)  # fmt: skip
def test_names_in_paths(path: str, public: str, names: list[str]) -> None:
    assert public_path(path) == (public, names)
