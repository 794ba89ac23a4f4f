"""Captures of what real encoders sent, and what our RTMP and FLV code makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

from appliance.errors import RemoteProtocolError
from appliance.protocols.flv import FlvDemuxer, Frame
from appliance.protocols.rtmp import Audio, Event, Metadata, Publish, RtmpServer, Video

CORPUS = Path(__file__).parents[1] / "protocols" / "corpus" / "rtmp"
GOOD = sorted(path.stem for path in CORPUS.glob("*.bin") if not path.stem.startswith("broken-"))
BROKEN = sorted(path.stem for path in CORPUS.glob("broken-*.bin"))


def capture(name: str) -> bytes:
    return (CORPUS / f"{name}.bin").read_bytes()


def events_of(pieces: Iterable[bytes]) -> tuple[list[Event], str]:
    """What a session makes of ``pieces``, and the error that ended it."""
    session, seen = RtmpServer(random_bytes=bytes), []
    try:
        for piece in pieces:
            events = session.receive_data(piece)
            seen += events
            while events and isinstance(events[-1], Publish):
                session.accept_publish()
                events = session.receive_data(b"")
                seen += events
            session.data_to_send()
    except RemoteProtocolError as error:
        return seen, str(error)
    return seen, ""


def frames_of(events: Iterable[Event]) -> tuple[list[Frame], list[str]]:
    """The frames in ``events``, and what was reported as not carried or broken."""
    reports: list[str] = []
    demuxer = FlvDemuxer(reports.append)
    frames = []
    for event in events:
        try:
            if isinstance(event, Video):
                frames.append(demuxer.video_tag(event.timestamp, event.body))
            elif isinstance(event, Audio):
                frames.append(demuxer.audio_tag(event.timestamp, event.body))
            elif isinstance(event, Metadata):
                demuxer.metadata(event.values)
        except RemoteProtocolError as error:
            reports.append(str(error))
    return [frame for frame in frames if frame is not None], reports


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]
