"""The leak gate: threads, file descriptors and child processes after a test equal those before."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit import procfs

#: trio keeps idle threads for its next blocking call; they end by themselves.
CACHED_THREADS = ("Trio thread",)


@dataclass(frozen=True)
class Held:
    """What a process holds. ``files`` counts descriptors by what they are (sockets and pipes without their number)."""

    threads: frozenset[str]
    files: Counter[str]
    children: frozenset[int]

    @classmethod
    def by(cls, pid: int | None = None) -> Held:
        """What process ``pid`` (None: this one) holds now."""
        own = pid is None or pid == os.getpid()
        pid = os.getpid() if pid is None else pid
        return cls(_own_threads() if own else _threads(pid), _files(pid), frozenset(procfs.children(pid)))

    def beyond(self, baseline: Held) -> list[str]:
        """What is held now and was not in ``baseline``, a line each."""
        lines = [f"thread {name}" for name in sorted(self.threads - baseline.threads)]
        lines += [f"{count} x file {kind}" for kind, count in sorted((self.files - baseline.files).items())]
        lines += [f"child {pid}: {procfs.command(pid)}" for pid in sorted(self.children - baseline.children)]
        return lines


def _own_threads() -> frozenset[str]:
    return frozenset(
        f"{thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if not thread.name.startswith(CACHED_THREADS)
    )


def _threads(pid: int) -> frozenset[str]:
    names = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if not name.startswith(CACHED_THREADS):
            names.add(f"{name} ({task.name})")
    return frozenset(names)


def _files(pid: int) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if target != f"/proc/{pid}/fd":
            kinds[target.partition(":[")[0]] += 1
    return kinds


def leaked(baseline: Held, pid: int | None = None, patience: float = 3.0) -> list[str]:
    """What is still held beyond ``baseline`` after at most ``patience`` seconds; empty when nothing is."""
    until = time.monotonic() + patience
    while True:
        gc.collect()
        found = Held.by(pid).beyond(baseline)
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.02)


@contextmanager
def nothing_leaks(pid: int | None = None, patience: float = 3.0) -> Iterator[None]:
    """Fails when the block leaves threads, descriptors or children behind in process ``pid`` (None: this one)."""
    gc.collect()
    baseline = Held.by(pid)
    yield
    found = leaked(baseline, pid, patience)
    assert not found, "left behind:\n  " + "\n  ".join(found)
