"""HLS playlists, read strictly (RFC 8216). Sans-IO: bytes in as they come, one playlist out.

What a playlist says is not believed further than it must be: everything is bounded, and URIs are left as written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from appliance.errors import RemoteProtocolError

#: Bytes of a playlist, characters of a line, segments or variants in it.
LARGEST: Final = 4 * 1024 * 1024
LONGEST_LINE: Final = 16 * 1024
MOST_SEGMENTS: Final = 50_000
MOST_VARIANTS: Final = 1000
#: Seconds; what is longer is no segment.
LONGEST_SEGMENT: Final = 3600.0

_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",\s]*)(?:,|$)')
_NUMBER: Final = re.compile(r"\d{1,19}")
_DECIMAL: Final = re.compile(r"\d{1,9}(?:\.\d{1,12})?")
_RANGE: Final = re.compile(r"(\d{1,15})(?:@(\d{1,15}))?")
_IV: Final = re.compile(r"0[xX]([0-9A-Fa-f]{1,32})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``size`` bytes from ``offset`` on."""

    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class Key:
    """``method`` other than NONE; ``iv`` 16 bytes, None: the media sequence number."""

    method: str
    uri: str
    iv: bytes | None = None
    format: str = "identity"


@dataclass(frozen=True, slots=True)
class Map:
    """Where the init section is."""

    uri: str
    range: ByteRange | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """``number`` is its media sequence number; ``epoch`` its discontinuity sequence number; ``duration`` in seconds.
    ``gap``: it is said not to be there."""

    number: int
    epoch: int
    uri: str
    duration: float
    range: ByteRange | None = None
    key: Key | None = None
    map: Map | None = None
    gap: bool = False


@dataclass(slots=True)
class MediaPlaylist:
    """``target`` is the target duration in seconds; ``ended``: no more segments come."""

    target: float
    segments: list[Segment]
    ended: bool
    sequence: int


@dataclass(frozen=True, slots=True)
class Variant:
    """``bandwidth`` in bit/s; ``audio`` the group that its sound is in, "" when it has its own."""

    uri: str
    bandwidth: int
    codecs: tuple[str, ...] = ()
    audio: str = ""


@dataclass(frozen=True, slots=True)
class Rendition:
    """One EXT-X-MEDIA of sound; ``uri`` "": it is in the variants themselves."""

    group: str
    name: str
    uri: str
    language: str = ""
    default: bool = False


@dataclass(slots=True)
class MasterPlaylist:
    variants: list[Variant] = field(default_factory=list)
    audio: list[Rendition] = field(default_factory=list)


class PlaylistReader:
    """``receive_data`` takes bytes as they come, ``finish`` gives the playlist. Both raise RemoteProtocolError."""

    def __init__(self) -> None:
        self._rest = b""
        self._size = 0
        self._lines = 0
        self._version = 1
        self._target: float | None = None
        self._sequence = 0
        self._first_epoch = 0
        self._epochs = 0
        self._ended = False
        self._segments: list[Segment] = []
        self._master = MasterPlaylist()
        self._is_master = False
        # What the next URI belongs to.
        self._duration: float | None = None
        self._range: re.Match[str] | None = None
        self._gap = False
        self._variant: dict[str, str] | None = None
        self._key: Key | None = None
        self._map: Map | None = None
        #: Where the next byte range without an offset begins, and in what.
        self._next_offset: tuple[str, int] = ("", -1)

    def receive_data(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > LARGEST:
            raise RemoteProtocolError(f"the playlist is longer than {LARGEST >> 20} MiB")
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LONGEST_LINE:
            raise RemoteProtocolError("the playlist has a line that is too long")
        for line in lines:
            self._line(line)

    def finish(self) -> MasterPlaylist | MediaPlaylist:
        if self._rest:
            self._line(self._rest)
        if not self._lines:
            raise RemoteProtocolError("the playlist is empty")
        if self._variant is not None or self._duration is not None:
            raise RemoteProtocolError("the playlist ends where a URI is due")
        if self._is_master:
            if self._segments or self._target is not None:
                raise RemoteProtocolError("the playlist is a master and a media playlist at once")
            if not self._master.variants:
                raise RemoteProtocolError("the master playlist has no variants")
            return self._master
        if self._target is None:
            raise RemoteProtocolError("the media playlist has no EXT-X-TARGETDURATION")
        return MediaPlaylist(self._target, self._segments, self._ended, self._sequence)

    def _line(self, raw: bytes) -> None:
        if len(raw) > LONGEST_LINE:
            raise RemoteProtocolError("the playlist has a line that is too long")
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("the playlist is not UTF-8") from error
        self._lines += 1
        if self._lines == 1:
            if line.removeprefix("\ufeff") != "#EXTM3U":
                raise RemoteProtocolError("this is no HLS playlist: it does not begin with #EXTM3U")
        elif not line:
            return
        elif line.startswith("#"):
            tag, _, value = line.partition(":")
            read = _TAGS.get(tag)
            if read is not None:
                read(self, value)
        else:
            self._uri(line)

    def _uri(self, uri: str) -> None:
        if self._variant is not None:
            self._take_variant(uri, self._variant)
            self._variant = None
            return
        if self._duration is None:
            raise RemoteProtocolError("the playlist has a URI without EXTINF or EXT-X-STREAM-INF before it")
        if len(self._segments) >= MOST_SEGMENTS:
            raise RemoteProtocolError(f"the playlist has more than {MOST_SEGMENTS} segments")
        found, self._range = self._range, None
        place = self._placed(uri, found) if found else None
        self._segments.append(
            Segment(
                self._sequence + len(self._segments), self._first_epoch + self._epochs, uri, self._duration, place,
                self._key, self._map, self._gap,
            )
        )  # fmt: skip
        self._duration, self._gap = None, False

    def _placed(self, uri: str, found: re.Match[str]) -> ByteRange:
        size = int(found[1])
        if found[2] is not None:
            offset = int(found[2])
        elif self._next_offset[0] == uri:
            offset = self._next_offset[1]
        else:
            raise RemoteProtocolError("the playlist has an EXT-X-BYTERANGE without an offset that nothing comes before")
        self._next_offset = (uri, offset + size)
        return ByteRange(size, offset)

    def _take_variant(self, uri: str, said: dict[str, str]) -> None:
        if len(self._master.variants) >= MOST_VARIANTS:
            raise RemoteProtocolError(f"the playlist has more than {MOST_VARIANTS} variants")
        bandwidth = _number(said.get("BANDWIDTH", ""), "BANDWIDTH")
        codecs = tuple(codec.strip() for codec in said.get("CODECS", "").split(",") if codec.strip())
        self._master.variants.append(Variant(uri, bandwidth, codecs, said.get("AUDIO", "")))

    # Tags

    def _extinf(self, value: str) -> None:
        text = value.partition(",")[0].strip()
        if not _DECIMAL.fullmatch(text) or float(text) > LONGEST_SEGMENT:
            raise RemoteProtocolError(f"the playlist has an EXTINF that is no duration: {text[:40]!r}")
        self._duration = float(text)

    def _byte_range(self, value: str) -> None:
        self._range = _RANGE.fullmatch(value.strip())
        if self._range is None:
            raise RemoteProtocolError("the playlist has an EXT-X-BYTERANGE that is none")

    def _discontinuity(self, value: str) -> None:
        self._epochs += 1

    def _gap_tag(self, value: str) -> None:
        self._gap = True

    def _end(self, value: str) -> None:
        self._ended = True

    def _target_duration(self, value: str) -> None:
        seconds = _number(value, "EXT-X-TARGETDURATION")
        if not 0 < seconds <= LONGEST_SEGMENT:
            raise RemoteProtocolError(f"the playlist's EXT-X-TARGETDURATION is {seconds} s")
        self._target = float(seconds)

    def _media_sequence(self, value: str) -> None:
        if self._segments:
            raise RemoteProtocolError("EXT-X-MEDIA-SEQUENCE stands behind a segment")
        self._sequence = _number(value, "EXT-X-MEDIA-SEQUENCE")

    def _discontinuity_sequence(self, value: str) -> None:
        if self._segments:
            raise RemoteProtocolError("EXT-X-DISCONTINUITY-SEQUENCE stands behind a segment")
        self._first_epoch = _number(value, "EXT-X-DISCONTINUITY-SEQUENCE")

    def _key_tag(self, value: str) -> None:
        said = _attributes(value)
        method = said.get("METHOD", "")
        if method == "NONE":
            self._key = None
            return
        if not method or not said.get("URI"):
            raise RemoteProtocolError("the playlist has an EXT-X-KEY without METHOD or URI")
        self._key = Key(method, said["URI"], _iv(said.get("IV")), said.get("KEYFORMAT", "identity"))

    def _map_tag(self, value: str) -> None:
        said = _attributes(value)
        if not said.get("URI"):
            raise RemoteProtocolError("the playlist has an EXT-X-MAP without URI")
        place = None
        if text := said.get("BYTERANGE"):
            found = _RANGE.fullmatch(text)
            if found is None:
                raise RemoteProtocolError("the playlist has an EXT-X-MAP whose BYTERANGE is none")
            place = ByteRange(int(found[1]), int(found[2] or 0))
        self._map = Map(said["URI"], place, self._key)

    def _stream_inf(self, value: str) -> None:
        self._is_master = True
        self._variant = _attributes(value)

    def _media(self, value: str) -> None:
        self._is_master = True
        said = _attributes(value)
        if said.get("TYPE") != "AUDIO":
            return
        if len(self._master.audio) >= MOST_VARIANTS:
            raise RemoteProtocolError(f"the playlist has more than {MOST_VARIANTS} renditions")
        self._master.audio.append(
            Rendition(
                said.get("GROUP-ID", ""), said.get("NAME", ""), said.get("URI", ""), said.get("LANGUAGE", ""),
                said.get("DEFAULT") == "YES",
            )
        )  # fmt: skip


_TAGS: Final[dict[str, Callable[[PlaylistReader, str], None]]] = {
    "#EXTINF": PlaylistReader._extinf,
    "#EXT-X-BYTERANGE": PlaylistReader._byte_range,
    "#EXT-X-DISCONTINUITY": PlaylistReader._discontinuity,
    "#EXT-X-GAP": PlaylistReader._gap_tag,
    "#EXT-X-ENDLIST": PlaylistReader._end,
    "#EXT-X-TARGETDURATION": PlaylistReader._target_duration,
    "#EXT-X-MEDIA-SEQUENCE": PlaylistReader._media_sequence,
    "#EXT-X-DISCONTINUITY-SEQUENCE": PlaylistReader._discontinuity_sequence,
    "#EXT-X-KEY": PlaylistReader._key_tag,
    "#EXT-X-MAP": PlaylistReader._map_tag,
    "#EXT-X-STREAM-INF": PlaylistReader._stream_inf,
    "#EXT-X-MEDIA": PlaylistReader._media,
}


def _attributes(text: str) -> dict[str, str]:
    """An attribute list (RFC 8216 4.2)."""
    found: dict[str, str] = {}
    at, text = 0, text.strip()
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is None:
            raise RemoteProtocolError(f"the playlist has a broken attribute list at {text[at : at + 40]!r}")
        found[match[1]] = match[2].strip('"')
        at = match.end()
        while at < len(text) and text[at] == " ":
            at += 1
    return found


def _number(text: str, what: str) -> int:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise RemoteProtocolError(f"the playlist has a {what} that is no number: {text[:40]!r}")
    return int(text)


def _iv(text: str | None) -> bytes | None:
    if text is None:
        return None
    found = _IV.fullmatch(text)
    if found is None:
        raise RemoteProtocolError("the playlist has an EXT-X-KEY whose IV is none")
    return int(found[1], 16).to_bytes(16, "big")
