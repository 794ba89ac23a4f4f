"""The route table: which handler answers which method and path (catalogue 1.0).

Patterns see the path as it was sent, percent escapes and all, and an empty segment is a name like any other; there are
no redirects and no 405. Hence a table of its own: one compiled expression a method, however many routes there are.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from appliance.access.roles import Role
from appliance.api.contracts import Contract
from appliance.api.envelope import Answer

#: Path segments in patterns: ``{v}`` any text, ``{a}`` any without a colon (an action follows one).
SEGMENTS = {"{v}": "([^/]*)", "{a}": "([^/:]*)", "{s}": "([^/]*)"}

Handler = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """``handler`` is called with the Request, then the names in the path, in order. A GET route answers HEAD as well.

    ``role`` is the least that a caller must hold. ``contract`` tells what it takes and gives, in the OpenAPI document;
    without it that is looked up in ``appliance.api.contracts.CONTRACTS``.
    """

    method: str
    path: str
    handler: Handler
    role: Role
    contract: Contract | None = None


class RouteTable:
    """Finds handlers. Of routes that match the same path the first one wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._by_method: dict[str, tuple[re.Pattern[str], dict[int, tuple[Route, int]]]] = {}
        for method in dict.fromkeys(route.method for route in self.routes):
            self._by_method[method] = _compile([route for route in self.routes if route.method == method])
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
        """The route and the names in ``path`` that its handler takes; None when there is none."""
        known = self._by_method.get(method)
        match = known[0].fullmatch(path) if known else None
        if known is None or match is None or match.lastindex is None:
            return None
        route, names = known[1][match.lastindex]
        first = match.lastindex
        return route, match.groups()[first : first + names]


def _compile(routes: list[Route]) -> tuple[re.Pattern[str], dict[int, tuple[Route, int]]]:
    """One expression with a group around each route; the group that closes last tells which one matched."""
    branches: list[str] = []
    found: dict[int, tuple[Route, int]] = {}
    group = 1
    for route in routes:
        pattern = re.escape(route.path).replace(r"\{", "{").replace(r"\}", "}")
        for name, segment in SEGMENTS.items():
            pattern = pattern.replace(name, segment)
        branches.append(f"({pattern})")
        names = sum(route.path.count(name) for name in SEGMENTS)
        found[group] = (route, names)
        group += names + 1
    return re.compile("|".join(branches), re.DOTALL), found
