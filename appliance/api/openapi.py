"""``/openapi.json``: both APIs as OpenAPI 3.1, made of the route table and of the models that validate."""

from __future__ import annotations

import http
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import trio

from appliance.access.roles import Role
from appliance.api.contracts import CONTRACTS, Body, Contract, Many, Schema
from appliance.api.envelope import Answer
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.settings.schema import Field, Kind, Node, fields_of
from appliance.version import VERSION

#: Seconds of work after which others run.
SLICE = 0.001

_KINDS: dict[Kind, Schema] = {
    Kind.TEXT: {"type": "string"},
    Kind.INTEGER: {"type": "integer"},
    Kind.NUMBER: {"type": "number"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.BITRATE: {"type": ["integer", "string"]},
    Kind.PORT: {"type": ["integer", "string"]},
    Kind.PORTS: {"type": ["integer", "string"]},
    Kind.FLAG: {"type": "boolean"},
    Kind.OPAQUE: {},
}
#: The segment before a name in a path -> what the name is called.
_SINGULAR = {
    "vhosts": "vhost", "apps": "app", "streams": "stream", "outputProfiles": "outputProfile", "alarms": "alarm",
    "tokens": "token", "scheduledChannels": "channel", "multiplexChannels": "channel",
}  # fmt: skip
#: Another change takes too long, or the disk is full.
_WRITING = ("POST", "PATCH", "DELETE")
_NAME = re.compile(r"\{[a-z]\}")
_OPERATION_ID = re.compile(r"[^A-Za-z0-9]+")
_DESCRIPTION = (
    "/v1 is OvenMediaEngine's API, /box/v1 is Kiln's own. Each GET answers HEAD too, each path OPTIONS without "
    "authentication. JSON answers are an envelope of message, statusCode and, where there is one, response."
)
_TOKEN = "Basic with the base64 of the access token alone, or of a named token (no user name, no colon)."


class OpenApi:
    """Made when it is first asked for, in slices, and kept: the routes don't change."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [*routes, *self.routes()]
        self._made = b""
        self._one_at_a_time = trio.Lock()

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/openapi.json", self.document, Role.VIEWER)

    async def document(self, request: Request) -> Answer:
        """This document."""
        async with self._one_at_a_time:
            if not self._made:
                made = Document()
                breath = trio.current_time() + SLICE
                for _ in made.steps(self._routes):
                    if trio.current_time() > breath:
                        await trio.lowlevel.checkpoint()
                        breath = trio.current_time() + SLICE
                self._made = msgspec.json.encode(made.whole(), order="sorted")
        return Answer(200, self._made, (), b"application/json")


class Document:
    """The document while it is made."""

    def __init__(self) -> None:
        self._paths: dict[str, dict[str, Any]] = {}
        self._pending: list[type[Node]] = []
        self._schemas: dict[str, Schema] = {
            "Envelope": _envelope(None),
            "Results": {
                "description": "What became of each element.",
                "type": "array",
                "items": _envelope({}),
            },
        }

    def steps(self, routes: Iterable[Route]) -> Iterator[None]:
        """Each step takes up a route or a model; others may run between them."""
        for route in routes:
            self.add(route)
            yield
        while self._pending:
            self._describe(self._pending.pop())
            yield

    def add(self, route: Route) -> None:
        path, names = public_path(route.path)
        contract = route.contract or CONTRACTS.get((route.method, route.path)) or Contract()
        operation: dict[str, Any] = {
            "operationId": f"{route.method.lower()}_{_OPERATION_ID.sub('_', path).strip('_') or 'root'}",
            "summary": _summary(route),
            "tags": ["box" if path.startswith("/box") else "ome" if path.startswith("/v1") else "watching"],
            "x-kiln-role": route.role.word,
            "parameters": [
                *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
                *(
                    {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
                    for name, text in contract.query.items()
                ),
            ],
            "responses": self._responses(contract, bool(names), writes=route.method in _WRITING),
        }
        if path.endswith(":"):
            operation["operationId"] += "_settings"
        if contract.request is not None:
            operation["requestBody"] = {
                "required": not contract.optional,
                "content": {"application/json": {"schema": self._schema(contract.request)}},
            }
        self._paths.setdefault(path, {})[route.method.lower()] = operation

    def whole(self) -> dict[str, Any]:
        return {
            "openapi": "3.1.0",
            "info": {"title": "Kiln", "version": VERSION, "description": _DESCRIPTION},
            "security": [{"token": []}],
            "tags": [
                {"name": "ome", "description": "OvenMediaEngine's API"},
                {"name": "box", "description": "The box itself"},
                {"name": "watching", "description": "Documents about it"},
            ],
            "paths": self._paths,
            "components": {
                "schemas": self._schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "basic", "description": _TOKEN}},
            },
        }

    def _responses(self, contract: Contract, named: bool, *, writes: bool) -> dict[str, Any]:
        statuses = {401, 403, 429, *contract.statuses}
        statuses |= {404} if named else set()
        statuses |= {400, 413} if contract.request is not None else set()
        statuses |= {400} if contract.query else set()
        statuses |= {503, 507} if writes else set()
        responses = {str(status): _error(status, pieces=contract.results) for status in sorted(statuses)}
        if contract.raw:
            content: dict[str, Any] = {contract.raw: {}}
        elif contract.results:
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Results"}}}
            responses["207"] = {"description": "Some were done, some not.", "content": content}
        elif contract.response is None:
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}}}
        else:
            whole = _envelope(self._schema(contract.response))
            whole["required"].append("response")
            content = {"application/json": {"schema": whole}}
        if "follow" in contract.query:
            content = {**content, "text/event-stream": {}}
        responses[str(contract.success)] = {
            "description": http.HTTPStatus(contract.success).phrase, "content": content
        }  # fmt: skip
        return responses

    def _schema(self, body: Body) -> Schema:
        if isinstance(body, Many):
            return {"type": "array", "items": self._schema(body.of)}
        if isinstance(body, dict):
            return body
        return self._model(body)

    def _model(self, model: type[Node]) -> Schema:
        """A reference to the component of a settings model, which is described in a step of its own."""
        name = model.__name__
        if name not in self._schemas:
            self._schemas[name] = {"type": "object", "additionalProperties": False}
            self._pending.append(model)
        return {"$ref": f"#/components/schemas/{name}"}

    def _describe(self, model: type[Node]) -> None:
        schema = self._schemas[model.__name__]
        fields = [each for each in fields_of(model) if not each.attribute]
        schema["properties"] = {each.json: self._field(each) for each in fields}
        required = [each.json for each in fields if each.required]
        if required:
            schema["required"] = required
        if model.__doc__ and model.__doc__ != Node.__doc__:
            schema["description"] = inspect.cleandoc(model.__doc__)

    def _field(self, each: Field) -> Schema:
        schema = self._model(each.section) if each.section is not None else dict(_KINDS[each.kind])
        if each.many:
            schema = {"type": "array", "items": schema}
            if each.nested:
                schema = {"type": "object", "properties": {each.item_json: schema}, "additionalProperties": False}
        elif each.section is None and not each.required and isinstance(each.default, str | int | float):
            schema["default"] = each.default
        if each.deprecated:
            schema = {**schema, "deprecated": True}
        return schema


def public_path(path: str) -> tuple[str, list[str]]:
    """``/v1/vhosts/{v}`` with its names written out, ``/v1/vhosts/{vhost}``, and those names."""
    names: list[str] = []
    segments = path.split("/")
    for index, segment in enumerate(segments):
        if _NAME.match(segment):
            name = _SINGULAR.get(segments[index - 1], "name")
            name = name if name not in names else f"{name}{len(names)}"
            names.append(name)
            segments[index] = _NAME.sub(f"{{{name}}}", segment, count=1)
    return "/".join(segments), names


def _summary(route: Route) -> str:
    """The first sentence of what the handler says about itself, else the method and what it is about."""
    text = inspect.getdoc(route.handler) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    if first:
        return first
    path, _ = public_path(route.path)
    return f"{route.method} {path.rpartition('/')[2]}"


def _envelope(response: Schema | None) -> Schema:
    properties: dict[str, Schema] = {"message": {"type": "string"}, "statusCode": {"type": "integer"}}
    if response is not None:
        properties["response"] = response
    return {"type": "object", "properties": properties, "required": ["message", "statusCode"]}


def _error(status: int, *, pieces: bool = False) -> dict[str, Any]:
    """``pieces``: where all pieces of an array came to the same, that is the status of the whole."""
    schema: Schema = {"$ref": "#/components/schemas/Envelope"}
    if pieces:
        schema = {"anyOf": [schema, {"$ref": "#/components/schemas/Results"}]}
    return {"description": http.HTTPStatus(status).phrase, "content": {"application/json": {"schema": schema}}}
