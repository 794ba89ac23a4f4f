"""Who we are to an RTSP server: Basic (RFC 7617) and Digest (RFC 7616, MD5 and SHA-256)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

_PART = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES: dict[str, Callable[[bytes], str]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "sha-256": lambda data: hashlib.sha256(data).hexdigest(),
}


class Credentials:
    """``challenged`` takes what a 401 says; from then on ``header`` answers for each request.

    ``nonce_of_ours`` makes the client nonce (hexadecimal text).
    """

    def __init__(self, user: str, password: str, nonce_of_ours: Callable[[], str]) -> None:
        self._user = user
        self._password = password
        self._make_nonce = nonce_of_ours
        self._scheme = ""
        self._challenge: dict[str, str] = {}
        self._count = 0

    def challenged(self, headers: str) -> bool:
        """``headers`` are the WWW-Authenticate lines. Whether there is a point in asking again: a scheme that we know,
        and not the very challenge that we have answered already."""
        best: tuple[str, dict[str, str]] | None = None
        for line in headers.split("\n"):
            scheme, _, rest = line.strip().partition(" ")
            if scheme.lower() == "digest":
                parts = {name.lower(): quoted or plain for name, quoted, plain in _PART.findall(rest)}
                if parts.get("nonce") and parts.get("algorithm", "md5").lower() in _HASHES:
                    best = ("digest", parts)
                    break
            elif scheme.lower() == "basic":
                best = best or ("basic", {})
        if best is None or (best == (self._scheme, self._challenge)):
            return False
        self._scheme, self._challenge = best
        self._count = 0
        return True

    def header(self, method: str, url: str) -> str:
        """The value of Authorization, "" before a challenge."""
        if self._scheme == "basic":
            pair = f"{self._user}:{self._password}".encode()
            return "Basic " + base64.b64encode(pair).decode()
        return self._digest(method, url) if self._scheme == "digest" else ""

    def _digest(self, method: str, url: str) -> str:
        challenge = self._challenge
        algorithm = challenge.get("algorithm", "MD5")
        digest = _HASHES[algorithm.lower()]
        realm, nonce = challenge.get("realm", ""), challenge["nonce"]
        secret = digest(f"{self._user}:{realm}:{self._password}".encode())
        what = digest(f"{method}:{url}".encode())
        parts = [f'username="{self._user}"', f'realm="{realm}"', f'nonce="{nonce}"', f'uri="{url}"']
        if "auth" in [each.strip() for each in challenge.get("qop", "").split(",")]:
            self._count += 1
            count, own = f"{self._count:08x}", self._make_nonce()
            answer = digest(f"{secret}:{nonce}:{count}:{own}:auth:{what}".encode())
            parts += ["qop=auth", f"nc={count}", f'cnonce="{own}"']
        else:
            answer = digest(f"{secret}:{nonce}:{what}".encode())
        parts.append(f'response="{answer}"')
        if "algorithm" in challenge:
            parts.append(f"algorithm={algorithm}")
        if "opaque" in challenge:
            parts.append(f'opaque="{challenge["opaque"]}"')
        return "Digest " + ", ".join(parts)
