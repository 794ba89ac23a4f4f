"""``kiln api GET /v1/vhosts``: ask the API of a box that runs, here or elsewhere."""

from __future__ import annotations

import json
import os
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.cli.state_folder import SOCKET, default_state
from appliance.errors import KilnError

if TYPE_CHECKING:
    from appliance.console.client import Client, Reply

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def api(
    method: str, path: str, *, data: str | None, url: str, token: str, state: Path | None, insecure: bool
) -> int:
    """Print the answer. The exit status is 0 for a good one, 1 where the request is refused (4xx), 2 where the box
    can't (5xx) and for wrong usage.

    ``data`` ``-`` is standard input. Raises KilnError when nothing answers.
    """
    # httpx is not for the engine, which has this package too.
    from appliance.console.client import Client, NotReachable

    method = method.upper()
    if method not in METHODS:
        print(f"kiln api: {method} is none of {', '.join(METHODS)}", file=sys.stderr)
        return 2
    if not path.startswith("/"):
        print(f"kiln api: a path begins with /, such as /v1/vhosts: {path}", file=sys.stderr)
        return 2
    url = url or os.environ.get("KILN_URL", "")
    token = token or os.environ.get("KILN_ACCESS_TOKEN", "")
    body = sys.stdin.buffer.read() if data == "-" else None if data is None else data.encode()
    socket = (state or default_state()) / SOCKET
    try:
        return trio.run(_ask, Client(url=url, token=token, socket=socket, verify=not insecure), method, path, body)
    except NotReachable as error:
        hint = "Is that the box?" if url else "Is `kiln run` running with this --state? From elsewhere use --url."
        raise KilnError(str(error), hint=hint) from error
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read has seen enough; nothing may be said into the broken pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


async def _ask(client: Client, method: str, path: str, body: bytes | None) -> int:
    from appliance.console.client import Reply

    async with client:
        pieces: list[bytes] = []
        head: Reply | None = None
        async with aclosing(client.open(method, path, body)) as answer:
            async for piece in answer:
                if isinstance(piece, Reply):
                    head = piece
                elif head is not None and head.content_type.startswith("text/event-stream"):
                    _write(piece)
                else:
                    pieces.append(piece)
        assert head is not None
        _write(_pretty(head, b"".join(pieces)))
        return 0 if head.status < 400 else 1 if head.status < 500 else 2


def _pretty(head: Reply, body: bytes) -> bytes:
    """JSON indented; all else as it is."""
    if not body:
        return b"" if head.content_type.startswith("text/event-stream") else f"{head.status}\n".encode()
    if head.content_type.startswith("application/json"):
        try:
            return json.dumps(json.loads(body), indent=2, ensure_ascii=False).encode() + b"\n"
        except ValueError:
            return body
    return body


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
