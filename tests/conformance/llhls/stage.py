"""What a rule gets and gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.conformance.llhls.observe import Observation, Player, Rendition
from tests.conformance.llhls.playlist import MediaPlaylist

Faults = list[str]
Act = Callable[[], Awaitable[None]]
EPSILON = 1e-6


@dataclass
class Stage:
    """What the rules may do: ask, and where somebody controls the stream, provoke.

    ``late`` seconds are forgiven where a moment is measured (machine and network). ``freeze`` stops the source,
    ``thaw`` lets it go on; ``change`` gives the source another codec configuration, ``step_clock`` sets the wall clock
    by so many seconds, ``restart`` kills the server and starts it again. Rules whose provocation is missing check what
    can be seen without it.
    """

    player: Player
    late: float = 0.05
    freeze: Act | None = None
    thaw: Act | None = None
    change: Act | None = None
    step_clock: Callable[[float], Awaitable[None]] | None = None
    restart: Act | None = None


Rule = Callable[[Observation, Stage], Awaitable[Faults]]


def every_playlist(seen: Observation) -> list[tuple[Rendition, MediaPlaylist]]:
    """All that were seen, with their renditions."""
    return [(rendition, one.playlist) for rendition in seen.renditions for one in rendition.seen]
