"""The Stream resource (catalogue 3.4). Empty texts are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from appliance.api.view import InputView, OutputView, PlannedTrackView
from appliance.media.contracts import OutputStream, Playlist
from appliance.media.measure import Measured
from appliance.media.playlists import default_playlist
from appliance.media.track import MediaType, Track
from appliance.protocols.fmp4 import SUPPORTED_CODECS
from appliance.publishers.hls.segmenter import SUPPORTED_CODECS as HLS_CODECS
from appliance.settings import models

#: The playlist that Publishers/HLS adds by itself.
HLS_DEFAULT = "hls_default"


def stream_resource(stream: InputView) -> dict[str, Any]:
    """An input stream with all output streams made of it that are on."""
    source: dict[str, Any] = {"createdTime": api_time(stream.created_wall), "sourceType": stream.source.kind}
    if stream.source.url:
        source["sourceUrl"] = stream.source.url
    source["tracks"] = _tracks(stream.tracks, stream.measured, None)
    outputs = stream.outputs.by_name.values() if stream.outputs else ()
    return {
        "input": source,
        "name": stream.name,
        "outputs": [_output(each, each.output) for each in outputs if each.output is not None],
    }


@lru_cache(maxsize=1024)
def api_time(wall: int) -> str:
    """Nanoseconds since 1970 as local time with its offset: ``2026-01-02T03:04:05.678+09:00``."""
    return datetime.fromtimestamp(wall / 1e9, UTC).astimezone().isoformat(timespec="milliseconds")


def playlists_of(output: OutputStream) -> list[Playlist]:
    """All playlists that an output stream is served by, ordered by file name."""
    playlists = [*output.playlists, *_automatic(output)]
    return sorted(playlists, key=lambda playlist: playlist.file_name)


def _automatic(output: OutputStream) -> Iterable[Playlist]:
    application = output.application
    if not isinstance(application, models.Application):
        return
    llhls = application.publishers.llhls
    if llhls is not None and llhls.create_default_playlist:
        made = default_playlist("llhls_default", "llhls", output.stream.tracks.values(), SUPPORTED_CODECS)
        made.webrtc_auto_abr = False
        yield made
    hls = application.publishers.hls
    if hls is not None and hls.create_default_playlist:
        made = default_playlist(HLS_DEFAULT, "playlist", output.stream.tracks.values(), HLS_CODECS)
        made.webrtc_auto_abr = False
        made.enable_ts_packaging = True
        yield made


def _output(view: OutputView, output: OutputStream) -> dict[str, Any]:
    return {
        "name": view.name,
        "playlists": [_playlist(each) for each in playlists_of(output)],
        "tracks": _tracks(output.stream.tracks.values(), view.measured, view.plan.tracks),
    }


def _playlist(playlist: Playlist) -> dict[str, Any]:
    renditions = []
    for rendition in playlist.renditions:
        shown = {"name": rendition.name}
        if rendition.audio:
            shown["audioVariantName"] = rendition.audio
        if rendition.video:
            shown["videoVariantName"] = rendition.video
        renditions.append(shown)
    return {
        "fileName": playlist.file_name,
        "name": playlist.name,
        "options": {
            "enableTsPackaging": playlist.enable_ts_packaging,
            "hlsChunklistPathDepth": playlist.hls_chunklist_path_depth,
            "webrtcAutoAbr": playlist.webrtc_auto_abr,
        },
        "renditions": renditions,
    }


def _tracks(
    tracks: Iterable[Track], measured: Mapping[int, Measured], planned: Sequence[PlannedTrackView] | None
) -> list[dict[str, Any]]:
    """``planned`` None is an input: what comes in has not passed by any encoder."""
    encodes = {each.id: each.encode for each in planned or ()}
    shown_tracks = []
    for track in sorted(tracks, key=lambda track: track.id):
        figures = measured.get(track.id) or Measured(track)
        bypass = planned is not None and track.bypass
        shown: dict[str, Any] = {"id": track.id, "name": track.variant or str(track.media), "type": track.media}
        if track.media is MediaType.VIDEO:
            shown["video"] = _video(track, figures, bypass, configured_interval(track, encodes.get(track.id)))
        elif track.media is MediaType.AUDIO:
            shown["audio"] = _audio(track, figures, bypass)
        shown_tracks.append(shown)
    return shown_tracks


def configured_interval(track: Track, encode: object) -> float:
    """Frames from key frame to key frame as configured, 0.0 where nothing is."""
    if track.bypass or not isinstance(encode, models.VideoEncode):
        return 0.0
    if encode.key_frame_interval_type.lower() == "time":
        return encode.key_frame_interval * track.frame_rate / 1000
    return float(encode.key_frame_interval)


def _video(track: Track, measured: Measured, bypass: bool, wanted_interval: float) -> dict[str, Any]:
    bitrate = measured.bitrate_avg
    frame_rate = measured.framerate_avg
    interval = measured.key_frame_interval_avg
    return {
        "bitrate": track.bitrate or bitrate,
        "bitrateAvg": bitrate,
        "bitrateConf": track.bitrate,
        "bitrateLatest": measured.bitrate_latest,
        "bypass": bypass,
        "codec": track.codec,
        "deltaFramesSinceLastKeyFrame": measured.delta_frames_since_last_key_frame,
        "framerate": float(track.frame_rate or frame_rate),
        "framerateAvg": frame_rate,
        "framerateConf": float(track.frame_rate),
        "framerateLatest": measured.framerate_latest,
        "hasBframes": track.has_b_frames or measured.reordered,
        "height": track.height,
        "keyFrameInterval": wanted_interval or interval,
        "keyFrameIntervalAvg": interval,
        "keyFrameIntervalConf": wanted_interval,
        "keyFrameIntervalLatest": measured.key_frame_interval_latest,
        "maxHeight": track.height,
        "maxWidth": track.width,
        "width": track.width,
    }


def _audio(track: Track, measured: Measured, bypass: bool) -> dict[str, Any]:
    bitrate = measured.bitrate_avg
    return {
        "bitrate": track.bitrate or bitrate,
        "bitrateAvg": bitrate,
        "bitrateConf": track.bitrate,
        "bitrateLatest": measured.bitrate_latest,
        "bypass": bypass,
        "channel": track.channels,
        "codec": track.codec,
        "samplerate": track.sample_rate,
    }
