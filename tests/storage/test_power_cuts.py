"""Power cuts: whatever the disk had when the power went, what is repaired from it plays, and next to nothing is lost.

The worker's writes are logged, and every prefix of the log is played back into a folder: whole, with the last write cut
in two, and without what no sync had confirmed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from appliance.media.clock import NANOSECONDS
from appliance.publishers.record.cutter import Action, Cutter, Part
from appliance.publishers.record.writers import Writer, container_of, make_writer
from appliance.storage.catalogue import Catalogue
from appliance.storage.disk import Disk
from appliance.storage.entry import FOLDER, Entry
from appliance.storage.finish import Nothing, mend
from appliance.storage.recording import Recording
from tests.kit.shares import share
from tests.publishers.record.kit import clip, demuxed, found, repeated

SECOND = NANOSECONDS


@dataclass(frozen=True)
class Step:
    """``do`` is create, write, sync, cut, publish, replace or remove."""

    do: str
    path: str
    data: bytes = b""
    offset: int = 0
    target: str = ""


class LoggedDisk(Disk):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.log: list[Step] = []
        self._paths: dict[int, str] = {}
        self._quiet = False

    def _note(self, step: Step) -> None:
        if not self._quiet:
            self.log.append(step)

    def create(self, path: str) -> int:
        handle = super().create(path)
        self._paths[handle] = path
        self._note(Step("create", path))
        return handle

    def write(self, handle: int, data: bytes | memoryview, offset: int) -> None:
        super().write(handle, data, offset)
        if not self._quiet:
            self._note(Step("write", self._paths[handle], bytes(data), offset))

    def sync(self, handle: int) -> None:
        super().sync(handle)
        self._note(Step("sync", self._paths[handle]))

    def cut(self, handle: int, size: int) -> None:
        super().cut(handle, size)
        self._note(Step("cut", self._paths[handle], offset=size))

    def publish(self, path: str, target: str) -> None:
        super().publish(path, target)
        self._note(Step("publish", path, target=target))

    def replace(self, path: str, data: bytes) -> None:
        self._quiet = True
        super().replace(path, data)
        self._quiet = False
        self._note(Step("replace", path, bytes(data)))

    def remove(self, path: str) -> None:
        super().remove(path)
        self._note(Step("remove", path))


def play(steps: Iterable[Step], root: Path) -> None:
    for step in steps:
        path = root / step.path
        path.parent.mkdir(parents=True, exist_ok=True)
        match step.do:
            case "create":
                path.write_bytes(b"")
            case "write":
                with path.open("r+b") as file:
                    file.seek(step.offset)
                    file.write(step.data)
            case "cut":
                os.truncate(path, step.offset)
            case "replace":
                path.write_bytes(step.data)
            case "publish":
                target = root / step.target
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
            case "remove":
                path.unlink(missing_ok=True)


def confirmed(steps: list[Step]) -> list[Step]:
    """Without the writes that no later sync of their file confirmed. Small files and renames sync themselves."""
    synced: set[str] = set()
    kept: list[Step] = []
    for step in reversed(steps):
        if step.do in ("sync", "cut", "publish"):
            synced.add(step.path)
        if step.do != "write" or step.path in synced:
            kept.append(step)
    return kept[::-1]


def cut_in_two(steps: list[Step], chance: random.Random) -> list[Step]:
    """Of the last write only the beginning came to the disk. What patches a file is one sector: it comes whole."""
    last = steps[-1]
    if last.do != "write" or len(last.data) <= 512:
        return steps
    part = last.data[: chance.randrange(1, len(last.data))]
    return [*steps[:-1], Step("write", last.path, part, last.offset)]


class Session:
    """Two files of one recording, as the worker writes them."""

    def __init__(self, root: Path, extension: str) -> None:
        self.disk = LoggedDisk(root)
        self._catalogue = Catalogue(self.disk)
        self._files: dict[Part, tuple[Recording, Writer]] = {}
        self._extension = extension
        #: Behind which step of the log so many milliseconds of a file were safe.
        self.safe: list[tuple[int, str, int]] = []

    def record(self) -> None:
        tracks, packets = clip()
        cutter = Cutter(tracks, lambda elapsed: elapsed >= 3 * SECOND)
        for packet in repeated(packets, 3):
            self._carry_out(cutter.add(packet))
        self._carry_out(cutter.end())

    def _carry_out(self, actions: Iterator[Action]) -> None:
        for what, part, packets in actions:
            if part not in self._files:
                self._files[part] = self._open(part, len(self._files))
            recording, writer = self._files[part]
            recording.write(writer.fragment(packets), part.elapsed_ms)
            self.safe.append((len(self.disk.log), recording.entry.id, part.elapsed_ms))
            if what == "close":
                recording.finish(recording.entry.started + 3 * SECOND, False, 0)

    def _open(self, part: Part, number: int) -> tuple[Recording, Writer]:
        target = f"out/{number}.{self._extension}"
        writer = make_writer(target, list(part.tracks.values()), part.lead)
        entry = Entry(
            id=f"e{number}", temporary=f"out/tmp_{number}", target=target, container=container_of(target),
            info="out/info.xml", stream="cam", sequence=number, started=1_700_000_000 * SECOND,
        )  # fmt: skip
        return Recording(self.disk, self._catalogue, entry, writer.head()), writer


def repaired(root: Path) -> dict[str, Entry]:
    disk = Disk(root)
    catalogue = Catalogue(disk)
    catalogue.load()
    for entry in catalogue.all():
        if not entry.whole:
            try:
                mend(disk, catalogue, entry)
            except Nothing:
                catalogue.forget(entry)
                disk.remove(entry.temporary)
    return {entry.id: entry for entry in catalogue.all()}


def shown_ms(path: Path) -> int:
    times = [sample[0] for sample in demuxed(path)[0]]
    return int((max(times) - min(times) + Fraction(1, 30)) * 1000)


@pytest.mark.parametrize("extension", ["mp4", "ts", "mkv"])
def test_every_prefix_of_the_write_log(tmp_path: Path, extension: str) -> None:
    session = Session(tmp_path / "live", extension)
    session.record()
    log = session.disk.log
    assert sum(step.do == "write" for step in log) > 15
    chance = random.Random(extension)
    whole = {path.name: path.read_bytes() for path in found(tmp_path / "live/out", f"*.{extension}")}
    assert len(whole) == 2
    checked: dict[bytes, int] = {}
    for length in range(len(log) + 1):
        steps = log[:length]
        variants = [steps, confirmed(steps)]
        if steps:
            variants += [cut_in_two(steps, chance) for _ in range(share(12, 2))]
        for number, variant in enumerate(variants):
            root = tmp_path / f"{length}-{number}"
            root.mkdir()
            play(variant, root)
            entries = repaired(root)
            safe = {id: ms for at, id, ms in session.safe if at <= length}
            for id, ms in safe.items():
                path = root / entries[id].path
                data = path.read_bytes()
                if data not in checked:
                    checked[data] = shown_ms(path)
                # Of what had been synced, nothing is missing but the last frame's own time.
                assert checked[data] >= ms - 100, (length, number, id)
                if any(step.do == "publish" and step.path == entries[id].temporary for step in variant):
                    assert data == whole[path.name]
            assert not found(root / "out", "tmp_*")
            if any(entry.whole for entry in entries.values()):
                assert (root / "out/info.xml").read_text().count("<file>") == len(entries)
            with suppress(FileNotFoundError):
                assert all(name.endswith(".json") for name in os.listdir(root / FOLDER))
