"""One multiplex channel: the tracks of several live streams as one stream, on one time."""

from __future__ import annotations

import logging
from enum import StrEnum

import msgspec
import trio

from appliance.errors import KilnError, Unavailable
from appliance.media.channel_text import stream_place
from appliance.media.clock import NANOSECONDS
from appliance.media.contracts import Context, Input, Progress, Source
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Track
from appliance.providers.multiplex.model import Multiplex, SourceStream, TrackMap

log = logging.getLogger("kiln.channel")

KIND = "Multiplex"
#: Between looks for a source that is not there (s).
LOOK_EVERY = 0.25
RETRY = 1.0


class State(StrEnum):
    """NONE: not begun; PULLING: waits for a source; PLAYING: all are there; STOPPED: over."""

    NONE = "None"
    PULLING = "Pulling"
    PLAYING = "Playing"
    STOPPED = "Stopped"


class MultiplexChannel:
    """Goes on the air when all sources are there, and stays there when one goes: its tracks go on when it is back."""

    def __init__(self, context: Context, vhost: str, app: str, channel: Multiplex) -> None:
        self.vhost = vhost
        self.app = app
        self.channel = channel
        self.label = f"{vhost}/{app}/{channel.name}"
        self.begun = False
        self.over = False
        self._context = context
        self._missing = [source.name for source in channel.sources]
        self._refused = ""

    @property
    def state(self) -> State:
        if self.over:
            return State.STOPPED
        if not self.begun:
            return State.NONE
        return State.PULLING if self._missing or self._refused else State.PLAYING

    @property
    def pulling_message(self) -> str:
        """What it waits for, while it does."""
        if self.state is not State.PULLING:
            return ""
        place = f"Multiplex Channel : #{self.vhost}#{self.app}/{self.channel.name}"
        return f"{place}: {self._refused or f'Wait for stream {self._missing[0]}'}"

    async def run(self, progress: Progress) -> None:
        """Until cancelled."""
        self.begun, self.over = True, False
        try:
            while True:
                reason = await self._play(progress)
                log.warning("channel off stream=%s reason=%s", self.label, reason)
                progress()
                await trio.sleep(RETRY)
        finally:
            self.over = True

    async def _play(self, progress: Progress) -> str:
        """One life of the stream; why it is over."""
        self._missing = [source.name for source in self.channel.sources]
        found: dict[str, Stream] = {}
        while len(found) < len(self.channel.sources):
            progress()
            for source in self.channel.sources:
                stream = self._find(source)
                if stream is None:
                    found.pop(source.name, None)
                else:
                    found[source.name] = stream
            self._missing = [source.name for source in self.channel.sources if source.name not in found]
            if self._missing:
                await trio.sleep(LOOK_EVERY)
        try:
            output = _Output(self, [(source, found[source.name]) for source in self.channel.sources])
        except KilnError as error:
            self._refused = str(error)
            return self._refused
        self._refused = ""
        ended = trio.Event()
        reasons: list[str] = []

        def cancelled(reason: str) -> None:
            reasons.append(reason)
            ended.set()

        output.target.on_cancel(cancelled)
        try:
            async with trio.open_nursery() as nursery:
                for source in self.channel.sources:
                    nursery.start_soon(self._follow, source, output, progress)
                await ended.wait()
                nursery.cancel_scope.cancel()
        finally:
            output.target.close("the channel ends")
        return reasons[0]

    async def _follow(self, source: SourceStream, output: _Output, progress: Progress) -> None:
        """Pass the tracks of one source on, each time that it is there."""
        while True:
            progress()
            stream = self._find(source)
            if stream is None:
                if source.name not in self._missing:
                    log.warning("source is away stream=%s source=%s", self.label, source.name)
                    self._missing.append(source.name)
                await trio.sleep(LOOK_EVERY)
                continue
            if source.name in self._missing:
                self._missing.remove(source.name)
            reader = stream.reader(f"multiplex {self.label}")
            try:
                async for packets in reader:
                    progress()
                    for packet in packets:
                        output.take(source.name, stream, packet)
            finally:
                reader.close()

    def _find(self, source: SourceStream) -> Stream | None:
        """Its output stream, when it is on the air with all the tracks that are wanted of it."""
        place = stream_place(source.url)
        stream = self._context.directory.output(*place) if place else None
        if stream is None or stream.closed:
            return None
        names = {track.variant for track in stream.tracks.values()}
        return stream if all(mapped.source in names for mapped in source.tracks) else None

    def open(self) -> Input:
        channel = self.channel
        source = Source(KIND, passthrough=channel.bypass_transcoder, playlists=channel.playlists)
        return self._context.directory.open_input(self.vhost, self.app, channel.name, source)


class _Output:
    """The input stream of a channel, and how the tracks of its sources become its own.

    All streams of this box count from moments of the same clock, so moving them onto one of these aligns them.
    """

    def __init__(self, owner: MultiplexChannel, sources: list[tuple[SourceStream, Stream]]) -> None:
        self._ids: dict[tuple[str, str], tuple[int, TrackMap]] = {}
        self._tracks: dict[tuple[str, int], tuple[Track, Track] | None] = {}
        self._current: dict[int, Track] = {}
        self._last: dict[int, int] = {}
        tracks = []
        for source, stream in sources:
            for mapped in source.tracks:
                track_id = len(self._ids)
                self._ids[source.name, mapped.name] = track_id, mapped
                found = next(each for each in stream.tracks.values() if each.variant == mapped.source)
                ours = _mapped(found, track_id, mapped, None)
                self._tracks[source.name, found.id] = found, ours
                self._current[track_id] = ours
                tracks.append(ours)
        self._maps = {source.name: source.tracks for source, _ in sources}
        if not tracks:
            raise Unavailable("no track is asked for")
        self._epoch = min(stream.epoch for _, stream in sources)
        self.target = owner.open()
        self.target.prepare(tracks)

    def take(self, source: str, stream: Stream, packet: Packet) -> None:
        track = packet.track
        known = self._tracks.get((source, track.id), ())
        if known is None:
            return
        if not known or known[0] is not track:
            known = self._adopt(source, track)
            if known is None:
                return
        ours = known[1]
        moved = (stream.epoch - self._epoch) * ours.timescale // NANOSECONDS
        dts = packet.dts + moved
        if dts <= self._last.get(ours.id, -(1 << 62)):
            # A source that is back begins with what had been passed on already.
            return
        self._last[ours.id] = dts
        self.target.send(ours, packet.pts + moved, dts, packet.keyframe, packet.payload, packet.duration)

    def _adopt(self, source: str, track: Track) -> tuple[Track, Track] | None:
        mapped = next((each for each in self._maps[source] if each.source == track.variant), None)
        if mapped is None:
            self._tracks[source, track.id] = None
            return None
        track_id = self._ids[source, mapped.name][0]
        before = self._current[track_id]
        if before.timescale != track.timescale and track_id in self._last:
            self._last[track_id] = -(-self._last[track_id] * track.timescale // before.timescale)
        ours = self._current[track_id] = _mapped(track, track_id, mapped, before)
        self._tracks[source, track.id] = made = (track, ours)
        return made


def _mapped(track: Track, track_id: int, mapped: TrackMap, before: Track | None) -> Track:
    """``track`` as the channel has it; the very Track ``before`` when a decoder sees no difference."""
    if before is not None and (before.codec, before.codec_config, before.timescale, before.width, before.height) == (
        track.codec, track.codec_config, track.timescale, track.width, track.height
    ):  # fmt: skip
        return before
    return msgspec.structs.replace(
        track, id=track_id, generation=0 if before is None else before.generation + 1, variant=mapped.name,
        public_name=mapped.name, bitrate=mapped.bitrate or track.bitrate,
        frame_rate=float(mapped.framerate) or track.frame_rate,
    )  # fmt: skip
