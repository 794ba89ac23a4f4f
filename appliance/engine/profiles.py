"""What an output profile makes of an input's tracks (wire catalogue 8.1, 8.2, 8.4).

Pure planning: nothing here touches a stream. Each input track is multiplied by each matching encode of its type;
output track ids count from 0 in that order (videos, then images; audios).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models

ORIGIN_STREAM_NAME = "${OriginStreamName}"

#: An application without any output profile still plays: everything is bypassed (wire catalogue 8.1).
BYPASS_PROFILE_NAME = "bypass"

AnyEncode = models.VideoEncode | models.AudioEncode | models.ImageEncode


@dataclass(frozen=True, slots=True)
class PlannedTrack:
    """One track of an output stream. ``encode`` is None where the source's packets are passed on.

    ``own_encode``: the source is raw, so passing on means the input's own encode.
    """

    id: int
    source: Track
    variant: str
    encode: AnyEncode | None
    own_encode: bool = False

    @property
    def bypass(self) -> bool:
        return self.encode is None and not self.own_encode


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """One output stream: its name, its tracks, and the playlists its profile declares."""

    name: str
    profile: str
    tracks: tuple[PlannedTrack, ...]
    playlists: tuple[models.Playlist, ...]


def plan_outputs(
    profiles: Sequence[models.OutputProfile], tracks: Sequence[Track], stream_name: str
) -> list[PlannedOutput]:
    """The output streams of an input called ``stream_name``. An output without any track is left out."""
    ordered = sorted(tracks, key=lambda track: track.id)
    if not profiles:
        return [_bypass_everything(ordered, stream_name)]
    planned = []
    for profile in profiles:
        name = profile.output_stream_name.replace(ORIGIN_STREAM_NAME, stream_name)
        chosen = tuple(_plan_tracks(profile, ordered))
        if chosen:
            planned.append(PlannedOutput(name, profile.name, chosen, profile.playlists))
    return planned


def _bypass_everything(tracks: Sequence[Track], stream_name: str) -> PlannedOutput:
    chosen = tuple(
        PlannedTrack(index, track, track.variant or str(track.media), None, track.codec is Codec.RAW)
        for index, track in enumerate(tracks)
    )
    return PlannedOutput(stream_name, BYPASS_PROFILE_NAME, chosen, ())


def _plan_tracks(profile: models.OutputProfile, tracks: Sequence[Track]) -> Iterator[PlannedTrack]:
    encodes = profile.encodes
    videos = list(_named(encodes.videos, "video"))
    audios = list(_named(encodes.audios, "audio"))
    images = list(_named(encodes.images, "image"))
    next_id = 0
    for track in tracks:
        matching: list[tuple[str, AnyEncode]] = []
        if track.media is MediaType.VIDEO:
            matching = [*videos, *images]
        elif track.media is MediaType.AUDIO:
            matching = [*audios]
        for variant, encode in matching:
            yield _plan_track(next_id, track, variant, encode)
            next_id += 1


def _named(encodes: Sequence[AnyEncode], kind: str) -> Iterator[tuple[str, AnyEncode]]:
    """Encodes with their variant names; those without one are numbered among themselves."""
    unnamed = 0
    for encode in encodes:
        if encode.name:
            yield encode.name, encode
        else:
            yield f"{kind}_{unnamed}", encode
            unnamed += 1


def _plan_track(track_id: int, track: Track, variant: str, encode: AnyEncode) -> PlannedTrack:
    raw = track.codec is Codec.RAW
    if not isinstance(encode, models.ImageEncode):
        if encode.bypass:
            return PlannedTrack(track_id, track, variant, None, raw)
        if not raw and matches_for_bypass(track, encode):
            return PlannedTrack(track_id, track, variant, None)
    return PlannedTrack(track_id, track, variant, encode)


def matches_for_bypass(track: Track, encode: models.VideoEncode | models.AudioEncode) -> bool:
    """BypassIfMatch: every condition that is written holds, and at least one is written. ``lte``: input <= profile."""
    if isinstance(encode, models.VideoEncode):
        outcomes = _video_outcomes(track, encode)
    else:
        outcomes = _audio_outcomes(track, encode)
    rule = encode.bypass_if_match
    if rule is not None and rule.codec:
        outcomes.append(str(track.codec) == encode.codec.partition("_")[0].upper())
    return bool(outcomes) and all(outcomes)


def _video_outcomes(track: Track, encode: models.VideoEncode) -> list[bool]:
    rule = encode.bypass_if_match
    if rule is None:
        return []
    outcomes = [
        *_compared(rule.width, track.width, encode.width),
        *_compared(rule.height, track.height, encode.height),
        *_compared(rule.framerate, track.frame_rate, encode.framerate),
    ]
    if rule.sar:
        outcomes.append(track.width * encode.height == track.height * encode.width)
    return outcomes


def _audio_outcomes(track: Track, encode: models.AudioEncode) -> list[bool]:
    rule = encode.bypass_if_match
    if rule is None:
        return []
    return [
        *_compared(rule.samplerate, track.sample_rate, encode.samplerate),
        *_compared(rule.channel, track.channels, encode.channel),
    ]


def _compared(rule: str, actual: float, wanted: float) -> list[bool]:
    if not rule:
        return []
    match rule.lower():
        case "eq":
            return [actual == wanted]
        case "lte":
            return [actual <= wanted]
        case _:
            return [actual >= wanted]

