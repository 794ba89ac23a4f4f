"""``kiln token add | list | revoke``: named tokens of a box that runs, or of a state folder that nobody uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trio

from appliance.access.named_tokens import NamedTokens
from appliance.access.roles import Role
from appliance.cli.state_folder import SOCKET, default_state
from appliance.errors import KilnError
from appliance.settings.store import Store

PATH = "/box/v1/tokens"


class TokenBook:
    """The tokens of a box, wherever they are kept now. Each call raises KilnError."""

    async def add(self, name: str, role: Role) -> str:
        """The new token in plain."""
        raise NotImplementedError

    async def all(self) -> list[tuple[str, str]]:
        """(name, role) of each."""
        raise NotImplementedError

    async def revoke(self, name: str) -> None:
        raise NotImplementedError


Work = Callable[[TokenBook], Coroutine[Any, Any, None]]


def token(action: str, name: str, role: str, *, url: str, token: str, state: Path | None, insecure: bool) -> int:
    """Do ``action`` (``add``, ``list``, ``revoke``). Without a URL: over the socket of the box that runs with this
    state folder, and in the folder itself when none runs. Raises KilnError."""

    async def work(book: TokenBook) -> None:
        if action == "add":
            print(await book.add(name, Role.of(role)))
        elif action == "revoke":
            await book.revoke(name)
        else:
            for each, its_role in await book.all():
                print(f"{each:<32} {its_role}")

    url = url or os.environ.get("KILN_URL", "")
    token = token or os.environ.get("KILN_ACCESS_TOKEN", "")
    folder = state or default_state()
    if url or (folder / SOCKET).exists():
        if trio.run(_asked, work, url, token, folder / SOCKET, not insecure):
            return 0
        if url:
            raise KilnError(f"nothing answers at {url}", hint="Is that the box?")
    if not folder.is_dir():
        raise KilnError(f"there is no state folder {folder}", hint="Run `kiln run` once, or choose another --state.")
    trio.run(_in_folder, work, folder)
    return 0


async def _asked(work: Work, url: str, token: str, socket: Path, verify: bool) -> bool:
    """Whether there is a box that answers."""
    from appliance.console.client import Client, NotReachable, Refused

    client = Client(url=url, token=token, socket=socket, verify=verify)

    class Asked(TokenBook):
        async def add(self, name: str, role: Role) -> str:
            made = await client.post(PATH, {"name": name, "role": role.word})
            return str(made["token"])

        async def all(self) -> list[tuple[str, str]]:
            return [(each["name"], each["role"]) for each in await client.get(PATH)]

        async def revoke(self, name: str) -> None:
            await client.delete(f"{PATH}/{quote(name, safe='')}")

    async with client:
        try:
            await work(Asked())
        except NotReachable:
            return False
        except Refused as refusal:
            raise KilnError(str(refusal)) from refusal
    return True


async def _in_folder(work: Work, folder: Path) -> None:
    store = await Store.open(folder / "kiln.sqlite")
    try:
        tokens = NamedTokens(store)
        await tokens.load()

        class Kept(TokenBook):
            async def add(self, name: str, role: Role) -> str:
                return await tokens.add(name, role, time.time_ns())

            async def all(self) -> list[tuple[str, str]]:
                return [(each.name, each.role.word) for each in tokens]

            async def revoke(self, name: str) -> None:
                await tokens.revoke(name)

        await work(Kept())
    finally:
        with trio.CancelScope(shield=True):
            await store.close()
