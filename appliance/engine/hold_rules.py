"""What may be wrong with an input, and what the settings say is done then."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from appliance.settings import models

#: Sources of our own: when they close, they are meant to.
OWN_KINDS = frozenset({"Capture", "Scheduled", "Multiplex"})


class InputFault(StrEnum):
    NO_INPUT = "no input"
    NO_VIDEO = "no video"
    DECODING_FAILED = "decoding failed"

    @property
    def slate(self) -> str:
        return self.value.upper()


class HoldRules(msgspec.Struct, frozen=True):
    """Times in ns. ``hold`` 0: for ever. ``outlives_source``: the stream stays when its source closes it."""

    stall: int
    hold: int
    outlives_source: bool = True

    @classmethod
    def of(cls, settings: models.Application, kind: str) -> HoldRules | None:
        """What ``settings`` say of a source of ``kind``; None: its stream ends with it."""
        wanted = settings.on_input_loss or ("hold" if kind in OWN_KINDS else "end")
        if wanted != "hold":
            return None
        return cls(max(1, settings.stall_ms) * 1_000_000, settings.hold_ms * 1_000_000, kind not in OWN_KINDS)
