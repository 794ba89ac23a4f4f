"""Which recordings go, oldest first, so that there is room for the next. Blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from appliance.storage.catalogue import Catalogue
from appliance.storage.disk import Disk
from appliance.storage.entry import Entry
from appliance.storage.messages import Limits, Rule

Evicted = Callable[[Entry, str], None]


class Retention:
    """Never a file that is still recorded, nor one marked keep."""

    def __init__(self, disk: Disk, catalogue: Catalogue, evicted: Evicted) -> None:
        self._disk = disk
        self._catalogue = catalogue
        self._evicted = evicted
        self.limits = Limits(rules=[], reserve=0)

    def apply(self, now: int) -> None:
        """``now``: ns since 1970. Raises OSError."""
        for rule in self.limits.rules:
            for entry, reason in self._over(rule, now):
                self._evict(entry, reason)
        if self.limits.reserve:
            self.make_room(self.limits.reserve)

    def make_room(self, free: int) -> bool:
        """Until ``free`` bytes are free; whether they are. Does nothing where no reserve is to be kept."""
        if not self.limits.reserve:
            return self._disk.space()[0] >= free
        for entry in self._catalogue.whole():
            if self._disk.space()[0] >= free:
                return True
            if not entry.keep:
                self._evict(entry, "room for new recordings")
        return self._disk.space()[0] >= free

    def _over(self, rule: Rule, now: int) -> Iterator[tuple[Entry, str]]:
        ours = [entry for entry in self._catalogue.whole() if (entry.vhost, entry.app) == (rule.vhost, rule.app)]
        if rule.max_age:
            # A clock that was years ahead must not make everything old: what "finished in the future" stays.
            oldest = now - rule.max_age * 1_000_000_000
            old = [entry for entry in ours if not entry.keep and 0 < entry.finished < oldest]
            yield from ((entry, "older than MaxAge") for entry in old)
            ours = [entry for entry in ours if entry not in old]
        if rule.max_size:
            total = sum(entry.bytes for entry in ours)
            for entry in ours:
                if total <= rule.max_size:
                    return
                if not entry.keep:
                    total -= entry.bytes
                    yield entry, "more than MaxSize"

    def _evict(self, entry: Entry, reason: str) -> None:
        self._disk.remove(entry.path)
        self._catalogue.forget(entry)
        self._evicted(entry, reason)
