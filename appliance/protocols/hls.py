"""The text of HLS playlists: RFC 8216 and draft-pantos-hls-rfc8216bis (the low-latency parts).

Pure: values in, text out. All durations are seconds. Every function gives whole lines, each with its line end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

MEDIA_TYPE = "application/vnd.apple.mpegurl"
#: EXT-X-SKIP needs 9; a multivariant playlist, and one without the low-latency tags, needs 6 (EXT-X-MAP).
LOW_LATENCY_VERSION = 9
PLAIN_VERSION = 6
#: Nothing but segments with durations that are no whole numbers.
SEGMENTS_ALONE_VERSION = 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ServerControl:
    """EXT-X-SERVER-CONTROL and EXT-X-PART-INF, the same in every rendition but for ``part_target``."""

    part_target: float
    part_hold_back: float
    hold_back: float
    can_skip_until: float


def seconds(value: float) -> str:
    """A decimal floating-point number with six decimals, as all durations are written."""
    return f"{value:.6f}"


def date_time(wall: int) -> str:
    """``wall`` (nanoseconds since 1970) as ISO 8601 in UTC with milliseconds."""
    moment = _EPOCH + timedelta(microseconds=wall // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def media_head(
    *, target_duration: int, media_sequence: int, discontinuity_sequence: int, control: ServerControl | None
) -> str:
    """The head of a media playlist; without ``control`` that of one without low latency."""
    version = PLAIN_VERSION if control is None else LOW_LATENCY_VERSION
    text = f"#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target_duration}\n"
    if control is not None:
        text += (
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={control.can_skip_until:.6f},"
            f"PART-HOLD-BACK={control.part_hold_back:.6f},HOLD-BACK={control.hold_back:.6f}\n"
            f"#EXT-X-PART-INF:PART-TARGET={control.part_target:.6f}\n"
        )
    text += f"#EXT-X-MEDIA-SEQUENCE:{media_sequence}\n"
    if discontinuity_sequence:
        text += f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}\n"
    return text


def plain_media_head(*, target_duration: int, media_sequence: int, discontinuity_sequence: int) -> str:
    """The head of a media playlist of version 3."""
    text = (
        f"#EXTM3U\n#EXT-X-VERSION:{SEGMENTS_ALONE_VERSION}\n#EXT-X-TARGETDURATION:{target_duration}\n"
        f"#EXT-X-MEDIA-SEQUENCE:{media_sequence}\n"
    )
    if discontinuity_sequence:
        text += f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}\n"
    return text


def segment_head(*, discontinuity: bool, init_uri: str, program_date_time: str, tags: str = "") -> str:
    """What stands before a segment or its first part. ``init_uri`` "" where the one before still holds; ``tags`` are
    whole lines that mark this place."""
    text = "#EXT-X-DISCONTINUITY\n" if discontinuity else ""
    if init_uri:
        text += f'#EXT-X-MAP:URI="{init_uri}"\n'
    return f"{text}#EXT-X-PROGRAM-DATE-TIME:{program_date_time}\n{tags}"


def part(duration: float, uri: str, *, independent: bool) -> str:
    return f'#EXT-X-PART:DURATION={duration:.6f},URI="{uri}"{",INDEPENDENT=YES" if independent else ""}\n'


def segment(duration: float, uri: str, *, gap: bool = False) -> str:
    return f"{'#EXT-X-GAP' + chr(10) if gap else ''}#EXTINF:{duration:.6f},\n{uri}\n"


def skip(segments: int) -> str:
    return f"#EXT-X-SKIP:SKIPPED-SEGMENTS={segments}\n"


def preload_hint(uri: str) -> str:
    return f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{uri}"\n'


def rendition_report(uri: str, last_msn: int, last_part: int) -> str:
    return f'#EXT-X-RENDITION-REPORT:URI="{uri}",LAST-MSN={last_msn},LAST-PART={last_part}\n'


def cue_out(duration: float) -> str:
    """A break begins; ``duration`` seconds, 0 when it is not known."""
    return f"#EXT-X-CUE-OUT:DURATION={duration:.3f}\n" if duration else "#EXT-X-CUE-OUT\n"


def cue_out_cont(elapsed: float, duration: float) -> str:
    total = f",Duration={duration:.3f}" if duration else ""
    return f"#EXT-X-CUE-OUT-CONT:ElapsedTime={elapsed:.3f}{total}\n"


def cue_in() -> str:
    return "#EXT-X-CUE-IN\n"


def date_ranges(tags: str) -> str:
    """The EXT-X-DATERANGE lines of ``tags``."""
    return "".join(line for line in tags.splitlines(keepends=True) if line.startswith("#EXT-X-DATERANGE:"))


def splice_out(name: str, start_date: str, planned: float, section: bytes) -> str:
    """The date range that a splice out of the network opens (RFC 8216 4.3.2.7.1); ``planned`` seconds, 0: unknown."""
    lasts = f",PLANNED-DURATION={planned:.3f}" if planned else ""
    return f'#EXT-X-DATERANGE:ID="{name}",START-DATE="{start_date}"{lasts},SCTE35-OUT=0x{section.hex().upper()}\n'


def splice_in(name: str, start_date: str, duration: float, section: bytes) -> str:
    """The end of that date range, ``duration`` seconds after its start."""
    return (
        f'#EXT-X-DATERANGE:ID="{name}",START-DATE="{start_date}",DURATION={duration:.3f},'
        f"SCTE35-IN=0x{section.hex().upper()}\n"
    )


#: Nothing that is in the playlist leaves it.
EVENT = "#EXT-X-PLAYLIST-TYPE:EVENT\n"
ENDLIST = "#EXT-X-ENDLIST\n"


@dataclass(frozen=True, slots=True)
class AudioMedia:
    """One EXT-X-MEDIA of an audio group."""

    group: str
    name: str
    uri: str
    default: bool
    channels: int = 0
    language: str = ""
    characteristics: str = ""


@dataclass(frozen=True, slots=True)
class SubtitleMedia:
    """One EXT-X-MEDIA of the subtitle group."""

    group: str
    name: str
    uri: str
    language: str
    default: bool
    auto_select: bool
    forced: bool


@dataclass(frozen=True, slots=True)
class Variant:
    """One EXT-X-STREAM-INF. ``bandwidth`` and ``average_bandwidth`` in bit/s (0: not known), size 0 for audio alone."""

    uri: str
    bandwidth: int
    average_bandwidth: int
    codecs: str
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    audio_group: str = ""
    subtitle_group: str = ""


def multivariant(
    media: Iterable[AudioMedia | SubtitleMedia], variants: Iterable[Variant], *, version: int = PLAIN_VERSION
) -> str:
    """A multivariant ("master") playlist."""
    head = f"#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-INDEPENDENT-SEGMENTS\n"
    return head + "".join(map(_media, media)) + "\n" + "".join(map(_variant, variants))


def _media(media: AudioMedia | SubtitleMedia) -> str:
    return _audio_media(media) if isinstance(media, AudioMedia) else _subtitle_media(media)


def _subtitle_media(media: SubtitleMedia) -> str:
    yes = {True: "YES", False: "NO"}
    return (
        f"#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID={quoted(media.group)},NAME={quoted(media.name)},"
        f"DEFAULT={yes[media.default]},AUTOSELECT={yes[media.auto_select or media.default]},"
        f"FORCED={yes[media.forced]},LANGUAGE={quoted(media.language)},URI={quoted(media.uri)}\n"
    )


def _audio_media(media: AudioMedia) -> str:
    attributes = [
        "TYPE=AUDIO",
        f"GROUP-ID={quoted(media.group)}",
        f"NAME={quoted(media.name)}",
        f"DEFAULT={'YES' if media.default else 'NO'}",
        "AUTOSELECT=YES",
    ]
    if media.channels:
        attributes.append(f'CHANNELS="{media.channels}"')
    if media.language:
        attributes.append(f"LANGUAGE={quoted(media.language)}")
    if media.characteristics:
        attributes.append(f"CHARACTERISTICS={quoted(media.characteristics)}")
    attributes.append(f"URI={quoted(media.uri)}")
    return f"#EXT-X-MEDIA:{','.join(attributes)}\n"


def _variant(variant: Variant) -> str:
    attributes = [f"BANDWIDTH={variant.bandwidth}"]
    if variant.average_bandwidth:
        attributes.append(f"AVERAGE-BANDWIDTH={variant.average_bandwidth}")
    if variant.width and variant.height:
        attributes.append(f"RESOLUTION={variant.width}x{variant.height}")
    if variant.frame_rate:
        attributes.append(f"FRAME-RATE={variant.frame_rate:.3f}")
    attributes.append(f"CODECS={quoted(variant.codecs)}")
    if variant.audio_group:
        attributes.append(f"AUDIO={quoted(variant.audio_group)}")
    if variant.subtitle_group:
        attributes.append(f"SUBTITLES={quoted(variant.subtitle_group)}")
    return f"#EXT-X-STREAM-INF:{','.join(attributes)}\n{variant.uri}\n"


def quoted(text: str) -> str:
    """A quoted-string: what may not stand inside one (line ends, double quotes) is left out."""
    return '"' + text.translate(_NOT_IN_QUOTES) + '"'


_NOT_IN_QUOTES = {ord('"'): "'", ord("\r"): None, ord("\n"): None}


def with_query(text: str, query: str) -> str:
    """``text`` with ``query`` (already encoded, "" for none) put behind every URI in it."""
    if not query:
        return text
    for ending in ('.m4s"', ".m4s\n", '.vtt"', ".vtt\n", '.m3u8"', ".m3u8\n"):
        text = text.replace(ending, f"{ending[:-1]}?{query}{ending[-1]}")
    return text


def query_value(text: str) -> str:
    """``text`` from a request, safe to stand in a URI inside a playlist."""
    return quote(text, safe="-._~")
