"""One track of a dump: its segments under their live names, and a playlist that grows at its end."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from appliance.protocols import hls
from appliance.publishers.llhls.window import Init, Segment, TrackWindow
from appliance.publishers.media_files import MediaFiles

#: Bytes of media that wait for the disk; what comes then is left out.
MOST_WAITING = 64 * 1024 * 1024


class TrackDump:
    """``begin``: the media sequence number of the first segment."""

    def __init__(self, files: MediaFiles, folder: Path, window: TrackWindow, begin: int, target_duration: int) -> None:
        self.window = window
        self.dropped = 0
        self.playlist = folder / window.playlist_name
        self._files = files
        self._folder = folder
        self._taken = begin - 1
        self._waiting: deque[tuple[Segment, list[bytes]]] = deque()
        self._waiting_bytes = 0
        self._init: Init | None = None
        self._target = target_duration
        self._size = 0
        self._gap = False

    def gather(self) -> None:
        """Take what has become whole since the last time, before the window forgets it."""
        for segment in self.window.listed:
            if segment.msn <= self._taken:
                continue
            if self._taken >= 0 and segment.msn > self._taken + 1 and self._size:
                self.dropped += segment.msn - self._taken - 1
                self._gap = True
            self._taken = segment.msn
            if self._waiting_bytes + segment.size > MOST_WAITING:
                self.dropped += 1
                self._gap = True
                continue
            self._waiting.append((segment, segment.buffers))
            self._waiting_bytes += segment.size

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    async def write_next(self) -> list[Path]:
        """The oldest segment that waits, and the playlist with it. Returns what is new on the disk.

        Raises Unavailable; the segment waits on then.
        """
        segment, buffers = self._waiting[0]
        written: list[Path] = []
        if segment.init is not self._init and segment.init.payload:
            path = self._folder / segment.init.name
            await self._files.write(path, [segment.init.payload])
            written.append(path)
        if not segment.gap:
            path = self._folder / segment.name
            await self._files.write(path, buffers)
            written.append(path)
        first = self._size == 0
        text = segment.opening_text if first or segment.init is not self._init else segment.head_text
        if first:
            text = text.removeprefix("#EXT-X-DISCONTINUITY\n")
        elif self._gap and not text.startswith("#EXT-X-DISCONTINUITY\n"):
            text = "#EXT-X-DISCONTINUITY\n" + text
        await self._extend(text + segment.line, first=first)
        self._init = segment.init
        self._gap = False
        if first:
            written.append(self.playlist)
        self._waiting.popleft()
        self._waiting_bytes -= segment.size
        return written

    async def _extend(self, text: str, *, first: bool) -> None:
        end = hls.ENDLIST.encode()
        if first:
            head = hls.media_head(
                target_duration=self._target, media_sequence=0, discontinuity_sequence=0, control=None
            )
            text = head + text
            await self._files.write(self.playlist, [text.encode() + end])
        else:
            await self._files.patch(self.playlist, (self._size, text.encode() + end))
        self._size += len(text.encode())
