"""Small files of the kernel (sysfs, procfs), read with patience for what is not there."""

from __future__ import annotations

from pathlib import Path

#: No attribute of sysfs is longer than a page.
LONGEST = 4096


def read_text(file: Path) -> str:
    """Without white space at its ends; "" for what can't be read."""
    try:
        with open(file, "rb", buffering=0) as opened:
            return opened.read(LONGEST).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def read_int(file: Path, base: int = 10) -> int | None:
    """None for what can't be read or is no number."""
    try:
        return int(read_text(file), base)
    except ValueError:
        return None
