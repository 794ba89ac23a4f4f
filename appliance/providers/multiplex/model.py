"""What a multiplex channel is made of (catalogue 3.9)."""

from __future__ import annotations

import msgspec

from appliance.settings import models


class TrackMap(msgspec.Struct, frozen=True):
    """``bitrate`` bit/s and ``framerate`` are what the channel says of the track, 0: what its source says."""

    source: str
    name: str
    bitrate: int = 0
    framerate: int = 0


class SourceStream(msgspec.Struct, frozen=True):
    """``url`` is ``stream://vhost/app/stream``."""

    name: str
    url: str
    tracks: tuple[TrackMap, ...]


class Multiplex(msgspec.Struct, frozen=True):
    name: str
    bypass_transcoder: bool = True
    sources: tuple[SourceStream, ...] = ()
    playlists: tuple[models.Playlist, ...] = ()
