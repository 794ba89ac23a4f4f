"""Events that travel with the media of a stream, in order: timed metadata, splice points, subtitles, the conclusion.

One goes through the hub as an ``EventPacket`` of ``EVENT_TRACK``, which no stream lists among its tracks; its ``pts``
are milliseconds of the stream. Publishers that have no use for events see a packet of a track they don't know.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track

#: Milliseconds, as the data tracks of the field have them (wire catalogue 4.10).
EVENT_TRACK = Track(id=-1, media=MediaType.DATA, codec=Codec.ID3, timescale=1000, variant="Data")


class Target(StrEnum):
    """The tracks that carry an event, in the words of the API; ``event`` is all of them."""

    VIDEO = "video"
    AUDIO = "audio"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class TimedMetadata:
    """An ID3v2.4 tag (``appliance.protocols.id3`` makes it)."""

    tag: bytes


class CueType(StrEnum):
    OUT = "out"
    IN = "in"
    CONT = "cont"


@dataclass(frozen=True, slots=True)
class Cue:
    """A break begins, ends, or goes on; ``duration`` in ms, 0: not known."""

    type: CueType
    duration: int = 0


@dataclass(frozen=True, slots=True)
class Splice:
    """SCTE-35 splice_insert: ``out`` of the network or back in; ``duration`` in ms, 0: not known."""

    id: int
    out: bool
    duration: int = 0
    auto_return: bool = False


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The programme is over: HLS and LL-HLS become VoD. What comes later is not in them."""


@dataclass(frozen=True, slots=True)
class Subtitle:
    """One cue of the subtitle track ``label``, shown from ``start`` for ``duration`` ms of the stream; ``settings`` are
    WebVTT cue settings."""

    label: str
    text: str
    start: int
    duration: int
    settings: str = ""


@dataclass(frozen=True, slots=True)
class SubtitleCue:
    """A cue as it is asked for: ``start_offset`` ms behind the end of the one before it (the first: behind now)."""

    text: str
    start_offset: int = 0
    duration: int = 1000
    settings: str = ""


Event = TimedMetadata | Cue | Splice | Conclusion | Subtitle


class EventPacket(Packet, frozen=True, eq=False, gc=False):
    """``payload`` is the ID3 tag of timed metadata, else empty. ``urgent``: at once, whatever its time."""

    event: Event
    target: Target
    urgent: bool


def event_packet(event: Event, time: int, target: Target = Target.EVENT, *, urgent: bool = False) -> EventPacket:
    """``event`` at ``time`` ms of the stream."""
    tag = event.tag if isinstance(event, TimedMetadata) else b""
    return EventPacket(EVENT_TRACK, time, time, 0, False, tag, event, target, urgent)
