"""Where a recording goes: settings, macros, the media root (catalogue 6.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from appliance.media.tasks import Record
from appliance.settings import models
from appliance.storage.entry import local_time
from appliance.storage.media_root import macro_value, parts_below, resolve

DEFAULT_FILE = (
    "${Application}/records/${TransactionId}_${VirtualHost}_${Application}_${Stream}"
    "_${StartTime:YYYYMMDDhhmmss}_${EndTime:YYYYMMDDhhmmss}.ts"
)
DEFAULT_INFO = "${Application}/records/${TransactionId}_${VirtualHost}_${Application}_${Stream}.xml"
_MACRO = re.compile(r"\$\{([A-Za-z]+)\}")
_START_TIME = re.compile(r"\$\{StartTime:([^}]*)\}")


class Places:
    """The paths of one task, relative to the media root. Raises BadRequest for paths that lead nowhere allowed."""

    def __init__(self, root: Path, settings: models.FilePublisher, task: Record, transaction: str) -> None:
        self._root = root
        self.root_path = "/".join(parts_below(root, resolve(root, settings.root_path))) if settings.root_path else ""
        self._file = task.file_path or settings.file_path or DEFAULT_FILE
        self._info = task.info_path or settings.info_path or DEFAULT_INFO
        self._values = {
            "TransactionId": transaction, "Id": task.id, "VirtualHost": task.vhost, "Application": task.app,
            "Stream": task.stream, "SourceStream": task.stream,
        }  # fmt: skip

    @property
    def pattern(self) -> str:
        """What the file is called, with its macros."""
        return self._file

    def file(self, sequence: int, started: int) -> str:
        """In which only ``${EndTime:…}`` still stands for something."""
        return self._below(self._file, sequence, started)

    def info(self, sequence: int, started: int) -> str:
        path = self._below(self._info, sequence, started)
        return re.sub(r"\$\{EndTime:[^}]*\}", "", path)

    def shown(self, path: str) -> str:
        return path[len(self.root_path) :].lstrip("/") if self.root_path else path

    def _below(self, pattern: str, sequence: int, started: int) -> str:
        text = expand(pattern, {**self._values, "Sequence": str(sequence)}, started)
        inside = resolve(self._root, text)
        parts = parts_below(self._root, inside)
        whole = resolve(self._root, "/".join(filter(None, (self.root_path, *parts))))
        return "/".join(parts_below(self._root, whole))


def expand(pattern: str, values: Mapping[str, str], started: int) -> str:
    """Put the macros in. A value never changes the folder; those that are not known stay."""
    text = _START_TIME.sub(lambda match: local_time(started, match.group(1)), pattern)
    return _MACRO.sub(
        lambda match: macro_value(values[match.group(1)]) if match.group(1) in values else match.group(), text
    )
