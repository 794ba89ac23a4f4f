"""Playlists as a strict, independent reader sees them (RFC 8216 and its second edition)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urljoin

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)(?:,|$)')


def attributes(text: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


@dataclass
class Part:
    uri: str
    duration: float
    independent: bool


@dataclass
class Segment:
    """``uri`` is "" while the segment is not complete. ``map`` is the URI of its init section."""

    msn: int
    uri: str = ""
    duration: float = 0.0
    parts: list[Part] = field(default_factory=list)
    discontinuity: bool = False
    gap: bool = False
    date_time: str = ""
    map: str = ""


@dataclass
class MediaPlaylist:
    """All URIs are absolute. The last segment may be incomplete; it is there only when it has parts."""

    url: str
    text: str
    target_duration: int = 0
    part_target: float = 0.0
    part_hold_back: float = 0.0
    media_sequence: int = 0
    discontinuity_sequence: int = 0
    skipped: int = 0
    segments: list[Segment] = field(default_factory=list)
    hint: str = ""
    reports: list[dict[str, str]] = field(default_factory=list)
    ended: bool = False

    @property
    def edge(self) -> tuple[int, int]:
        """The media sequence number and part index that come next."""
        if not self.segments:
            return self.media_sequence, 0
        last = self.segments[-1]
        return (last.msn + 1, 0) if last.uri else (last.msn, len(last.parts))


def parse_media(url: str, text: str) -> MediaPlaylist:
    """Raises ValueError for what is no media playlist."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        raise ValueError(f"no playlist: {text[:200]!r}")
    playlist = MediaPlaylist(url, text)
    current = Segment(-1)
    init = ""
    for line in lines[1:]:
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-TARGETDURATION":
            playlist.target_duration = int(value)
        elif tag == "#EXT-X-PART-INF":
            playlist.part_target = float(attributes(value)["PART-TARGET"])
        elif tag == "#EXT-X-SERVER-CONTROL":
            playlist.part_hold_back = float(attributes(value).get("PART-HOLD-BACK", "0"))
        elif tag == "#EXT-X-MEDIA-SEQUENCE":
            playlist.media_sequence = int(value)
        elif tag == "#EXT-X-DISCONTINUITY-SEQUENCE":
            playlist.discontinuity_sequence = int(value)
        elif tag == "#EXT-X-SKIP":
            playlist.skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
        elif tag == "#EXT-X-MAP":
            init = urljoin(url, attributes(value)["URI"])
        elif tag == "#EXT-X-DISCONTINUITY":
            current.discontinuity = True
        elif tag == "#EXT-X-GAP":
            current.gap = True
        elif tag == "#EXT-X-PROGRAM-DATE-TIME":
            current.date_time = value
        elif tag == "#EXT-X-PART":
            found = attributes(value)
            current.map = init
            current.parts.append(
                Part(urljoin(url, found["URI"]), float(found["DURATION"]), found.get("INDEPENDENT") == "YES")
            )
        elif tag == "#EXTINF":
            current.duration = float(value.rstrip(",").split(",")[0])
        elif tag == "#EXT-X-PRELOAD-HINT":
            if attributes(value)["TYPE"] == "PART":
                playlist.hint = urljoin(url, attributes(value)["URI"])
        elif tag == "#EXT-X-RENDITION-REPORT":
            playlist.reports.append(attributes(value))
        elif tag == "#EXT-X-ENDLIST":
            playlist.ended = True
        elif not line.startswith("#"):
            current.uri = urljoin(url, line)
            current.map = init
            playlist.segments.append(current)
            current = Segment(-1)
    if current.parts:
        playlist.segments.append(current)
    for index, segment in enumerate(playlist.segments):
        segment.msn = playlist.media_sequence + playlist.skipped + index
    return playlist


@dataclass
class Variant:
    uri: str
    attributes: dict[str, str]


@dataclass
class MasterPlaylist:
    """``media`` are the EXT-X-MEDIA lines that have a URI; all URIs are absolute."""

    url: str
    text: str
    variants: list[Variant] = field(default_factory=list)
    media: list[Variant] = field(default_factory=list)


def parse_master(url: str, text: str) -> MasterPlaylist:
    """Raises ValueError for what is no multivariant playlist."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        raise ValueError(f"no playlist: {text[:200]!r}")
    master = MasterPlaylist(url, text)
    pending: dict[str, str] | None = None
    for line in lines[1:]:
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-MEDIA":
            found = attributes(value)
            if "URI" in found:
                master.media.append(Variant(urljoin(url, found["URI"]), found))
        elif tag == "#EXT-X-STREAM-INF":
            pending = attributes(value)
        elif not line.startswith("#") and pending is not None:
            master.variants.append(Variant(urljoin(url, line), pending))
            pending = None
    if not master.variants:
        raise ValueError(f"no variant: {text[:200]!r}")
    return master
