"""Segments into frames, one after the other: MPEG-TS and fragmented MP4."""

from __future__ import annotations

from typing import Final

import trio

from appliance.errors import RemoteProtocolError
from appliance.media.track import Track
from appliance.protocols.fmp4 import demux as fmp4
from appliance.protocols.mpegts import demuxer as mpegts
from appliance.providers.hls.fetch import SLICE

_PACKET: Final = 188
_FRAMES_A_TURN: Final = 64

AnyFrame = mpegts.Frame | fmp4.Frame


class SegmentReader:
    """``read`` takes whole segments in order; ``begin`` says that the next one has nothing to do with what was before
    (a discontinuity, another init section)."""

    def __init__(self) -> None:
        self._ts = mpegts.Demuxer()
        self._mp4: fmp4.Demuxer | None = None

    @property
    def tracks(self) -> list[Track]:
        return self._mp4.tracks if self._mp4 is not None else self._ts.tracks

    @property
    def unsupported(self) -> list[str]:
        return self._mp4.unsupported if self._mp4 is not None else sorted(set(self._ts.unsupported.values()))

    def begin(self, init: bytes | None) -> None:
        """``init`` is the init section of fragmented MP4, None for a transport stream. Raises RemoteProtocolError."""
        if init is None:
            self._ts, self._mp4 = mpegts.Demuxer(), None
            return
        self._mp4 = fmp4.Demuxer()
        for _ in self._mp4.receive_data(init):
            pass

    async def read(self, data: bytes) -> list[AnyFrame]:
        """The frames of a segment; other tasks get their turn meanwhile. Raises RemoteProtocolError."""
        frames: list[AnyFrame] = []
        if self._mp4 is not None:
            for at in range(0, len(data), SLICE):
                for frame in self._mp4.receive_data(data[at : at + SLICE]):
                    frames.append(frame)
                    if len(frames) % _FRAMES_A_TURN == 0:
                        await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            return frames
        _check_transport(data)
        for at in range(0, len(data), SLICE):
            frames += self._ts.receive_data(data[at : at + SLICE])
            await trio.lowlevel.checkpoint()
        frames += self._ts.flush()
        return frames


def _check_transport(data: bytes) -> None:
    if data[:1] == b"G" and data[_PACKET : _PACKET + 1] in (b"G", b""):
        return
    for begin, what in ((b"WEBVTT", "WebVTT"), (b"ID3", "packed audio"), (b"\xff\xf1", "packed audio")):
        if data.startswith(begin):
            raise RemoteProtocolError(f"the segments are {what}, not MPEG-TS or fragmented MP4")
    raise RemoteProtocolError("the segments are neither MPEG-TS nor fragmented MP4")
