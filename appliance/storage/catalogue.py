"""The entries of a volume: one small file for each recording, read once and kept in memory. Blocks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import msgspec

from appliance.storage.disk import Disk
from appliance.storage.entry import FOLDER, Entry

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class Catalogue:
    """``entries`` by id. `save` returns only when the entry would survive a power cut."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    def load(self) -> None:
        """Entries that can't be read are left alone. Raises OSError."""
        for name in self._disk.names(FOLDER):
            if name.endswith(".json"):
                self.reload(name.removesuffix(".json"))

    def reload(self, id: str) -> Entry | None:
        """What the disk has of that entry now; None when it is gone."""
        data = self._disk.load(f"{FOLDER}/{id}.json")
        entry = None
        if data is not None:
            with contextlib.suppress(msgspec.DecodeError):
                entry = _decoder.decode(data)
        with self._lock:
            if entry is None or entry.id != id:
                self._entries.pop(id, None)
                return None
            self._entries[id] = entry
        return entry

    def save(self, entry: Entry) -> None:
        self._disk.replace(f"{FOLDER}/{entry.id}.json", _encoder.encode(entry))
        with self._lock:
            self._entries[entry.id] = entry

    def forget(self, entry: Entry) -> None:
        self._disk.remove(f"{FOLDER}/{entry.id}.json")
        with self._lock:
            self._entries.pop(entry.id, None)

    def get(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def all(self) -> list[Entry]:
        with self._lock:
            return list(self._entries.values())

    def whole(self) -> Iterator[Entry]:
        """Finished recordings, oldest first."""
        return iter(sorted((entry for entry in self.all() if entry.whole), key=lambda entry: (entry.started, entry.id)))
