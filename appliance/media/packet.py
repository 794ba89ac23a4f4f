"""A packet: one coded frame (or one access unit of audio) of one track."""

from __future__ import annotations

import msgspec

from appliance.media.track import Track


class Packet(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Immutable; one object is shared by all readers.

    ``pts``, ``dts``, ``duration`` are ticks of ``track.timescale``; zero is the start of the stream. ``duration`` is 0
    when it is not known yet (the next packet's dts tells). ``payload`` is canonical: H.264 and H.265 length-prefixed
    (4 bytes) without parameter sets, AAC without ADTS, an Opus packet, a VP8/VP9 frame, an AV1 temporal unit.
    """

    track: Track
    pts: int
    dts: int
    duration: int
    keyframe: bool
    payload: bytes
