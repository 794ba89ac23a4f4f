"""WebVTT as segments of HLS (W3C WebVTT 4; RFC 8216 3.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_BLANK_LINES = re.compile(r"(?:\r\n|\r|\n)(?:[ \t]*(?:\r\n|\r|\n))*")
_CLOCK_MASK = (1 << 33) - 1


@dataclass(frozen=True, slots=True)
class Cue:
    """``start`` and ``end`` in ms, ``settings`` as WebVTT has them behind the times ("" for none)."""

    start: int
    end: int
    text: str
    settings: str = ""


def document(cues: Iterable[Cue], clock: int) -> bytes:
    """A whole file; time zero of its cues is at ``clock`` (90 kHz) of the media."""
    text = f"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:{clock & _CLOCK_MASK}\n\n"
    return (text + "".join(map(_cue, cues))).encode()


def _cue(cue: Cue) -> str:
    settings = " ".join(cue.settings.replace("-->", "").split())
    # An empty line would end the cue, and an arrow in the text begin another.
    text = _BLANK_LINES.sub("\n", cue.text).strip("\n").replace("-->", "--&gt;").replace("\0", "")
    return f"{timestamp(cue.start)} --> {timestamp(cue.end)}{' ' if settings else ''}{settings}\n{text}\n\n"


def timestamp(time: int) -> str:
    """``time`` ms as hours, minutes, seconds."""
    seconds, milliseconds = divmod(max(0, time), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}"
