"""Multiplex channels (catalogue 1.10, 3.9); PATCH is Kiln's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, created, plain, success
from appliance.api.ome.lookup import find_application
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.channels import MULTIPLEX, LiveChannel
from appliance.engine.engine import Engine
from appliance.errors import BadRequest, NotFound
from appliance.providers.multiplex import (
    Multiplex,
    MultiplexChannel,
    SourceStream,
    TrackMap,
    from_json,
    patched,
    to_xml,
)
from appliance.settings import models

_CHANNELS = "/v1/vhosts/{v}/apps/{a}/multiplexChannels"


class MultiplexChannels:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._channels = engine.channels

    def routes(self) -> Iterator[Route]:
        yield Route("GET", _CHANNELS, self.listed, Role.VIEWER)
        yield Route("POST", _CHANNELS, self.create, Role.OPERATOR)
        yield Route("GET", f"{_CHANNELS}/{{s}}", self.get, Role.VIEWER)
        yield Route("PATCH", f"{_CHANNELS}/{{s}}", self.change, Role.OPERATOR)
        yield Route("DELETE", f"{_CHANNELS}/{{s}}", self.delete, Role.OPERATOR)

    async def listed(self, request: Request, vhost: str, app: str) -> Answer:
        self._check_provider(vhost, app)
        return success([each.name for each in self._channels.all(MULTIPLEX, vhost, app)])

    async def create(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()
        application = find_application(self._engine, vhost, app)
        if not isinstance(body, dict):
            raise BadRequest("Invalid request body")
        if application.settings.providers.multiplex is None:
            return plain(403)
        channel = from_json(body)
        await self._channels.create(MULTIPLEX, vhost, app, channel.name, to_xml(channel))
        return created()

    async def get(self, request: Request, vhost: str, app: str, name: str) -> Answer:
        return success(channel_resource(self._find(vhost, app, name).provider))

    async def change(self, request: Request, vhost: str, app: str, name: str) -> Answer:
        body = await request.json()
        live = self._find(vhost, app, name)
        channel = patched(live.model, body)
        await self._channels.change(MULTIPLEX, vhost, app, name, to_xml(channel))
        return created()

    async def delete(self, request: Request, vhost: str, app: str, name: str) -> Answer:
        self._find(vhost, app, name)
        await self._channels.delete(MULTIPLEX, vhost, app, name)
        return plain(200)

    def _check_provider(self, vhost: str, app: str) -> None:
        """Raises NotFound."""
        if find_application(self._engine, vhost, app).settings.providers.multiplex is None:
            raise NotFound("Could not get the multiplex application")

    def _find(self, vhost: str, app: str, name: str) -> LiveChannel:
        """Raises NotFound, BadRequest."""
        if not name:
            raise BadRequest("Invalid stream name")
        self._check_provider(vhost, app)
        live = self._channels.find(MULTIPLEX, vhost, app, name)
        if live is None:
            raise NotFound(f"Could not get the multiplex stream <{name}>")
        return live


def channel_resource(provider: MultiplexChannel) -> dict[str, Any]:
    """The channel and how it stands."""
    channel: Multiplex = provider.channel
    made: dict[str, Any] = {
        "outputStream": {"name": channel.name, "bypassTranscoder": channel.bypass_transcoder},
        "sourceStreams": [_source(each) for each in channel.sources],
        "state": str(provider.state),
    }
    if channel.playlists:
        made["playlists"] = [_playlist(each) for each in channel.playlists]
    if message := provider.pulling_message:
        made["pullingMessage"] = message
    return made


def _source(source: SourceStream) -> dict[str, Any]:
    tracks = sorted(source.tracks, key=lambda track: track.source)
    return {"name": source.name, "url": source.url, "trackMap": [_track(track) for track in tracks]}


def _track(track: TrackMap) -> dict[str, Any]:
    made: dict[str, Any] = {"sourceTrackName": track.source, "newTrackName": track.name}
    if track.bitrate:
        made["bitrateConf"] = track.bitrate
    if track.framerate:
        made["framerateConf"] = track.framerate
    return made


def _playlist(playlist: models.Playlist) -> dict[str, Any]:
    options = playlist.options
    shown: dict[str, Any] = {}
    if options.webrtc_auto_abr:
        shown["webrtcAutoAbr"] = True
    if options.hls_chunklist_path_depth != -1:
        shown["hlsChunklistPathDepth"] = options.hls_chunklist_path_depth
    if options.enable_ts_packaging:
        shown["enableTsPackaging"] = True
    renditions = []
    for rendition in playlist.renditions:
        each = {"name": rendition.name}
        if rendition.video:
            each["video"] = rendition.video
        if rendition.audio:
            each["audio"] = rendition.audio
        renditions.append(each)
    return {"name": playlist.name, "fileName": playlist.file_name, "options": shown or None, "renditions": renditions}
