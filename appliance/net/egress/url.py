"""A URL from outside, taken apart strictly: what two programs could read in two ways is refused."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import unquote

from appliance.errors import BadRequest
from appliance.media.url import Url

LONGEST: Final = 4096
DEFAULT_PORTS: Final = {
    "http": 80, "https": 443, "ws": 80, "wss": 443, "rtmp": 1935, "rtmps": 443, "rtsp": 554, "rtsps": 322, "ovt": 9000,
}  # fmt: skip

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
_IPV6: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
_USER: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*")
_ENCODED_CONTROL: Final = re.compile(r"%(?:0[0-9A-Fa-f]|1[0-9A-Fa-f]|7[Ff])")


def parse_url(text: str, schemes: Collection[str]) -> Url:
    """``schemes`` in lower case. Raises BadRequest with the reason; it never repeats a secret of the URL."""
    if len(text) > LONGEST:
        raise BadRequest(f"the URL is longer than {LONGEST} characters")
    if any(not character.isprintable() or character.isspace() for character in text):
        raise BadRequest("the URL has a space, a line break or a control character")
    if "\\" in text:
        raise BadRequest("the URL has a backslash")
    if _ENCODED_CONTROL.search(text):
        raise BadRequest("the URL has an encoded control character")
    match = _SCHEME.match(text)
    if match is None:
        raise BadRequest("the URL has no scheme", hint=f"It begins with {_listed(schemes)}.")
    scheme = match[1].lower()
    if scheme not in schemes:
        raise BadRequest(f"the URL's scheme is {scheme[:20]}, not {_listed(schemes)}")
    rest = text[match.end() :]
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    user, password, authority = _split_user(rest[:end])
    host, port = _split_port(authority)
    path, query = _split_query(rest[end:], scheme)
    return Url(scheme, host, port or DEFAULT_PORTS.get(scheme, 0), path, query, user, password)


def _listed(schemes: Collection[str]) -> str:
    return ", ".join(f"{scheme}://" for scheme in sorted(schemes))


def _split_user(authority: str) -> tuple[str, str, str]:
    given, at, authority = authority.rpartition("@")
    if at and not _USER.fullmatch(given):
        raise BadRequest("the URL's user and password have characters that must be percent-encoded")
    user, _, password = given.partition(":")
    return unquote(user), unquote(password), authority


def _split_port(authority: str) -> tuple[str, int]:
    if authority.startswith("["):
        match = _IPV6.match(authority)
        if match is None:
            raise BadRequest("the URL's IPv6 address is not one")
        host, after = match[1], authority[match.end() :]
        if after and not after.startswith(":"):
            raise BadRequest("the URL has something after its IPv6 address")
        colon, port = after[:1], after[1:]
    else:
        host, colon, port = authority.partition(":")
        host = _ascii(host)
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise BadRequest("the URL's port is not a number from 1 to 65535")
    return host, int(port) if port else 0


def _ascii(host: str) -> str:
    if not host:
        raise BadRequest("the URL has no host")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise BadRequest("the URL's host is no name") from error
    if not _NAME.fullmatch(host) or ".." in host:
        raise BadRequest("the URL's host is no name and no address")
    return host.lower()


def _split_query(rest: str, scheme: str) -> tuple[str, str]:
    # The stream id of SRT's access control begins with "#!::", and nobody encodes it.
    if scheme != "srt":
        rest = rest.partition("#")[0]
    path, _, query = rest.partition("?")
    return path.partition("#")[0], query
