"""A request as a handler sees it: the names in its path, who asks, and its body, which is read when it is asked for."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from appliance.access.roles import Role
from appliance.api.body import LARGEST, parse_json, read_body
from appliance.net.asgi import Receive, Scope


class Request:
    """``names`` are those in the path, as they were sent. ``role`` is the caller's."""

    __slots__ = ("_receive", "names", "role", "scope")

    def __init__(self, scope: Scope, receive: Receive, names: tuple[str, ...] = (), role: Role = Role.ADMIN) -> None:
        self.scope = scope
        self.names = names
        self.role = role
        self._receive = receive

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def path(self) -> str:
        """As it was sent, percent escapes and all, without the query."""
        raw: bytes = self.scope["raw_path"]
        return raw.decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The query string, the last value of each name."""
        raw: bytes = self.scope.get("query_string", b"")
        return {name: values[-1] for name, values in parse_qs(raw.decode("latin-1"), keep_blank_values=True).items()}

    def header(self, name: bytes) -> bytes:
        """The first header called ``name`` (lower case), b"" without one."""
        return next((value for key, value in self.scope["headers"] if key == name), b"")

    async def body(self, limit: int = LARGEST) -> bytes:
        """The body, at most ``limit`` bytes; to be read once. Raises TooLarge, ClientDisconnected."""
        return await read_body(self._receive, limit)

    async def gone(self) -> None:
        """Until the client has left; to be awaited once the body is read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def json(self, limit: int = LARGEST) -> Any:
        """The body as JSON, None when it is empty. To be read before anything is looked up. Raises BadRequest too."""
        return parse_json(await self.body(limit))
