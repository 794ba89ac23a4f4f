"""``kiln check``: what is wrong with a configuration file, all of it at once."""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.settings.check import check_file


def check(file: Path) -> int:
    faults = check_file(file)
    for fault in faults:
        print(fault)
    if faults:
        print(f"kiln check: {len(faults)} fault{'s' if len(faults) > 1 else ''} in {file}", file=sys.stderr)
        return 1
    print(f"{file}: no fault")
    return 0
