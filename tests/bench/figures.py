"""What a row of the table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``good`` is None where no target is set; ``peer`` is "" where none was run."""

    what: str
    value: str
    target: str = ""
    peer: str = ""
    ratio: str = ""
    good: bool | None = None

    @property
    def verdict(self) -> str:
        return "" if self.good is None else ("ok" if self.good else "MISS")


@dataclass(frozen=True)
class Row:
    """A named measurement; ``run`` gets whether it shall be quick. ``what`` is a line for --list."""

    name: str
    what: str
    run: Callable[[bool], list[Figure]]


def against_peer(what: str, ours: float, theirs: float, limit: float, *, unit: str = "% of a core") -> Figure:
    """Less is better: at most ``limit`` times the peer's figure of the same run."""
    ratio = ours / theirs if theirs else float("inf")
    return Figure(what, f"{ours:.2f} {unit}", f"<= {limit} x", f"{theirs:.2f} {unit}", f"{ratio:.2f}", ratio <= limit)


def at_most(what: str, value: float, limit: float, unit: str, *, digits: int = 1) -> Figure:
    return Figure(what, f"{value:.{digits}f} {unit}", f"<= {limit:g} {unit}", good=value <= limit)


def at_least(what: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(what, f"{value:.0f} {unit}", f">= {limit:g} {unit}", good=value >= limit)


def told(what: str, value: str) -> Figure:
    """A figure beside the table: no target."""
    return Figure(what, value)


def table(rows: list[tuple[str, list[Figure]]]) -> str:
    """All figures as text columns."""
    heads = ("row", "what", "figure", "peer", "ratio", "target", "")
    lines = [heads]
    for name, figures in rows:
        for index, figure in enumerate(figures):
            lines.append(
                (name if index == 0 else "", figure.what, figure.value, figure.peer, figure.ratio, figure.target,
                 figure.verdict)
            )  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
