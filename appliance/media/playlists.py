"""From the playlists of an output profile to the renditions that really exist (wire catalogue 4.14, 4.15)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Protocol

from appliance.media.contracts import Playlist, Rendition
from appliance.media.track import Codec, Track

log = logging.getLogger("kiln.playlists")

_PICTURES = frozenset({Codec.JPEG, Codec.PNG, Codec.WEBP})


class PlaylistOptions(Protocol):
    @property
    def webrtc_auto_abr(self) -> bool: ...
    @property
    def hls_chunklist_path_depth(self) -> int: ...
    @property
    def enable_ts_packaging(self) -> bool: ...
    @property
    def enable_subtitles(self) -> bool: ...


class RenditionSettings(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def video(self) -> str: ...
    @property
    def audio(self) -> str: ...
    @property
    def video_index_hint(self) -> int: ...
    @property
    def audio_index_hint(self) -> int: ...


class VideoTemplate(Protocol):
    @property
    def variant_name(self) -> str: ...
    @property
    def encoding_type(self) -> str: ...
    @property
    def max_width(self) -> int: ...
    @property
    def min_width(self) -> int: ...
    @property
    def max_height(self) -> int: ...
    @property
    def min_height(self) -> int: ...
    @property
    def max_framerate(self) -> int: ...
    @property
    def min_framerate(self) -> int: ...
    @property
    def max_bitrate(self) -> int: ...
    @property
    def min_bitrate(self) -> int: ...


class AudioTemplate(Protocol):
    @property
    def variant_name(self) -> str: ...
    @property
    def encoding_type(self) -> str: ...
    @property
    def max_bitrate(self) -> int: ...
    @property
    def min_bitrate(self) -> int: ...
    @property
    def max_samplerate(self) -> int: ...
    @property
    def min_samplerate(self) -> int: ...
    @property
    def max_channel(self) -> int: ...
    @property
    def min_channel(self) -> int: ...


class RenditionTemplate(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def video_template(self) -> VideoTemplate | None: ...
    @property
    def audio_template(self) -> AudioTemplate | None: ...


class PlaylistSettings(Protocol):
    """A playlist as the settings have it (``appliance.settings.models.Playlist``)."""

    @property
    def name(self) -> str: ...
    @property
    def file_name(self) -> str: ...
    @property
    def options(self) -> PlaylistOptions: ...
    @property
    def renditions(self) -> Iterable[RenditionSettings]: ...
    @property
    def rendition_templates(self) -> Iterable[RenditionTemplate]: ...


def resolve_playlists(settings: Iterable[PlaylistSettings], tracks: Sequence[Track]) -> list[Playlist]:
    """The playlists of an output profile with each template turned into renditions of ``tracks``.

    Explicit renditions come first, then those of each template in order. A name that is taken gets ``_1``, ``_2`` …
    A template that matches nothing is skipped with a warning.
    """
    return [_resolve(playlist, tracks) for playlist in settings]


def default_playlist(name: str, file_name: str, tracks: Iterable[Track], codecs: Collection[Codec]) -> Playlist:
    """The automatic playlist of a publisher: one rendition ``default`` of the first video and audio in ``codecs``."""
    usable = [track for track in tracks if track.codec in codecs]
    video = next((track.variant for track in usable if track.is_video), "")
    audio = next((track.variant for track in usable if track.is_audio), "")
    renditions = [Rendition("default", video, audio)] if video or audio else []
    return Playlist(name, file_name, renditions)


def tracks_of_variant(tracks: Iterable[Track], variant: str, *, video: bool) -> list[Track]:
    """The tracks of one variant group, in order; none for the variant ""."""
    if not variant:
        return []
    return [track for track in tracks if track.variant == variant and (track.is_video if video else track.is_audio)]


def _resolve(settings: PlaylistSettings, tracks: Sequence[Track]) -> Playlist:
    options = settings.options
    renditions: list[Rendition] = [
        Rendition(given.name, given.video, given.audio, max(0, given.video_index_hint), max(0, given.audio_index_hint))
        for given in settings.renditions
    ]
    taken = {rendition.name for rendition in renditions}
    for template in settings.rendition_templates:
        pairs = _matches(template, tracks)
        if not pairs:
            log.warning("rendition template matches no track playlist=%s template=%s", settings.name, template.name)
        for video, audio in pairs:
            name = _free_name(_expand(template.name, video, audio), taken)
            taken.add(name)
            renditions.append(_rendition(name, video, audio, tracks))
    return Playlist(
        settings.name or settings.file_name,
        settings.file_name,
        renditions,
        options.webrtc_auto_abr,
        options.hls_chunklist_path_depth,
        options.enable_ts_packaging,
        options.enable_subtitles,
    )


def _matches(template: RenditionTemplate, tracks: Sequence[Track]) -> list[tuple[Track | None, Track | None]]:
    wanted_video, wanted_audio = template.video_template, template.audio_template
    videos: list[Track] = []
    audios: list[Track] = []
    if wanted_video is not None:
        videos = [track for track in tracks if track.is_video and _video_matches(wanted_video, track)]
    if wanted_audio is not None:
        # Of each group only its first track: several languages of one variant stay together.
        listed = sorted((track for track in tracks if track.is_audio), key=lambda track: track.variant)
        heads = [next(group).id for _, group in groupby(listed, key=lambda track: track.variant)]
        audios = [track for track in tracks if track.id in heads and _audio_matches(wanted_audio, track)]
    if videos and audios:
        return [(video, audio) for video in videos for audio in audios]
    return [(video, None) for video in videos] or [(None, audio) for audio in audios]


def _video_matches(template: VideoTemplate, track: Track) -> bool:
    return (
        _common(template.variant_name, template.encoding_type, track)
        and track.codec not in _PICTURES
        and _within(track.width, template.min_width, template.max_width)
        and _within(track.height, template.min_height, template.max_height)
        and _within(track.frame_rate, template.min_framerate, template.max_framerate)
        and _within(track.bitrate, template.min_bitrate, template.max_bitrate)
    )


def _audio_matches(template: AudioTemplate, track: Track) -> bool:
    return (
        _common(template.variant_name, template.encoding_type, track)
        and _within(track.bitrate, template.min_bitrate, template.max_bitrate)
        and _within(track.sample_rate, template.min_samplerate, template.max_samplerate)
        and _within(track.channels, template.min_channel, template.max_channel)
    )


def _common(variant: str, encoding: str, track: Track) -> bool:
    if variant and track.variant != variant:
        return False
    match encoding.lower():
        case "encoded":
            return not track.bypass
        case "bypassed":
            return track.bypass
        case _:
            return True


def _within(value: float, low: int, high: int) -> bool:
    return (low <= 0 or value >= low) and (high <= 0 or value <= high)


def _expand(name: str, video: Track | None, audio: Track | None) -> str:
    values: dict[str, float] = {}
    if video is not None:
        values |= {"Width": video.width, "Height": video.height, "Framerate": video.frame_rate}
        values["Bitrate"] = video.bitrate
    if audio is not None:
        values |= {"Samplerate": audio.sample_rate, "Channel": audio.channels}
        values.setdefault("Bitrate", audio.bitrate)
    for macro, value in values.items():
        name = name.replace(f"${{{macro}}}", f"{value:g}" if isinstance(value, float) else str(value))
    return name


def _free_name(name: str, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    count = 1
    while f"{name}_{count}" in taken:
        count += 1
    return f"{name}_{count}"


def _rendition(name: str, video: Track | None, audio: Track | None, tracks: Sequence[Track]) -> Rendition:
    made = Rendition(name)
    if video is not None:
        made.video = video.variant
        made.video_index = tracks_of_variant(tracks, video.variant, video=True).index(video)
    if audio is not None:
        made.audio = audio.variant
        made.audio_index = tracks_of_variant(tracks, audio.variant, video=False).index(audio)
    return made
