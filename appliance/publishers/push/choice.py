"""Which tracks of an output stream go to a target (catalogue 1.5; the seeds)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from appliance.errors import BadRequest, NotFound
from appliance.media.tasks import Push
from appliance.media.track import Codec, Track
from appliance.protocols.mpegts.carriage import SUPPORTED_CODECS

#: What every RTMP server takes, and what Enhanced RTMP adds.
CLASSIC: Final = frozenset({Codec.H264, Codec.AAC})
ENHANCED: Final = frozenset({Codec.H265, Codec.AV1, Codec.VP9, Codec.OPUS})


def choose(task: Push, tracks: Iterable[Track]) -> list[Track]:
    """RTMP: one video and one audio track, the first by id of those that the task names, classic codecs before those
    of Enhanced RTMP. MPEG-TS and SRT: all that the task names. Raises NotFound and BadRequest when nothing is left."""
    chosen = task.chosen(tracks)
    if not chosen:
        wanted = ", ".join((*task.variant_names, *map(str, task.track_ids))) or "any"
        raise NotFound(f"{task.label}: the stream has no such track: {wanted}")
    if task.protocol == "rtmp":
        found = [*_first([t for t in chosen if t.is_video]), *_first([t for t in chosen if t.is_audio])]
    else:
        found = [track for track in chosen if track.codec in SUPPORTED_CODECS]
    if not found:
        codecs = ", ".join(sorted({str(track.codec) for track in chosen}))
        raise BadRequest(f"{task.label}: {task.protocol} can't carry {codecs}")
    return found


def _first(tracks: Sequence[Track]) -> list[Track]:
    return _of(tracks, CLASSIC) or _of(tracks, ENHANCED)


def _of(tracks: Sequence[Track], codecs: Collection[Codec]) -> list[Track]:
    fitting = [track for track in tracks if track.codec in codecs]
    return [min(fitting, key=lambda track: track.id)] if fitting else []
