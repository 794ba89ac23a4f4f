"""The keys of a front panel."""

from __future__ import annotations

from enum import StrEnum


class Key(StrEnum):
    UP = "up"
    DOWN = "down"
    LEFT = "left"
    RIGHT = "right"
    ENTER = "enter"
    EXIT = "exit"
