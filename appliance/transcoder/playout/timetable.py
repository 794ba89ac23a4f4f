"""Which item is due when: pure arithmetic over nanoseconds of the wall clock."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

from appliance.transcoder.playout.model import MS, Item, Program, Schedule

#: An item that ends within this of where it was meant to (ns) hands its plan on to the next one.
ON_PLAN = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One item on its way to being played. ``offset``: ns of it that are over already; ``until``: the wall clock (ns)
    where it is cut at the latest, None: when it ends by itself. ``fallback``: it stands in for another."""

    program: Program
    index: int
    offset: int = 0
    until: int | None = None
    fallback: bool = False

    @property
    def item(self) -> Item:
        return self.program.items[self.index]

    @property
    def content(self) -> int:
        """Where in its file it begins (ns)."""
        return self.item.start * MS + self.offset

    def same_item(self, other: Entry) -> bool:
        """Whether going over to ``other`` would change nothing of what is seen."""
        return (
            self.item == other.item and self.index == other.index and self.program.begins == other.program.begins
            and self.program.name == other.program.name and self.fallback == other.fallback
        )  # fmt: skip


class Timetable:
    """``schedule`` with its programs in the order of time; of two that begin together the later one written counts."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        by_begin = {program.begins: program for program in schedule.programs}
        self._programs = [by_begin[begins] for begins in sorted(by_begin)]
        self._begins = [program.begins for program in self._programs]

    def program_at(self, wall: int) -> Program | None:
        """Whose window ``wall`` is in: from its own beginning to that of the next."""
        found = bisect_right(self._begins, wall) - 1
        return self._programs[found] if found >= 0 else None

    def end_of(self, program: Program) -> int | None:
        """Where the next program begins, None for the last."""
        found = bisect_right(self._begins, program.begins)
        return self._begins[found] if found < len(self._begins) else None

    def next_begin(self, wall: int) -> int | None:
        """The first program that begins after ``wall``."""
        found = bisect_right(self._begins, wall)
        return self._begins[found] if found < len(self._begins) else None

    def entry_at(self, wall: int) -> Entry | None:
        """What is to be on at ``wall``, joined in its middle; None: off the air."""
        program = self.program_at(wall)
        if program is None or not program.items:
            return None
        lengths = [item.length for item in program.items]
        known = [length for length in lengths if length is not None]
        if len(known) < len(lengths):
            return self._entry(program, 0, 0, wall)
        elapsed, total = wall - program.begins, sum(known)
        if elapsed >= total and not program.repeat:
            return None
        position = elapsed % total
        for index, length in enumerate(known):
            if position < length:
                return self._entry(program, index, position, wall)
            position -= length
        raise AssertionError("a position within the total lies in one of the items")

    def entry_after(self, entry: Entry, wall: int) -> Entry | None:
        """What follows when ``entry`` has ended at ``wall``; None: off the air."""
        now = self.program_at(wall)
        if now is None or now.begins != entry.program.begins:
            return self.entry_at(wall)
        index = entry.index + 1
        if index >= len(now.items):
            if not now.repeat or not now.items:
                return None
            index = 0
        planned = entry.until
        if planned is not None and abs(wall - planned) < ON_PLAN:
            wall = planned
        return self._entry(now, index, 0, wall)

    def begun(self, entry: Entry, before: Entry | None, wall: int) -> Entry:
        """``entry`` with its end as it goes on the air at ``wall`` after ``before`` (None: black). Where all lengths
        are known the plan stands; else an item is on for its whole length, however long it took to get ready."""
        length, program = entry.item.length, entry.program
        if entry.fallback or length is None or all(item.length is not None for item in program.items):
            return entry
        planned = before.until if before is not None and before.program == program else None
        if planned is not None and abs(wall - planned) < ON_PLAN:
            wall = planned
        end = self.end_of(program)
        until = wall + length - entry.offset
        return replace(entry, until=until if end is None else min(until, end))

    def fallback_after(self, entry: Entry | None) -> Entry | None:
        """The first item of the fallback program, or the one that follows ``entry`` in it, which is a loop."""
        program = self.schedule.fallback
        if program is None or not program.items:
            return None
        index = (entry.index + 1) % len(program.items) if entry is not None and entry.fallback else 0
        return Entry(program, index, fallback=True)

    def replaced(self, entry: Entry, wall: int) -> Entry | None:
        """``entry`` as this timetable has it, with its new end, when it is to stay on the air; else None."""
        if entry.fallback:
            return entry if self.schedule.fallback == entry.program else None
        program = self.program_at(wall)
        if program is None or program.begins != entry.program.begins or entry.index >= len(program.items):
            return None
        if program.items[entry.index] != entry.item:
            return None
        wanted = self.entry_at(wall)
        if wanted is not None and all(item.length is not None for item in program.items):
            return Entry(program, entry.index, entry.offset, wanted.until) if wanted.index == entry.index else None
        end = self.end_of(program)
        until = entry.until if entry.item.length is not None else None
        ends = [each for each in (until, end) if each is not None]
        return Entry(program, entry.index, entry.offset, min(ends) if ends else None)

    def _entry(self, program: Program, index: int, offset: int, wall: int) -> Entry:
        """``index`` is on from ``wall`` on, ``offset`` of it being over."""
        length, end = program.items[index].length, self.end_of(program)
        ends = [wall + length - offset] if length is not None else []
        if end is not None:
            ends.append(end)
        return Entry(program, index, offset, min(ends) if ends else None)
