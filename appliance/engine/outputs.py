"""One output stream: its tracks gathered from bypass and encoders, its hub, and the publishers on it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from appliance.engine.input_stream import InputStream
from appliance.engine.profiles import PlannedOutput, PlannedTrack
from appliance.media.contracts import OutputStream
from appliance.media.events import Cue, EventPacket, Splice
from appliance.media.measure import Measured
from appliance.media.packet import Packet
from appliance.media.playlists import resolve_playlists
from appliance.media.stream import KeyFrame, Stream
from appliance.media.track import Track

log = logging.getLogger("kiln.output")

#: How many packets wait while an output's encoders come up.
PENDING_PACKETS = 10_000

Started = Callable[["Output"], None]


class Output:
    """Becomes ``prepared`` (its hub exists, ``started`` is called) when every track's configuration is known.

    Packets that come before are kept, at most PENDING_PACKETS, and played into the hub then.
    """

    def __init__(self, source: InputStream, plan: PlannedOutput, application: object, started: Started) -> None:
        self.source = source
        self.plan = plan
        self.name = plan.name
        self.output: OutputStream | None = None
        self.measured: dict[int, Measured] = {}
        self._application = application
        self._started = started
        self._closed = False
        self._tracks: dict[int, Track] = {}
        self._pending: list[Packet] = []
        #: input Track -> our Track, by identity: a new generation of the source is a new one here.
        self._bypassed: dict[Track, tuple[Track, ...]] = {}
        self._bypass_by_source: dict[int, list[PlannedTrack]] = {}
        self._encoded: dict[tuple[int, Track], Track] = {}

    @property
    def label(self) -> str:
        return f"{self.source.vhost}/{self.source.app}/{self.name}"

    @property
    def missing(self) -> list[str]:
        """Variant names of the tracks whose configuration is not known yet."""
        return [planned.variant for planned in self.plan.tracks if planned.id not in self._tracks]

    def open(self) -> None:
        """Wire the bypassed tracks; without encoded ones the output starts at once."""
        for planned in self.plan.tracks:
            if planned.bypass:
                self._bypass_by_source.setdefault(planned.source.id, []).append(planned)
                self.measured[planned.id] = self.source.measured[planned.source.id]
        for track_id in self._bypass_by_source:
            self._map_bypass(self.source.stream.tracks[track_id])
        if self._bypass_by_source:
            self._start_if_complete()
            self.source.stream.add_sink(self._relay)

    def encoded_track(self, planned: PlannedTrack, track: Track) -> None:
        """An encoder has told its (new) configuration."""
        ours = self._encoded_for(planned, track)
        self._tracks[planned.id] = ours
        if planned.id not in self.measured:
            self.measured[planned.id] = Measured(ours, self.source.clock.monotonic)
        self._start_if_complete()

    def encoded_packet(self, planned: PlannedTrack, packet: Packet) -> None:
        track = self._encoded_for(planned, packet.track)
        ours = Packet(track, packet.pts, packet.dts, packet.duration, packet.keyframe, packet.payload)
        self.measured[planned.id].add(ours)
        self._deliver(ours)

    def use(self, application: object) -> None:
        """The application's settings are these from now on."""
        self._application = application
        if self.output is not None:
            self.output.application = application

    def inject(self, packet: EventPacket) -> bool:
        """An event among the media; False when the output is not on the air yet."""
        if self.output is None:
            return False
        stream = self.output.stream
        stream.inject(packet)
        if isinstance(packet.event, Cue | Splice):
            # Segments begin there at once then, where the pictures are encoded here.
            stream.request(KeyFrame(0 if packet.urgent else packet.pts))
        return True

    def _request(self, what: KeyFrame) -> bool:
        """See ``Stream.request``. What is passed on has its key frames where its source has them."""
        transcoder = self.source.outputs.transcoder if self.source.outputs is not None else None
        encoded = any(planned.source.is_video and not planned.bypass for planned in self.plan.tracks)
        return encoded and transcoder is not None and transcoder.request_key_frame(what.since)

    def close(self) -> None:
        self._pending.clear()
        self._closed = True
        if self._bypass_by_source:
            self.source.stream.remove_sink(self._relay)
        if self.output is not None:
            self.output.stream.close()

    def _relay(self, packet: Packet) -> None:
        tracks = self._bypassed.get(packet.track)
        if tracks is None:
            tracks = self._map_bypass(packet.track)
        for track in tracks:
            self._deliver(Packet(track, packet.pts, packet.dts, packet.duration, packet.keyframe, packet.payload))

    def _map_bypass(self, source: Track) -> tuple[Track, ...]:
        tracks = tuple(_bypass_track(planned, source) for planned in self._bypass_by_source.get(source.id, ()))
        # Earlier generations are over: keep only what is current.
        self._bypassed = {known: mapped for known, mapped in self._bypassed.items() if known.id != source.id}
        self._bypassed[source] = tracks
        self._tracks.update((track.id, track) for track in tracks)
        return tracks

    def _encoded_for(self, planned: PlannedTrack, track: Track) -> Track:
        key = (planned.id, track)
        ours = self._encoded.get(key)
        if ours is None:
            self._encoded = {known: value for known, value in self._encoded.items() if known[0] != planned.id}
            ours = self._encoded[key] = msgspec.structs.replace(
                track, id=planned.id, variant=planned.variant, public_name=_public_name(planned), bypass=False
            )
        return ours

    def _deliver(self, packet: Packet) -> None:
        if self.output is not None:
            self.output.stream.publish(packet)
        elif len(self._pending) < PENDING_PACKETS:
            self._pending.append(packet)

    def _start_if_complete(self) -> None:
        if self.output is None and len(self._tracks) == len(self.plan.tracks):
            self.start()

    def start(self) -> None:
        """Go on the air with the tracks that are known."""
        if self.output is not None or not self._tracks or self._closed or self.source.closed:
            return
        tracks = [self._tracks[track_id] for track_id in sorted(self._tracks)]
        stream = Stream(self.label, tracks, clock=self.source.clock, epoch=self.source.stream.epoch)
        stream.upstream = self._request
        self.output = OutputStream(
            vhost=self.source.vhost, app=self.source.app, name=self.name, stream=stream,
            application=self._application, playlists=resolve_playlists(self.plan.playlists, tracks),
            source=self.source.source,
        )  # fmt: skip
        log.info("output on stream=%s profile=%s tracks=%s", self.label, self.plan.profile,
                 ",".join(track.variant for track in tracks))  # fmt: skip
        self._started(self)
        pending, self._pending = self._pending, []
        # In the order of their times: a newcomer then finds the key frames of all renditions behind the first one's.
        for packet in sorted(pending, key=lambda packet: packet.dts / packet.track.timescale):
            stream.publish(packet)


def _public_name(planned: PlannedTrack) -> str:
    base = planned.source.public_name or planned.source.variant
    return base if planned.source.is_video else f"{base}_{planned.id}"


def _bypass_track(planned: PlannedTrack, source: Track) -> Track:
    return msgspec.structs.replace(
        source, id=planned.id, variant=planned.variant, public_name=_public_name(planned), bypass=True
    )
