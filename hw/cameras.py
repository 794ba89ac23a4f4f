"""Video devices as the kernel names them (sysfs class ``video4linux``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hw.paths import DevicePaths


@dataclass(frozen=True, slots=True)
class Camera:
    """``node`` is the device file, ``name`` what its driver calls it, ``readable`` whether this user may open it."""

    node: Path
    name: str
    readable: bool


def list_cameras(paths: DevicePaths | None = None) -> list[Camera]:
    """Capture nodes, first node of each device only (the others carry metadata). [] on a machine without any."""
    paths = paths or DevicePaths()
    found = []
    for entry in sorted((paths.sys / "class" / "video4linux").glob("video*")):
        if _text(entry / "index") not in ("0", ""):
            continue
        node = paths.dev / entry.name
        found.append(Camera(node, _text(entry / "name") or entry.name, _readable(node)))
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _readable(node: Path) -> bool:
    try:
        with open(node, "rb", buffering=0):
            return True
    except OSError:
        return False
