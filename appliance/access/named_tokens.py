"""Named tokens: more keys to the API than the one access token, each with a role, each revocable.

A token is 32 random bytes as url-safe text with its name in front (``anna.k8Qx…``), shown once, when it is made. What
is kept is its SHA-256: with so much chance in it, salt and stretching add nothing.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from appliance.access.roles import Caller, Role
from appliance.errors import BadRequest, KilnError, NameTaken, NotFound
from appliance.settings.names import check_name
from appliance.settings.store import Store

log = logging.getLogger("kiln.access")

KIND = "named-token"
MOST = 256


@dataclass(frozen=True, slots=True)
class NamedToken:
    """``created`` is nanoseconds since 1970."""

    name: str
    role: Role
    digest: bytes
    created: int


class NamedTokens:
    """All named tokens, in memory and in the store. Every change is durable when it returns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tokens: dict[str, NamedToken] = {}

    async def load(self) -> None:
        """Those of the store. One that can't be read is left out, with a warning; a store that can't be is no tokens.
        """
        try:
            entries = await self._store.list(KIND)
        except KilnError as error:
            log.warning("named tokens can't be read: %s", error)
            return
        for name, value in entries.items():
            try:
                self._tokens[name] = _read(name, value)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("named token left out name=%s reason=%s", name, error)

    def __iter__(self) -> Iterator[NamedToken]:
        return iter(sorted(self._tokens.values(), key=lambda token: token.name))

    async def add(self, name: str, role: Role, now: int) -> str:
        """The new token, in plain: nobody can tell it again. ``now`` is nanoseconds since 1970.

        Raises BadRequest (name outside the grammar, too many), NameTaken, and what the store raises.
        """
        check_name("token", name)
        if name in self._tokens:
            raise NameTaken(f"There is a token {name} already", hint="Revoke that one, or choose another name.")
        if len(self._tokens) >= MOST:
            raise BadRequest(f"There are {MOST} tokens: revoke one first")
        plain = f"{name}.{secrets.token_urlsafe(32)}"
        token = NamedToken(name, role, _digest(plain.encode()), now)
        # Before the wait, so that a second request for the same name is refused; gone again when nothing is kept.
        self._tokens[name] = token
        try:
            await self._store.put(KIND, name, _written(token))
        except BaseException:
            self._tokens.pop(name, None)
            raise
        log.info("token made name=%s role=%s", name, role.word)
        return plain

    async def revoke(self, name: str) -> None:
        """It opens nothing from now on. Raises NotFound, and what the store raises (then it is still good)."""
        if name not in self._tokens:
            raise NotFound(f"There is no token {name}")
        await self._store.delete(KIND, name)
        self._tokens.pop(name, None)
        log.info("token revoked name=%s", name)

    def find(self, candidate: bytes) -> Caller | None:
        """Who shows ``candidate``, None when it is nobody's."""
        name = candidate.rpartition(b".")[0].decode("ascii", "replace")
        token = self._tokens.get(name)
        if token is None or not hmac.compare_digest(_digest(candidate), token.digest):
            return None
        return Caller(token.name, token.role)


def _digest(plain: bytes) -> bytes:
    return sha256(plain).digest()


def _written(token: NamedToken) -> bytes:
    entry = {"role": token.role.word, "sha256": token.digest.hex(), "created": token.created}
    return json.dumps(entry).encode()


def _read(name: str, value: bytes) -> NamedToken:
    entry = json.loads(value)
    digest = bytes.fromhex(entry["sha256"])
    if len(digest) != sha256().digest_size:
        raise ValueError("its hash is cut off")
    return NamedToken(name, Role.of(entry["role"]), digest, int(entry["created"]))
