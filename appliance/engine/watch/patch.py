"""Differences between two states as JSON merge patches (RFC 7386), figures apart from all else."""

from __future__ import annotations

from typing import Any

FIGURES = "figures"
"""What stands under this key, at any depth, changes all the time and is told apart from what happens."""

Item = dict[str, Any]


def difference(old: Item, new: Item) -> tuple[Item, Item]:
    """``(what happened, figures)``: merge patches that make ``new`` of ``old`` together.

    No value may be None, which removes a key in a merge patch. Lists are replaced whole.
    """
    happened: Item = {}
    figures: Item = {}
    if old == new:
        return happened, figures
    for key, value in new.items():
        known = old.get(key)
        if known == value:
            continue
        if not isinstance(known, dict) or not isinstance(value, dict):
            (figures if key == FIGURES else happened)[key] = value
        elif key == FIGURES:
            figures[key] = _merged(*difference(known, value))
        else:
            below_happened, below_figures = difference(known, value)
            if below_happened:
                happened[key] = below_happened
            if below_figures:
                figures[key] = below_figures
    for key in old.keys() - new.keys():
        happened[key] = None
    return happened, figures


def _merged(one: Item, other: Item) -> Item:
    """Inside figures nothing is apart."""
    merged = dict(one)
    for key, value in other.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
