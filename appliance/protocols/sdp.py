"""Session descriptions (RFC 8866), as far as RTSP servers describe media with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.errors import RemoteProtocolError

LARGEST = 64 * 1024
MOST_MEDIA = 32

#: Payload types that need no rtpmap (RFC 3551 section 6): encoding, clock rate, channels.
STATIC = {0: ("PCMU", 8000, 1), 8: ("PCMA", 8000, 1), 14: ("MPA", 90_000, 0), 33: ("MP2T", 90_000, 0)}


@dataclass(frozen=True, slots=True)
class Media:
    """One ``m=`` section with its first payload type. ``encoding`` is upper case, "" when nothing tells it; ``clock``
    in Hz; ``channels`` 0 where it isn't said; ``parameters`` are those of ``fmtp`` with names in lower case."""

    kind: str
    payload_type: int
    encoding: str
    clock: int
    channels: int
    parameters: Mapping[str, str]
    control: str


@dataclass(frozen=True, slots=True)
class Description:
    """``control`` is the session's, "" without one."""

    control: str
    media: tuple[Media, ...]


@dataclass(slots=True)
class _Section:
    kind: str = ""
    payload_types: list[int] = field(default_factory=list)
    maps: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    formats: dict[int, dict[str, str]] = field(default_factory=dict)
    control: str = ""

    def media(self) -> Media:
        payload_type = self.payload_types[0]
        encoding, clock, channels = self.maps.get(payload_type) or STATIC.get(payload_type, ("", 0, 0))
        return Media(
            self.kind, payload_type, encoding, clock, channels, self.formats.get(payload_type, {}), self.control
        )


def parse(data: bytes) -> Description:
    """Lines that are not known are passed over. Raises RemoteProtocolError."""
    if len(data) > LARGEST:
        raise RemoteProtocolError("session description too long")
    session = _Section()
    sections: list[_Section] = []
    for line in data.decode("utf-8", "replace").splitlines():
        kind, separator, value = line.strip().partition("=")
        if not separator:
            continue
        if kind == "m":
            if len(sections) >= MOST_MEDIA:
                raise RemoteProtocolError("too many media in a session description")
            sections.append(_media_line(value))
        elif kind == "a":
            _attribute(sections[-1] if sections else session, value)
    return Description(session.control, tuple(section.media() for section in sections if section.payload_types))


def _media_line(value: str) -> _Section:
    parts = value.split()
    types = [int(part) for part in parts[3:] if part.isdecimal() and int(part) < 128]
    return _Section(kind=parts[0].lower() if parts else "", payload_types=types)


def _attribute(section: _Section, value: str) -> None:
    name, _, text = value.partition(":")
    match name.lower():
        case "control":
            section.control = text.strip()
        case "rtpmap":
            _rtpmap(section, text)
        case "fmtp":
            payload_type, _, parameters = text.strip().partition(" ")
            if payload_type.isdecimal():
                section.formats[int(payload_type)] = _parameters(parameters)


def _rtpmap(section: _Section, text: str) -> None:
    payload_type, _, mapping = text.strip().partition(" ")
    encoding, _, rest = mapping.strip().partition("/")
    clock, _, channels = rest.partition("/")
    if not payload_type.isdecimal() or not clock.isdecimal() or not 0 < int(clock) <= 1_000_000:
        raise RemoteProtocolError(f"broken rtpmap: {text[:80]}")
    count = int(channels) if channels.isdecimal() else 0
    if count > 255:
        raise RemoteProtocolError(f"broken rtpmap: {text[:80]}")
    section.maps[int(payload_type)] = (encoding.upper(), int(clock), count)


def _parameters(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            found[name.strip().lower()] = value.strip()
    return found
