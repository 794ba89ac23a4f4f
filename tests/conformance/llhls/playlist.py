"""Playlists as the draft has them, read strictly: what is not understood is a fault."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urljoin

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(,|$)')


@dataclass
class Part:
    uri: str
    duration: float
    independent: bool


@dataclass
class Segment:
    """``uri`` is "" while only parts of it are there."""

    msn: int
    uri: str = ""
    duration: float = 0.0
    parts: list[Part] = field(default_factory=list)
    discontinuity: bool = False
    discontinuity_sequence: int = 0
    gap: bool = False
    map: str = ""
    date_time: float | None = None


@dataclass
class MediaPlaylist:
    url: str
    text: str
    version: int = 1
    target_duration: int = 0
    part_target: float = 0.0
    server_control: dict[str, str] = field(default_factory=dict)
    media_sequence: int = 0
    discontinuity_sequence: int = 0
    skipped: int = 0
    segments: list[Segment] = field(default_factory=list)
    hints: list[dict[str, str]] = field(default_factory=list)
    reports: list[dict[str, str]] = field(default_factory=list)
    ended: bool = False

    @property
    def complete(self) -> list[Segment]:
        return [segment for segment in self.segments if segment.uri]

    @property
    def last(self) -> tuple[int, int]:
        """Number and part index of the newest part, as rendition reports count."""
        for segment in reversed(self.segments):
            return segment.msn, max(0, len(segment.parts) - 1)
        return self.media_sequence + self.skipped - 1, 0

    @property
    def next(self) -> tuple[int, int]:
        """What to ask for: the first part that isn't there."""
        if not self.segments:
            return self.media_sequence + self.skipped, 0
        last = self.segments[-1]
        return (last.msn + 1, 0) if last.uri else (last.msn, len(last.parts))

    @property
    def duration(self) -> float:
        return sum(one.duration or sum(part.duration for part in one.parts) for one in self.segments)

    @property
    def hint(self) -> str:
        """The hinted part, as an absolute URL, or ""."""
        return next((urljoin(self.url, hint["URI"]) for hint in self.hints if hint["TYPE"] == "PART"), "")

    def has(self, msn: int, part: int) -> bool:
        return self.last >= (msn, part) or any(one.msn == msn and len(one.parts) > part for one in self.segments)


@dataclass
class Master:
    url: str
    text: str
    independent: bool = False
    variants: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    media: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def renditions(self) -> list[str]:
        """Every media playlist, once."""
        return list(dict.fromkeys([url for url, _ in self.variants] + [url for url, _ in self.media]))


def attributes(text: str) -> dict[str, str]:
    """An attribute list. Raises ValueError when it isn't one."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is None or match[1] in found:
            raise ValueError(f"no attribute list: {text!r}")
        found[match[1]] = match[2].strip('"')
        at = match.end()
    return found


def parse_media(url: str, text: str) -> MediaPlaylist:
    """Raises ValueError for everything that a media playlist may not hold."""
    lines = text.split("\n")
    if lines[0] != "#EXTM3U" or lines[-1] != "" or "\r" in text:
        raise ValueError("no playlist, or cut off")
    playlist = MediaPlaylist(url, text)
    segment = Segment(-1)
    current_map = ""
    breaks = 0
    for line in lines[1:-1]:
        tag, _, value = line.partition(":")
        match tag:
            case "#EXT-X-VERSION":
                playlist.version = int(value)
            case "#EXT-X-TARGETDURATION":
                playlist.target_duration = int(value)
            case "#EXT-X-PART-INF":
                playlist.part_target = float(attributes(value)["PART-TARGET"])
            case "#EXT-X-SERVER-CONTROL":
                playlist.server_control = attributes(value)
            case "#EXT-X-MEDIA-SEQUENCE":
                playlist.media_sequence = int(value)
            case "#EXT-X-DISCONTINUITY-SEQUENCE":
                playlist.discontinuity_sequence = int(value)
            case "#EXT-X-SKIP":
                playlist.skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
            case "#EXT-X-INDEPENDENT-SEGMENTS":
                pass
            case "#EXT-X-MAP":
                current_map = urljoin(url, attributes(value)["URI"])
            case "#EXT-X-DISCONTINUITY":
                segment.discontinuity = True
                breaks += 1
            case "#EXT-X-PROGRAM-DATE-TIME":
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is None:
                    raise ValueError("a date without its zone")
                segment.date_time = moment.timestamp()
            case "#EXT-X-GAP":
                segment.gap = True
            case "#EXT-X-PART":
                found = attributes(value)
                part = Part(urljoin(url, found["URI"]), float(found["DURATION"]), found.get("INDEPENDENT") == "YES")
                segment.parts.append(part)
                segment.map = current_map
            case "#EXTINF":
                segment.duration = float(value.partition(",")[0])
            case "#EXT-X-PRELOAD-HINT":
                playlist.hints.append(attributes(value))
            case "#EXT-X-RENDITION-REPORT":
                playlist.reports.append(attributes(value))
            case "#EXT-X-ENDLIST":
                playlist.ended = True
            case "#EXT-X-DATERANGE":
                found = attributes(value)
                if "ID" not in found or datetime.fromisoformat(found["START-DATE"]).tzinfo is None:
                    raise ValueError("a date range without id or date")
            case "#EXT-X-CUE-OUT" | "#EXT-X-CUE-OUT-CONT" | "#EXT-X-CUE-IN" | "#EXT-X-PLAYLIST-TYPE":
                pass
            case _ if line.startswith("#") or not line:
                raise ValueError(f"not known: {line!r}")
            case _:
                segment.uri = urljoin(url, line)
                segment.map = current_map
                segment.discontinuity_sequence = playlist.discontinuity_sequence + breaks
                playlist.segments.append(segment)
                segment = Segment(-1)
    if segment.parts:
        segment.discontinuity_sequence = playlist.discontinuity_sequence + breaks
        playlist.segments.append(segment)
    for index, one in enumerate(playlist.segments):
        one.msn = playlist.media_sequence + playlist.skipped + index
    return playlist


def parse_master(url: str, text: str) -> Master:
    """Raises ValueError for what is no multivariant playlist."""
    lines = text.split("\n")
    if lines[0] != "#EXTM3U":
        raise ValueError("no playlist")
    master = Master(url, text)
    pending: dict[str, str] | None = None
    for line in lines[1:]:
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-INDEPENDENT-SEGMENTS":
            master.independent = True
        elif tag == "#EXT-X-MEDIA":
            found = attributes(value)
            if "URI" in found:
                master.media.append((urljoin(url, found["URI"]), found))
        elif tag == "#EXT-X-STREAM-INF":
            pending = attributes(value)
        elif line and not line.startswith("#"):
            if pending is None:
                raise ValueError("a URI without EXT-X-STREAM-INF")
            master.variants.append((urljoin(url, line), pending))
            pending = None
    return master
