"""What a Server.xml says that is accepted and won't come out as it reads: for ``kiln check``, holding nothing up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from appliance.settings import models
from appliance.settings.binder import Where
from appliance.settings.schema import Node
from appliance.settings.walk import Spot, spots

FEWEST_SEGMENTS = 3


class Advice(msgspec.Struct, frozen=True):
    """``fault``: it can't work as written; otherwise something else is done, which ``message`` says."""

    where: Where
    path: str
    message: str
    hint: str = ""
    fault: bool = False


def about(spot: Spot, attr: str, message: str, hint: str = "", *, fault: bool = False) -> Advice:
    """Advice about one setting of a section."""
    where, path = spot.setting(attr)
    return Advice(where, path, message, hint, fault)


def advise(server: models.Server) -> Iterator[Advice]:
    """All that can be known from the settings alone, and from the certificate files."""
    for spot in spots(server):
        for kind, look in _LOOKS:
            if isinstance(spot.node, kind):
                yield from look(spot)


def _certificates(spot: Spot) -> Iterator[Advice]:
    for attr in ("cert_path", "key_path", "chain_cert_path"):
        file = getattr(spot.node, attr)
        if file and not os.access(file, os.R_OK):
            what = "can't be read" if os.path.exists(file) else "does not exist"
            yield about(spot, attr, f"The file {file} {what}: a self-signed certificate is shown")


def _one_name_each(spot: Spot) -> Iterator[Advice]:
    for kind in (models.VideoEncode, models.AudioEncode, models.ImageEncode):
        yield from _repeated(
            spot, kind, "name", "Two encodes have the name [{}]: playlists can't tell them apart", True
        )


def _one_stream_each(spot: Spot) -> Iterator[Advice]:
    message = "Two output profiles make a stream of the same name: [{}]"
    yield from _repeated(spot, models.OutputProfile, "output_stream_name", message, True)


def _playlist_names(spot: Spot) -> Iterator[Advice]:
    yield from _repeated(spot, models.Playlist, "name", "Two playlists are shown by the same name: [{}]", False)


def _repeated(spot: Spot, kind: type[Node], attr: str, message: str, fault: bool) -> Iterator[Advice]:
    seen = set()
    for item in spot.below(kind):
        value = getattr(item.node, attr)
        if value and value in seen:
            yield about(item, attr, message.format(value), fault=fault)
        seen.add(value)


def _reachable(spot: Spot) -> Iterator[Advice]:
    name = spot.node.file_name
    if name.startswith("chunklist"):
        message = f"The playlist [{name}] can't be reached: names that begin with chunklist are those of tracks"
        yield about(spot, "file_name", message, fault=True)
    elif "." in name:
        message = f"The playlist [{name}] can't be reached: there is a dot in its name"
        yield about(spot, "file_name", message, "FileName is without .m3u8.", fault=True)


def _segments(spot: Spot) -> Iterator[Advice]:
    count = spot.node.segment_count
    if 0 < count < FEWEST_SEGMENTS:
        yield about(spot, "segment_count", f"SegmentCount is {count}: {FEWEST_SEGMENTS} is used")


def _sizes(spot: Spot) -> Iterator[Advice]:
    if getattr(spot.node, "bypass", False):
        return
    for attr in ("width", "height"):
        size = getattr(spot.node, attr)
        if size > 0 and size % 4:
            yield about(spot, attr, f"{attr.capitalize()} is {size}: {-(-size // 4) * 4}, a multiple of 4, is used")


def _b_frames(spot: Spot) -> Iterator[Advice]:
    encode = spot.node
    if not encode.bypass and encode.b_frames > 0 and encode.profile.lower() == "baseline":
        message = f"BFrames is {encode.b_frames}, and the profile baseline has none"
        yield about(spot, "b_frames", message, "Leave BFrames out, or write main or high.", fault=True)


def _channels(spot: Spot) -> Iterator[Advice]:
    if not spot.node.bypass and spot.node.channel > 2:
        yield about(spot, "channel", f"Channel is {spot.node.channel}: stereo is made")


_LOOKS: tuple[tuple[Any, Callable[[Spot], Iterator[Advice]]], ...] = (
    (models.TLS, _certificates),
    (models.Encodes, _one_name_each),
    (models.OutputProfiles, _one_stream_each),
    (models.OutputProfile, _playlist_names),
    (models.Playlist, _reachable),
    (models.SegmentedPublisher, _segments),
    ((models.VideoEncode, models.ImageEncode), _sizes),
    (models.VideoEncode, _b_frames),
    (models.AudioEncode, _channels),
)
