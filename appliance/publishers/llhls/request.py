"""What a request says, read by hand: the delivery path sees tens of thousands of them a second."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from appliance.errors import BadRequest
from appliance.protocols.hls import query_value

_LONGEST_NUMBER = 18
#: Players that wait for the same part ask with the same words: so many queries are known, of so many bytes.
_QUERIES_KNOWN = 1024
_LONGEST_KNOWN = 128


@dataclass(frozen=True, slots=True)
class Directives:
    """The query of a playlist request (wire catalogue 4.3). ``msn`` and ``part`` -1 where not given.

    ``rewind`` lists all that DVR keeps, and has no effect without it. It is carried on to child URIs.
    """

    msn: int = -1
    part: int = -1
    skip: bool = False
    legacy: bool = False
    rewind: bool = True
    session: str = ""
    stream_key: str = ""

    @property
    def blocking(self) -> bool:
        return self.msn >= 0


def parse_directives(query: bytes, *, legacy: bool = False, rewind: bool = True) -> Directives:
    """Raises BadRequest when a delivery directive is not a number, or a part is asked for without its segment."""
    if len(query) <= _LONGEST_KNOWN:
        return _known_directives(query, legacy, rewind)
    return _read_directives(query, legacy, rewind)


def _read_directives(query: bytes, legacy: bool, rewind: bool) -> Directives:
    msn = part = -1
    skip = False
    session = stream_key = ""
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == b"_HLS_msn":
            msn = _number(value, "_HLS_msn")
        elif key == b"_HLS_part":
            part = _number(value, "_HLS_part")
        elif key == b"_HLS_skip":
            skip = value == b"YES" or value == b"v2"
        elif key == b"_HLS_legacy":
            legacy = value.upper() == b"YES"
        elif key == b"_HLS_rewind":
            rewind = value.upper() == b"YES"
        elif key == b"session":
            session = value.decode("latin-1")
        elif key == b"stream_key":
            stream_key = unquote_to_bytes(value).decode("utf-8", "replace")
    if part >= 0 and msn < 0:
        raise BadRequest("_HLS_part needs _HLS_msn")
    return Directives(msn, part, skip, legacy, rewind, session, stream_key)


_known_directives = lru_cache(_QUERIES_KNOWN)(_read_directives)


def child_query(given: Directives, *, legacy: bool, rewind: bool) -> str:
    """What the URIs inside a master playlist carry on, where it differs from the defaults."""
    pairs = []
    if given.legacy != legacy:
        pairs.append(f"_HLS_legacy={'YES' if given.legacy else 'NO'}")
    if given.rewind != rewind:
        pairs.append(f"_HLS_rewind={'YES' if given.rewind else 'NO'}")
    if given.stream_key:
        pairs.append(stream_key_query(given))
    return "&".join(pairs)


def stream_key_query(given: Directives) -> str:
    return f"stream_key={query_value(given.stream_key)}" if given.stream_key else ""


def _number(value: bytes, name: str) -> int:
    if not value.isdigit() or len(value) > _LONGEST_NUMBER:
        raise BadRequest(f"{name} is not a number")
    return int(value)
