"""Answers that need no task of their own: what stands ready, or will once a lot is released.

An application that knows such answers gives them as generators: each yields a ``Wait`` for every lot it has to wait
in, is sent whether that lot was released (False: the deadline came first), and returns its ``Reply``. The server drives
them from one task for all connections; ``answer_by_asgi`` drives the same ones as an ASGI application. A generator
raises nothing that a client could cause.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import trio

from appliance.net.asgi import ASGIApp, Headers, Receive, Scope, Send
from appliance.net.parking import ParkingLot


class Wait:
    """The next release of ``lot``, or ``deadline`` by ``trio.current_time()``."""

    __slots__ = ("deadline", "lot")

    def __init__(self, lot: ParkingLot, deadline: float) -> None:
        self.lot = lot
        self.deadline = deadline


class Reply:
    """A whole response, which may be given any number of times. ``headers`` tell its content-length.

    ``fields`` (HTTP/1) and ``block`` (HTTP/2) cache what a server made of ``headers``.
    """

    __slots__ = ("block", "buffers", "fields", "headers", "size", "status")

    def __init__(self, status: int, headers: Headers, buffers: Sequence[bytes] = ()) -> None:
        self.status = status
        self.headers = headers
        self.buffers = buffers
        self.size = sum(map(len, buffers))
        self.fields = b""
        self.block = b""


Answering = Generator[Wait, bool, Reply]
Direct = Callable[[Scope], Answering | None]
"""The answer to a GET request without a body; None when the ASGI application has to give it."""


class DirectApp(Protocol):
    """An ASGI application that has ``direct`` answers too."""

    direct: Direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class WithDirect:
    """``app``, and beside it the direct answers of a part of it."""

    def __init__(self, app: ASGIApp, direct: Direct) -> None:
        self._app = app
        self.direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def direct_of(app: ASGIApp) -> Direct | None:
    """The direct answers of ``app``, if it has any."""
    direct: Direct | None = getattr(app, "direct", None)
    return direct


def advance(answering: Answering, released: bool | None = None) -> Reply | Wait:
    """The reply, or what has to be waited for before it; ``released`` is how the last wait ended."""
    try:
        return next(answering) if released is None else answering.send(released)
    except StopIteration as end:
        reply: Reply = end.value
        return reply


async def answer_by_asgi(answering: Answering, scope: Scope, send: Send) -> None:
    """Give that answer as an ASGI application does, under any server."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    park = extensions.get("kiln.park") or _park_without_server
    step = advance(answering)
    while isinstance(step, Wait):
        step = advance(answering, await park(step.lot, step.deadline))
    await send({"type": "http.response.start", "status": step.status, "headers": step.headers})
    buffers = () if scope["method"] == "HEAD" else step.buffers
    if len(buffers) > 1 and "kiln.buffers" in extensions:
        await send({"type": "http.response.body", "buffers": list(buffers)})
        return
    for buffer in buffers[:-1]:
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
    await send({"type": "http.response.body", "body": buffers[-1] if buffers else b""})


async def _park_without_server(lot: ParkingLot, deadline: float) -> bool:
    """For servers that don't offer ``kiln.park``."""
    with trio.move_on_at(deadline):
        return await lot.park()
    return False
