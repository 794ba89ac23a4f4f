"""The containers of recordings: which there are, what they hold, who writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from appliance.errors import BadRequest
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.protocols import fmp4
from appliance.protocols.fmp4.movie import MovieWriter
from appliance.protocols.matroska.writer import SUPPORTED_CODECS as MATROSKA_CODECS
from appliance.protocols.matroska.writer import WEBM_CODECS, SegmentWriter
from appliance.protocols.mpegts import carriage
from appliance.protocols.mpegts.muxer import Muxer

Container = Literal["mp4", "ts", "mkv"]


class Writer(Protocol):
    """Times of the packets count from the start of the file; a file can be cut behind any fragment."""

    def head(self) -> bytes: ...

    def fragment(self, packets: Sequence[Packet]) -> bytes: ...


class TsWriter:
    def __init__(self, tracks: Sequence[Track]) -> None:
        self._muxer = Muxer(tracks, late_events=True)

    def head(self) -> bytes:
        return self._muxer.tables()

    def fragment(self, packets: Sequence[Packet]) -> bytes:
        return b"".join([self._muxer.packet(packet) for packet in packets])


#: Extension -> container and what it holds.
_KINDS: dict[str, tuple[Container, frozenset[Codec]]] = {
    "mp4": ("mp4", fmp4.SUPPORTED_CODECS), "m4v": ("mp4", fmp4.SUPPORTED_CODECS),
    "m4a": ("mp4", fmp4.SUPPORTED_CODECS), "mov": ("mp4", fmp4.SUPPORTED_CODECS),
    "ts": ("ts", carriage.SUPPORTED_CODECS - {Codec.ID3}), "mkv": ("mkv", MATROSKA_CODECS),
    "webm": ("mkv", WEBM_CODECS),
}  # fmt: skip


def extension(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2].lower()


def container_of(path: str) -> Container:
    """Raises BadRequest for an extension that isn't one of ours."""
    found = _KINDS.get(extension(path))
    if found is None:
        raise BadRequest(
            f"Can't record into '{path}': its name must end in one of {', '.join('.' + name for name in _KINDS)}"
        )
    return found[0]


def holds(path: str, track: Track) -> bool:
    return track.codec in _KINDS[extension(path)][1]


def holds_events(path: str) -> bool:
    """Whether timed metadata has a place in such a file."""
    return _KINDS[extension(path)][0] == "ts"


def make_writer(path: str, tracks: Sequence[Track], lead: tuple[int, int]) -> Writer:
    """``lead``: (ticks, timescale) that decoding times may lie below zero. Raises BadRequest."""
    container = container_of(path)
    if container == "mp4":
        return MovieWriter(tracks, lead)
    if container == "ts":
        return TsWriter(tracks)
    return SegmentWriter(tracks, webm=extension(path) == "webm")
