"""Where devices are looked for. A prefix puts a miniature file system in the place of the real one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DevicePaths:
    """``prefix`` is put before ``/dev``, ``/sys`` and ``/proc``."""

    prefix: Path = Path("/")

    @classmethod
    def from_environment(cls) -> DevicePaths:
        return cls(Path(os.environ.get("KILN_DEVICE_PREFIX", "/")))

    @property
    def dev(self) -> Path:
        return self.prefix / "dev"

    @property
    def sys(self) -> Path:
        return self.prefix / "sys"

    @property
    def proc(self) -> Path:
        return self.prefix / "proc"

    def at(self, path: str) -> Path:
        """An absolute path of a setting, such as ``/dev/serial/by-id/…``, below the prefix."""
        return self.prefix / path.lstrip("/")
