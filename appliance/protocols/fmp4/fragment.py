"""Fragments: ``moof`` and ``mdat`` of one track, and the event messages that may stand before them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from appliance.protocols.fmp4.boxes import full_box

#: Every init segment holds one track, and this is its number.
TRACK_ID = 1
#: Sample flags: depends on nothing; depends on others and is no sync sample (14496-12, 8.8.3.1).
KEY_SAMPLE = 0x02000000
OTHER_SAMPLE = 0x01010000

ID3_SCHEME = "https://aomedia.org/emsg/ID3"
_UNKNOWN_DURATION = 0xFFFFFFFF

# moof, mfhd(sequence), traf, tfhd(default-base-is-moof, track), tfdt v1(time), trun(version and flags, count, offset).
_MOOF = struct.Struct(">I4s I4sII I4s I4sII I4sIQ I4sIII")
_MDAT = struct.Struct(">I4s")
_DEFAULT_BASE_IS_MOOF = 0x020000
_VIDEO_TRUN = 0x01000F01
_AUDIO_TRUN = 0x00000301


@lru_cache(maxsize=512)
def _video_run(count: int) -> struct.Struct:
    return struct.Struct(">" + "IIIi" * count)


@lru_cache(maxsize=512)
def _audio_run(count: int) -> struct.Struct:
    return struct.Struct(f">{2 * count}I")


def fragment(
    sequence: int,
    decode_time: int,
    run: Sequence[int],
    payloads: Sequence[bytes | memoryview],
    *,
    video: bool,
    events: bytes = b"",
) -> bytes:
    """One fragment, made in one join.

    ``sequence`` is the running number of ``mfhd``, ``decode_time`` the dts of the first sample in ticks (>= 0).
    ``run`` is flat: for video duration, size, flags, composition offset (signed) of each sample, for audio duration and
    size. ``events`` are whole ``emsg`` boxes to stand in front.
    """
    count = len(payloads)
    if video:
        entries = _video_run(count).pack(*run)
        trun_flags = _VIDEO_TRUN
        media = sum(run[1::4])
    else:
        entries = _audio_run(count).pack(*run)
        trun_flags = _AUDIO_TRUN
        media = sum(run[1::2])
    run_size = len(entries)
    size = 88 + run_size
    head = _MOOF.pack(
        size, b"moof",
        16, b"mfhd", 0, sequence & 0xFFFFFFFF,
        size - 24, b"traf",
        16, b"tfhd", _DEFAULT_BASE_IS_MOOF, TRACK_ID,
        20, b"tfdt", 0x01000000, decode_time,
        20 + run_size, b"trun", trun_flags, count, size + 8,
    )  # fmt: skip
    return b"".join((events, head, entries, _MDAT.pack(8 + media, b"mdat"), *payloads))


def event_message(
    scheme: str, value: str, timescale: int, time: int, identifier: int, message: bytes
) -> bytes:
    """An ``emsg`` version 1 at ``time`` ticks of the presentation, of unknown duration (23009-1, 5.10.3.3)."""
    return full_box(
        b"emsg", 1, 0, struct.pack(">IQII", timescale, time, _UNKNOWN_DURATION, identifier),
        scheme.encode() + b"\0", value.encode() + b"\0", message,
    )  # fmt: skip


def id3_message(timescale: int, time: int, identifier: int, tag: bytes) -> bytes:
    """An ID3v2 ``tag`` as timed metadata (wire catalogue 4.10)."""
    return event_message(ID3_SCHEME, "Kiln", timescale, time, identifier, tag)
