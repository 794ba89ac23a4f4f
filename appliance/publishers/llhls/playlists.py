"""The playlists of one stream as bytes: made once a change, and only when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.media.contracts import Playlist, Rendition
from appliance.media.playlists import tracks_of_variant
from appliance.media.track import Track
from appliance.protocols import hls
from appliance.protocols.fmp4 import codec_string
from appliance.publishers.llhls.subtitles import VARIANT, SubtitleWindow
from appliance.publishers.llhls.window import PARTS_LISTED, TrackWindow
from appliance.publishers.rendered import Rendered

if TYPE_CHECKING:
    from appliance.publishers.llhls.live import Live

#: Multiples of the target duration (draft 4.4.3.8).
HOLD_BACK = 3
CAN_SKIP_UNTIL = 6
#: Forms of one playlist that are kept at once (a stream key makes one more).
MOST_FORMS = 32

_BANDWIDTH_UNKNOWN = 1_000_000
#: What was measured so far may be exceeded a little.
_PEAK_RESERVE = 1.1


class Playlists:
    """All playlists of ``live``. ``query`` is what child URIs carry on, encoded, "" for nothing."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._media: dict[tuple[int, bool, bool, bool, str], Rendered] = {}
        self._masters: dict[tuple[str, str, str], Rendered] = {}

    def media(
        self, window: TrackWindow, *, skip: bool = False, legacy: bool = False, rewind: bool = False, query: str = ""
    ) -> Rendered:
        """The media playlist of a track; ``skip`` the delta update, ``legacy`` without anything of low latency,
        ``rewind`` with all that the disk has."""
        forms = self._media
        rewind = rewind and window.archive is not None
        key = (window.track.id, skip, legacy, rewind, query)
        made = forms.get(key)
        version = self._live.version
        if made is None or made.version != version:
            if len(forms) >= MOST_FORMS:
                forms.clear()
            text = hls.with_query(media_text(self._live, window, skip=skip, legacy=legacy, rewind=rewind), query)
            made = forms[key] = Rendered(version, text.encode())
        return made

    def master(self, name: str, *, query: str = "", session: str = "") -> Rendered | None:
        """The master playlist with that file name; None when there is none, or nothing of it is there."""
        forms = self._masters
        key = (name, query, session)
        made = forms.get(key)
        # What it says (bit rates, tracks) changes with whole segments at most: once a target duration is enough.
        version = self._live.master_version
        if made is None or made.version != version:
            if len(forms) >= MOST_FORMS:
                forms.clear()
            playlist = self._live.playlists.get(name)
            text = "" if playlist is None else master_text(self._live, playlist, session)
            if not text:
                return None
            made = forms[key] = Rendered(version, hls.with_query(text, query).encode())
        return made


def media_text(
    live: Live, window: TrackWindow, *, skip: bool = False, legacy: bool = False, rewind: bool = False
) -> str:
    """The whole text of a media playlist (wire catalogue 4.7; draft-pantos-hls-rfc8216bis 4.4)."""
    target = live.target_duration
    listed = window.rewound() if rewind else list(window.listed)
    current = None if legacy or window.current is None or not window.current.parts else window.current
    first = listed[0] if listed else current
    control = None
    if not legacy:
        control = hls.ServerControl(
            window.part_target, live.hold_back, HOLD_BACK * target, CAN_SKIP_UNTIL * target
        )
    pieces = [
        hls.media_head(
            target_duration=target,
            media_sequence=first.msn if first is not None else 0,
            discontinuity_sequence=0
            if first is None
            else live.discontinuity_base + first.boundary.discontinuities - first.tagged,
            control=control,
        )
    ]
    if rewind and live.settings.dvr.event_playlist_type and window.archive is not None and not window.archive.expired:
        pieces.append(hls.EVENT)
    skipped = 0
    if skip and not legacy and not live.ended:
        boundary = window.edge - CAN_SKIP_UNTIL * target
        while skipped < len(listed) and listed[skipped].begins + listed[skipped].duration <= boundary:
            skipped += 1
        if skipped:
            pieces.append(hls.skip(skipped))
            # Segments are skipped, date ranges are not (draft 4.4.3.8, CAN-SKIP-DATERANGES).
            pieces += [hls.date_ranges(segment.boundary.tags) for segment in listed[:skipped] if segment.boundary.tags]
    parts_from = window.edge - PARTS_LISTED * target
    for segment in listed[skipped:]:
        pieces.append(segment.opening_text if segment is first else segment.head_text)
        if not legacy and segment.begins >= parts_from:
            pieces.append(segment.parts_text)
        pieces.append(segment.line)
    if current is not None:
        pieces.append(current.opening_text if current is first else current.head_text)
        pieces.append(current.parts_text)
    if live.ended:
        pieces.append(hls.ENDLIST)
    elif not legacy:
        pieces.append(_hint_and_reports(live, window))
    return "".join(pieces)


def _hint_and_reports(live: Live, window: TrackWindow) -> str:
    text = ""
    if window.hints:
        text = hls.preload_hint(window.part_name(window.next_msn, window.next_part))
    for other in live.playable():
        if other is not window:
            text += hls.rendition_report(other.playlist_name, other.last_msn, other.last_part)
    return text


def master_text(live: Live, playlist: Playlist, session: str = "", *, prefix: str | None = None) -> str:
    """A master playlist (wire catalogue 4.6); "" when none of its renditions can be played.

    ``session`` is put as a path segment before each media playlist; ``prefix`` stands in place of the path that the
    playlist's options ask for.
    """
    if prefix is None:
        prefix = _prefix(live, playlist.hls_chunklist_path_depth) + (f"~{session}/" if session else "")
    groups: dict[str, list[TrackWindow]] = {}
    variants = []
    subtitles = [one for one in live.subtitles.values() if one.started] if playlist.enable_subtitles else []
    for rendition in playlist.renditions:
        video, audios = _windows(live, rendition)
        if video is None and not audios:
            continue
        if (video is not None and audios) or len(audios) > 1:
            groups.setdefault(rendition.audio, audios)
        variants.append(_variant(rendition, video, audios, prefix, VARIANT if subtitles else ""))
    if not variants:
        return ""
    media: list[hls.AudioMedia | hls.SubtitleMedia] = [
        hls.AudioMedia(
            group,
            window.track.public_name or f"Audio_{number}",
            prefix + window.playlist_name,
            number == 1,
            window.track.channels,
            window.track.language,
            window.track.characteristics,
        )
        for group, windows in groups.items()
        for number, window in enumerate(windows, 1)
    ]
    media += [_subtitle_media(live, window, prefix) for window in subtitles]
    return hls.multivariant(media, variants)


def _subtitle_media(live: Live, window: SubtitleWindow, prefix: str) -> hls.SubtitleMedia:
    rendition = window.rendition
    return hls.SubtitleMedia(
        VARIANT, rendition.label, prefix + window.playlist_name, rendition.language,
        default=rendition.label == live.default_subtitle, auto_select=rendition.auto_select, forced=rendition.forced,
    )  # fmt: skip


def _variant(
    rendition: Rendition, video: TrackWindow | None, audios: list[TrackWindow], prefix: str, subtitles: str
) -> hls.Variant:
    media = [window for window in (video, audios[0] if audios else None) if window is not None]
    peak = sum(max(window.track.bitrate, int(window.peak_bitrate * _PEAK_RESERVE)) for window in media)
    average = sum(_average(window) for window in media)
    track = video.track if video is not None else None
    in_group = (video is not None and audios) or len(audios) > 1
    return hls.Variant(
        uri=prefix + media[0].playlist_name,
        bandwidth=max(peak or _BANDWIDTH_UNKNOWN, average),
        average_bandwidth=average,
        codecs=",".join(codec_string(window.track) for window in media),
        width=track.width if track else 0,
        height=track.height if track else 0,
        frame_rate=_frame_rate(track, video),
        audio_group=rendition.audio if in_group else "",
        subtitle_group=subtitles,
    )


def _frame_rate(track: Track | None, window: TrackWindow | None) -> float:
    if track is None or window is None:
        return 0.0
    return track.frame_rate or window.frame_rate or 30.0


def _average(window: TrackWindow) -> int:
    if window.measured_seconds:
        return int(window.measured_bytes * 8 / window.measured_seconds)
    return window.track.bitrate


def _windows(live: Live, rendition: Rendition) -> tuple[TrackWindow | None, list[TrackWindow]]:
    tracks = [window.track for window in live.playable()]
    order = list(live.output.stream.tracks.values())
    videos = tracks_of_variant(order, rendition.video, video=True)[rendition.video_index : rendition.video_index + 1]
    video = next((live.windows[track.id] for track in tracks if videos and track.id == videos[0].id), None)
    audios = tracks_of_variant(tracks, rendition.audio, video=False)
    return video, [live.windows[track.id] for track in audios]


def _prefix(live: Live, depth: int) -> str:
    output = live.output
    match depth:
        case 0:
            return ""
        case 1:
            return f"../{output.name}/"
        case 2:
            return f"../../{output.app}/{output.name}/"
        case _:
            return f"/{output.app}/{output.name}/"
