"""Who may call the API: ``Authorization: Basic <base64 of the access token>`` (catalogue 2.4)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable

CHALLENGE = (b"www-authenticate", b'Basic realm="OvenMediaEngine"')


class TokenCheck:
    """``matches`` compares the decoded token in constant time. A header that has passed once is known by its bytes."""

    def __init__(self, matches: Callable[[bytes], bool]) -> None:
        self._matches = matches
        self._passed = b""

    def refusal(self, header: bytes | None) -> str:
        """Why a request with this ``Authorization`` header is refused, "" when it may pass."""
        if not header:
            return "Authorization header is required to call API"
        if hmac.compare_digest(header, self._passed):
            return ""
        parts = header.split(b" ")
        if len(parts) != 2 or not parts[1]:
            return "Invalid authorization header"
        scheme, credential = parts
        if scheme.lower() != b"basic":
            return f"Not supported credential type: {scheme.decode('latin-1')}"
        try:
            token = base64.b64decode(credential, validate=True)
        except binascii.Error:
            return "Invalid credential format"
        if not self._matches(token):
            return "Invalid credential"
        self._passed = header
        return ""
