"""``kiln check``: what is wrong with a configuration file, all of it at once."""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.settings.xml import load_xml


def check(file: Path) -> int:
    """Print every fault, then what is doubtful. The exit status is 1 when there is a fault."""
    loaded = load_xml(file)
    for fault in loaded.faults:
        print(fault)
    for warning in loaded.warnings:
        print(f"warning: {warning}")
    if loaded.faults:
        count = len(loaded.faults)
        print(f"kiln check: {count} fault{'s' if count > 1 else ''} in {file}", file=sys.stderr)
        return 1
    print(f"{file}: no fault")
    return 0
