"""A multiplex channel as JSON (catalogue 3.9) and as a ``.mux`` file (6.9): two forms of one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lxml import etree

from appliance.errors import BadRequest, ConfigError
from appliance.media.channel_text import stream_place
from appliance.providers.multiplex.model import Multiplex, SourceStream, TrackMap
from appliance.settings import models
from appliance.settings.names import check_name

MOST_SOURCES = 64
MOST_TRACKS = 128
MOST_PLAYLISTS = 64
MOST_RENDITIONS = 256
_BIGGEST = 2**31 - 1

Body = Mapping[str, Any]


def from_json(body: Any) -> Multiplex:
    """Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("Invalid request body")
    output = body.get("outputStream")
    if not isinstance(output, dict):
        raise BadRequest("Failed to find outputStream object")
    if not isinstance(output.get("name"), str):
        raise BadRequest("Failed to find outputStream/name object")
    name = _name("channel", output["name"])
    bypass = _flag(output, "bypassTranscoder", True)
    return _checked(Multiplex(name, bypass, _sources(body.get("sourceStreams")), _playlists(body.get("playlists"))))


def patched(channel: Multiplex, body: Any) -> Multiplex:
    """``channel`` with what a PATCH names instead of what it has. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("Invalid request body")
    if "outputStream" in body:
        raise BadRequest("Cannot change [outputStream] using this API")
    sources = _sources(body["sourceStreams"]) if "sourceStreams" in body else channel.sources
    playlists = _playlists(body["playlists"]) if "playlists" in body else channel.playlists
    return _checked(Multiplex(channel.name, channel.bypass_transcoder, sources, playlists))


def _checked(channel: Multiplex) -> Multiplex:
    names = [track.name for source in channel.sources for track in source.tracks]
    if not names:
        raise BadRequest("Failed to find sourceStreams object")
    if len(channel.sources) > MOST_SOURCES or len(names) > MOST_TRACKS:
        raise BadRequest(f"A channel has at most {MOST_SOURCES} sources with {MOST_TRACKS} tracks")
    if len(channel.playlists) > MOST_PLAYLISTS or any(len(p.renditions) > MOST_RENDITIONS for p in channel.playlists):
        raise BadRequest(f"A channel has at most {MOST_PLAYLISTS} playlists of {MOST_RENDITIONS} renditions")
    of_sources = [[track.source for track in source.tracks] for source in channel.sources]
    for twice in (
        names, [source.name for source in channel.sources], [each.file_name for each in channel.playlists], *of_sources
    ):  # fmt: skip
        if len(set(twice)) < len(twice):
            raise BadRequest(f"Duplicate name: {next(name for name in twice if twice.count(name) > 1)}")
    for playlist in channel.playlists:
        for rendition in playlist.renditions:
            for kind, wanted in (("video", rendition.video), ("audio", rendition.audio)):
                if wanted and wanted not in names:
                    raise BadRequest(f"Failed to find {kind} variant name {wanted} in SourceStream/TrackMap object")
    return channel


def _sources(given: Any) -> tuple[SourceStream, ...]:
    if not isinstance(given, list):
        raise BadRequest("Failed to find sourceStreams object")
    made = []
    for each in given:
        source = each if isinstance(each, dict) else {}
        for key in ("name", "url"):
            if not isinstance(source.get(key), str):
                raise BadRequest(f"Failed to find sourceStreams/{key} object")
        if not isinstance(source.get("trackMap"), list):
            _place(source["url"])
            raise BadRequest("Failed to find sourceStreams/trackMap object")
        made.append(_source(source["name"], source["url"], map(_track, source["trackMap"])))
    return tuple(made)


def _source(name: str, url: str, tracks: Iterable[TrackMap]) -> SourceStream:
    return SourceStream(_name("label", name), _place(url), tuple(tracks))


def _place(url: str) -> str:
    if stream_place(url) is None or not url.isprintable() or len(url) > 512:
        raise BadRequest(f"Failed to parse url: {url[:512]}")
    return url


def _track(given: Any) -> TrackMap:
    track = given if isinstance(given, dict) else {}
    for key in ("sourceTrackName", "newTrackName"):
        if not isinstance(track.get(key), str):
            raise BadRequest(f"Failed to find sourceStreams/trackMap/{key} object")
    return TrackMap(
        _name("label", track["sourceTrackName"]), _name("label", track["newTrackName"]),
        _integer(track, "bitrateConf", 0, 0, _BIGGEST), _integer(track, "framerateConf", 0, 0, 1000),
    )  # fmt: skip


def _playlists(given: Any) -> tuple[models.Playlist, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise BadRequest("[playlists] must be an array")
    made = []
    for each in given:
        playlist = each if isinstance(each, dict) else {}
        for key in ("name", "fileName"):
            if not isinstance(playlist.get(key), str):
                raise BadRequest(f"Failed to find playlists/{key} object")
        renditions = playlist.get("renditions")
        if renditions is None:
            continue
        if not isinstance(renditions, list):
            raise BadRequest("[renditions] must be an array")
        made.append(
            models.Playlist(
                name=_name("playlist", playlist["name"]), file_name=_name("playlist file", playlist["fileName"]),
                options=_options(playlist.get("options")), renditions=tuple(map(_rendition, renditions)),
            )
        )  # fmt: skip
    return tuple(made)


def _options(given: Any) -> models.PlaylistOptions:
    if given is None:
        return DEFAULT_OPTIONS
    if not isinstance(given, dict):
        raise BadRequest("[options] must be an object")
    return models.PlaylistOptions(
        webrtc_auto_abr=_flag(given, "webrtcAutoAbr", False),
        hls_chunklist_path_depth=_integer(given, "hlsChunklistPathDepth", -1, -1, 2),
        enable_ts_packaging=_flag(given, "enableTsPackaging", False),
    )


#: Of a playlist that says nothing.
DEFAULT_OPTIONS = models.PlaylistOptions(webrtc_auto_abr=False)


def _rendition(given: Any) -> models.Rendition:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise BadRequest("Failed to find playlists/renditions/name object")
    return models.Rendition(
        name=_name("rendition", given["name"]), video=_text(given, "video"), audio=_text(given, "audio"),
        video_index_hint=_integer(given, "videoIndexHint", -1, -1, 100),
        audio_index_hint=_integer(given, "audioIndexHint", -1, -1, 100),
    )


def _name(kind: Any, value: str) -> str:
    try:
        return check_name(kind, value)
    except ConfigError as error:
        raise BadRequest(str(error)) from None


def _text(body: Body, key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"[{key}] must be a string")
    return value


def _flag(body: Body, key: str, default: bool) -> bool:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"[{key}] must be true or false")
    return value


def _integer(body: Body, key: str, default: int, low: int, high: int) -> int:
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"[{key}] must be an integer")
    if not low <= value <= high:
        raise BadRequest(f"[{key}] must be between {low} and {high}")
    return value


# Files: each is turned into what a request would say, so that one set of rules holds.


def from_xml(data: bytes, name: str) -> Multiplex:
    """The channel of the file ``name``.mux, whatever name stands in it. Raises BadRequest."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BadRequest(f"It is no XML: {error}") from None
    info = root.getroottree().docinfo
    if getattr(info, "doctype", ""):
        raise BadRequest("A document type (DOCTYPE) is not allowed")
    if root.tag != "Multiplex":
        raise BadRequest(f"It begins with <{root.tag}>, not with <Multiplex>")
    output = root.find("OutputStream")
    if output is None:
        raise BadRequest("Failed to find outputStream object")
    written = _fields(output, {"BypassTranscoder": "bypassTranscoder"})
    return from_json(
        {
            "outputStream": {**written, "name": name},
            "sourceStreams": [_xml_source(each) for each in root.findall("SourceStreams/SourceStream")],
            "playlists": [_xml_playlist(each) for each in root.findall("Playlists/Playlist")],
        }
    )


def _xml_source(element: etree._Element) -> Body:
    names = {"SourceTrackName": "sourceTrackName", "NewTrackName": "newTrackName", "BitrateConf": "bitrateConf",
             "FramerateConf": "framerateConf"}  # fmt: skip
    tracks = [_fields(each, names) for each in element.findall("TrackMap/Track")]
    return {**_fields(element, {"Name": "name", "Url": "url"}), "trackMap": tracks}


def _xml_playlist(element: etree._Element) -> Body:
    options = element.find("Options")
    names = {"Name": "name", "Video": "video", "Audio": "audio", "VideoIndexHint": "videoIndexHint",
             "AudioIndexHint": "audioIndexHint"}  # fmt: skip
    made = {
        **_fields(element, {"Name": "name", "FileName": "fileName"}),
        "renditions": [_fields(each, names) for each in element.findall("Rendition")],
    }
    if options is not None:
        made["options"] = _fields(
            options, {"WebRtcAutoAbr": "webrtcAutoAbr", "HLSChunklistPathDepth": "hlsChunklistPathDepth",
                      "EnableTsPackaging": "enableTsPackaging"},
        )  # fmt: skip
    return made


_NUMBERS = frozenset({"bitrateConf", "framerateConf", "hlsChunklistPathDepth", "videoIndexHint", "audioIndexHint"})
_FLAGS = frozenset({"bypassTranscoder", "webrtcAutoAbr", "enableTsPackaging"})


def _fields(element: etree._Element, names: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for child in element:
        key = names.get(str(child.tag))
        if key is not None:
            made[key] = _value(key, (child.text or "").strip(), child.sourceline)
    return made


def _value(key: str, text: str, line: Any) -> Any:
    if key in _FLAGS:
        if text.lower() not in ("true", "false"):
            raise BadRequest(f"line {line}: '{text}' is neither true nor false")
        return text.lower() == "true"
    if key in _NUMBERS:
        try:
            return int(text[:20])
        except ValueError:
            raise BadRequest(f"line {line}: '{text}' is no number") from None
    return text


def to_xml(channel: Multiplex) -> bytes:
    """The file of ``channel``; `from_xml` gives it back."""
    root = etree.Element("Multiplex")
    output = etree.SubElement(root, "OutputStream")
    _put(output, "Name", channel.name)
    _put(output, "BypassTranscoder", channel.bypass_transcoder)
    sources = etree.SubElement(root, "SourceStreams")
    for source in channel.sources:
        element = etree.SubElement(sources, "SourceStream")
        _put(element, "Name", source.name)
        _put(element, "Url", source.url)
        tracks = etree.SubElement(element, "TrackMap")
        for track in source.tracks:
            mapped = etree.SubElement(tracks, "Track")
            _put(mapped, "SourceTrackName", track.source)
            _put(mapped, "NewTrackName", track.name)
            if track.bitrate:
                _put(mapped, "BitrateConf", track.bitrate)
            if track.framerate:
                _put(mapped, "FramerateConf", track.framerate)
    playlists = etree.SubElement(root, "Playlists")
    for playlist in channel.playlists:
        _put_playlist(etree.SubElement(playlists, "Playlist"), playlist)
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return written


def _put_playlist(element: etree._Element, playlist: models.Playlist) -> None:
    _put(element, "Name", playlist.name)
    _put(element, "FileName", playlist.file_name)
    options = etree.SubElement(element, "Options")
    _put(options, "WebRtcAutoAbr", playlist.options.webrtc_auto_abr)
    _put(options, "HLSChunklistPathDepth", playlist.options.hls_chunklist_path_depth)
    _put(options, "EnableTsPackaging", playlist.options.enable_ts_packaging)
    for rendition in playlist.renditions:
        each = etree.SubElement(element, "Rendition")
        _put(each, "Name", rendition.name)
        if rendition.video:
            _put(each, "Video", rendition.video)
        if rendition.audio:
            _put(each, "Audio", rendition.audio)
        if rendition.video_index_hint >= 0:
            _put(each, "VideoIndexHint", rendition.video_index_hint)
        if rendition.audio_index_hint >= 0:
            _put(each, "AudioIndexHint", rendition.audio_index_hint)


def _put(parent: etree._Element, name: str, value: str | int | bool) -> None:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    etree.SubElement(parent, name).text = text
