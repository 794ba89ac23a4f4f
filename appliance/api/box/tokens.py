"""``/box/v1/tokens``: who else may call the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.named_tokens import NamedToken, NamedTokens
from appliance.access.roles import Role
from appliance.api.envelope import Answer, created, plain, success
from appliance.api.ome.stream_resource import api_time
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.errors import BadRequest
from appliance.media.clock import Clock


class Tokens:
    """List, make and revoke named tokens. A token is shown once, in the answer to the request that makes it."""

    def __init__(self, tokens: NamedTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/box/v1/tokens", self.all, Role.ADMIN)
        yield Route("POST", "/box/v1/tokens", self.add, Role.ADMIN)
        yield Route("DELETE", "/box/v1/tokens/{s}", self.revoke, Role.ADMIN)

    async def all(self, request: Request) -> Answer:
        return success([_shown(token) for token in self._tokens])

    async def add(self, request: Request) -> Answer:
        name, role = _wanted(await request.json())
        token = await self._tokens.add(name, role, self._clock.wall())
        return created({"name": name, "role": role.word, "token": token})

    async def revoke(self, request: Request, name: str) -> Answer:
        await self._tokens.revoke(name)
        return plain(200)


def _wanted(body: Any) -> tuple[str, Role]:
    if not isinstance(body, dict):
        raise BadRequest('Request body must be an object such as {"name":"anna","role":"operator"}')
    unknown = sorted(set(body) - {"name", "role"})
    if unknown:
        raise BadRequest(f"Unknown key: {unknown[0]}")
    name, role = body.get("name"), body.get("role")
    if not isinstance(name, str) or not isinstance(role, str):
        raise BadRequest('"name" and "role" are required, both strings')
    try:
        return name, Role.of(role)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _shown(token: NamedToken) -> dict[str, Any]:
    return {"createdTime": api_time(token.created), "name": token.name, "role": token.role.word}
