"""What a channel plays and when (catalogue 3.8)."""

from __future__ import annotations

import msgspec

MS = 1_000_000
#: An item plays at least this long (ms).
SHORTEST = 1000
FALLBACK = "fallback"
ALWAYS = "1970-01-01T00:00:00Z"


class AudioMapItem(msgspec.Struct, frozen=True):
    name: str = ""
    language: str = ""
    characteristics: str = ""


class Item(msgspec.Struct, frozen=True):
    """``url``: ``file://path`` below the media root or ``stream://vhost/app/stream``. Times in ms: ``start`` within the
    file, ``duration`` -1 to its end. ``fallback_on_err``: the fallback program plays when it can't be."""

    url: str
    start: int = 0
    duration: int = -1
    fallback_on_err: bool = True

    @property
    def live(self) -> bool:
        return self.url[:9].lower() == "stream://"

    @property
    def place(self) -> str:
        """The URL without its scheme."""
        return self.url.partition("://")[2]

    @property
    def length(self) -> int | None:
        """ns, None: as long as there is something."""
        return None if self.duration < 0 else max(SHORTEST, self.duration) * MS


class Program(msgspec.Struct, frozen=True):
    """``scheduled`` as it was written, ``begins`` the same in ns since 1970."""

    name: str
    scheduled: str
    begins: int
    repeat: bool = False
    items: tuple[Item, ...] = ()


class ChannelStream(msgspec.Struct, frozen=True):
    name: str
    bypass_transcoder: bool = False
    video_track: bool = True
    audio_track: bool = True
    audio_map: tuple[AudioMapItem, ...] = ()
    error_tolerance_ms: int = 500


class Schedule(msgspec.Struct, frozen=True):
    """``programs`` in the order they were written; ``fallback`` None when there is none."""

    stream: ChannelStream
    programs: tuple[Program, ...] = ()
    fallback: Program | None = None
