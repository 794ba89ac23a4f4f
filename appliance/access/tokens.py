"""The access token of the API: who gives it, where it is kept, how it is compared (DECISIONS, Access token)."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import trio

from appliance.errors import KilnError
from appliance.settings.store import Store

log = logging.getLogger("kiln.access")

FILE_NAME = "access_token"
VARIABLE = "KILN_ACCESS_TOKEN"
SHORTEST = 8
"""A token file with fewer characters is taken for damaged, never for a token."""

Origin = Literal["environment", "Server.xml", "file", "store", "new"]
_STORE_KEY = ("access", "token")
_SALT_SIZE = 16


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The token that the API asks for.

    ``origin``: ``environment``, ``Server.xml``, ``file`` (made at an earlier start), ``new`` (made just now), or
    ``store`` (its file is gone: known by its hash alone). ``plain`` is None for the last. ``path`` is the token file.
    """

    origin: Origin
    path: Path
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    plain: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    async def load(
        cls, state_dir: Path, environment: Mapping[str, str], server_token: str = "", store: Store | None = None
    ) -> AccessToken:
        """KILN_ACCESS_TOKEN of ``environment``, else ``server_token`` (Managers/API/AccessToken), else the stored one:
        32 random bytes as url-safe text, made at the first start into ``state_dir/access_token`` (mode 0600).

        The file is the only plain copy; ``store`` keeps a hash, so that the token holds when the file is taken away.
        Never raises for a state that can't be written: the token then lives until the next start, with a warning.
        """
        path = state_dir / FILE_NAME
        if given := environment.get(VARIABLE):
            return _of(given, "environment", path)
        if server_token:
            return _of(server_token, "Server.xml", path)
        plain, warnings = await trio.to_thread.run_sync(_read, path)
        hashed = await _stored_hash(store, warnings)
        if plain:
            token = _of(plain, "file", path, warnings)
        elif hashed and len(hashed) == _SALT_SIZE + sha256().digest_size:
            return cls("store", path, hashed[:_SALT_SIZE], hashed[_SALT_SIZE:], None, tuple(warnings))
        else:
            made = secrets.token_urlsafe(32)
            warnings += await trio.to_thread.run_sync(_write, path, made)
            token = _of(made, "new", path, warnings)
        if store and not (hashed and token._hashed_as(hashed)):
            try:
                await store.put(*_STORE_KEY, token.salt + token.digest)
            except KilnError as error:
                log.warning("token=%s its hash is not stored: %s", token.origin, error)
        return token

    def matches(self, candidate: bytes) -> bool:
        """Whether ``candidate`` is the token; takes the same time whatever it is."""
        return hmac.compare_digest(_digest(self.salt, candidate), self.digest)

    def _hashed_as(self, hashed: bytes) -> bool:
        salt, digest = hashed[:_SALT_SIZE], hashed[_SALT_SIZE:]
        return self.plain is not None and hmac.compare_digest(_digest(salt, self.plain.encode()), digest)


async def _stored_hash(store: Store | None, warnings: list[str]) -> bytes | None:
    try:
        return await store.get(*_STORE_KEY) if store else None
    except KilnError as error:
        warnings.append(str(error))
        return None


def _of(plain: str, origin: Origin, path: Path, warnings: list[str] | None = None) -> AccessToken:
    salt = secrets.token_bytes(_SALT_SIZE)
    for warning in warnings or ():
        log.warning("token=%s %s", origin, warning)
    return AccessToken(origin, path, salt, _digest(salt, plain.encode()), plain, tuple(warnings or ()))


def _digest(salt: bytes, plain: bytes) -> bytes:
    return sha256(salt + plain).digest()


def _read(path: Path) -> tuple[str, list[str]]:
    """The token of the file, "" when there is none that is one, and warnings."""
    warnings = []
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "", []
    except OSError as error:
        return "", [f"{path} can't be read ({error.strerror})"]
    with os.fdopen(opened, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return "", [f"{path} is not a file"]
        if status.st_mode & 0o077:
            warnings.append(f"{path} was open to others; it is closed now, but change the token")
            os.fchmod(file.fileno(), 0o600)
        text = file.read(4096).decode("utf-8", "replace").strip()
    if len(text) < SHORTEST:
        return "", [*warnings, f"{path} holds no token of {SHORTEST} characters or more"]
    return text, warnings


def _write(path: Path, token: str) -> list[str]:
    """Make the file, whole or not at all, also when the power goes."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "w") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        return [f"{path} can't be written ({error.strerror}): the next start makes another token"]
    return []
