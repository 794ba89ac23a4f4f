"""Where the state lies when nobody says it."""

from __future__ import annotations

import os
from pathlib import Path

SOCKET = "kiln.sock"


def default_state() -> Path:
    """``$KILN_STATE``, else ``kiln`` below ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    chosen = os.environ.get("KILN_STATE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "kiln"
