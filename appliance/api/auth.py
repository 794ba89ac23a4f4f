"""Who may call the API: ``Authorization: Basic <base64 of a token>`` (catalogue 2.4)."""

from __future__ import annotations

import base64
import binascii
import hmac
import math
from collections.abc import Callable
from dataclasses import dataclass

from appliance.access.guessing import Guessing
from appliance.access.roles import ADMIN, Caller

CHALLENGE = (b"www-authenticate", b'Basic realm="OvenMediaEngine"')


@dataclass(frozen=True, slots=True)
class Refusal:
    """``status`` is 401, or 429 for one bad token too many; then ``retry_after`` is in seconds."""

    status: int
    text: str
    retry_after: int = 0


class TokenCheck:
    """``matches`` compares with the access token in constant time, ``named`` finds the caller of any other token.

    A header that has passed as the access token is known by its bytes. ``guessing`` counts the bad tokens of an
    address; a good one passes whatever was guessed before.
    """

    def __init__(
        self, matches: Callable[[bytes], bool], named: Callable[[bytes], Caller | None] | None = None,
        guessing: Guessing | None = None,
    ) -> None:  # fmt: skip
        self._matches = matches
        self._named = named
        self._guessing = guessing
        self._passed = b""

    def admit(self, header: bytes | None, address: str) -> Caller | Refusal:
        """Who calls with this ``Authorization`` header from ``address``, or why they may not."""
        if not header:
            return Refusal(401, "Authorization header is required to call API")
        if hmac.compare_digest(header, self._passed):
            return ADMIN
        parts = header.split(b" ")
        if len(parts) != 2 or not parts[1]:
            return Refusal(401, "Invalid authorization header")
        scheme, credential = parts
        if scheme.lower() != b"basic":
            return Refusal(401, f"Not supported credential type: {scheme.decode('latin-1')}")
        try:
            token = base64.b64decode(credential, validate=True)
        except binascii.Error:
            return Refusal(401, "Invalid credential format")
        if self._matches(token):
            self._passed = header
            return ADMIN
        caller = self._named(token) if self._named else None
        return caller or self._bad_token(address)

    def _bad_token(self, address: str) -> Refusal:
        wait = self._guessing.failed(address) if self._guessing else 0.0
        if wait > 0:
            return Refusal(429, "Too many invalid credentials", max(1, math.ceil(wait)))
        return Refusal(401, "Invalid credential")
