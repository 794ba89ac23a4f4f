"""What of one rendition can be fetched now: its segments, and their lines in the playlist."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from appliance.net.direct import Reply
from appliance.protocols import hls

FEWEST_SEGMENTS = 3
#: A playlist is never shorter than this many target durations once it has been that long (RFC 8216 6.2.2).
SHORTEST_WINDOW = 3


class Segment:
    """``duration`` in seconds; ``discontinuities`` counts those of the stream up to here."""

    __slots__ = ("chunks", "discontinuities", "duration", "head", "last_needed", "line", "msn", "name", "reply", "size",
                 "tagged")  # fmt: skip

    def __init__(self, name: str, msn: int, head: str, discontinuities: int, tagged: bool) -> None:
        self.name = name
        self.msn = msn
        self.head = head
        self.discontinuities = discontinuities
        self.tagged = tagged
        self.chunks: list[bytes] = []
        self.size = 0
        self.duration = 0.0
        self.last_needed = 0.0
        self.line = ""
        self.reply: Reply | None = None


class RenditionWindow:
    """The segments of one rendition, in order. ``key`` stands for it in all names; ``number(index)`` is the media
    sequence number of its ``index``-th segment; ``changed`` is called when there is a new one."""

    def __init__(
        self,
        key: int,
        segment_count: int,
        files: dict[str, object],
        number: Callable[[int], int],
        changed: Callable[[], None],
    ) -> None:
        self.key = key
        self.playlist_name = f"medialist_{key}_hls.m3u8"
        self.listed: deque[Segment] = deque()
        self.discontinuities = 0
        self.edge = 0.0
        self.measured_bytes = 0
        self.peak_bitrate = 0
        self.latest_bitrate = 0
        self._segment_count = max(FEWEST_SEGMENTS, segment_count)
        self._files = files
        self._number = number
        self._changed = changed
        self._made = 0
        self._current: Segment | None = None
        self._removed: deque[Segment] = deque()

    @property
    def next_number(self) -> int:
        return self._number(self._made)

    @property
    def started(self) -> bool:
        return bool(self.listed)

    @property
    def retained(self) -> int:
        """Bytes of media that are held."""
        current = self._current.size if self._current is not None else 0
        return current + sum(each.size for group in (self.listed, self._removed) for each in group)

    @property
    def average_bitrate(self) -> int:
        return int(self.measured_bytes * 8 / self.edge) if self.edge else 0

    def open(self, wall: int, *, discontinuity: bool, tags: str) -> None:
        """Begin a segment whose first picture has the date ``wall`` (ns since 1970)."""
        number = self._number(self._made)
        tagged = discontinuity and self._made > 0
        self._made += 1
        self.discontinuities += tagged
        head = hls.segment_head(
            discontinuity=tagged, init_uri="", program_date_time=hls.date_time(wall), tags=tags
        )
        self._current = Segment(f"seg_{self.key}_{number}_hls.ts", number, head, self.discontinuities, tagged)

    def add(self, chunk: bytes) -> None:
        segment = self._current
        if segment is not None and chunk:
            segment.chunks.append(chunk)
            segment.size += len(chunk)

    def close(self, duration: float, target: int) -> None:
        """The open segment is whole: ``duration`` and ``target`` in seconds."""
        segment = self._current
        if segment is None:
            return
        self._current = None
        segment.chunks = [b"".join(segment.chunks)]
        segment.duration = duration
        segment.line = f"#EXTINF:{duration:.3f},\n{segment.name}\n"
        self._files[segment.name] = segment
        self.edge += duration
        self.measured_bytes += segment.size
        self.latest_bitrate = int(segment.size * 8 / duration)
        if duration * 2 >= target:
            self.peak_bitrate = max(self.peak_bitrate, self.latest_bitrate)
        self.listed.append(segment)
        self._shorten(target)
        self._changed()

    def text(self, target: int, discontinuity_base: int, *, ended: bool) -> str:
        """The media playlist."""
        first = self.listed[0] if self.listed else None
        pieces = [
            hls.plain_media_head(
                target_duration=target,
                media_sequence=first.msn if first is not None else 0,
                discontinuity_sequence=discontinuity_base + first.discontinuities - first.tagged if first else 0,
            )
        ]
        for segment in self.listed:
            pieces.append(segment.head)
            pieces.append(segment.line)
        if ended:
            pieces.append(hls.ENDLIST)
        return "".join(pieces)

    def _shorten(self, target: int) -> None:
        listed = self.listed
        total = sum(segment.duration for segment in listed)
        while len(listed) > self._segment_count and total - listed[0].duration >= SHORTEST_WINDOW * target:
            oldest = listed.popleft()
            # A segment must stay for its own duration and that of the longest playlist it was in (RFC 8216 6.2.2).
            oldest.last_needed = self.edge + oldest.duration + total
            total -= oldest.duration
            self._removed.append(oldest)
        while self._removed and self._removed[0].last_needed <= self.edge:
            self._files.pop(self._removed.popleft().name, None)
