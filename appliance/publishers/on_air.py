"""Which streams can be asked for now, and what a new life of one needs to know of the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from appliance.media.contracts import OutputStream
from appliance.net.parking import ParkingLot
from appliance.publishers.numbering import Numbering
from appliance.publishers.wall_time import WallTime

#: Names whose numbers and dates go on in memory; of older ones only the store knows.
MOST_NAMES = 4096
#: Earlier lives of one name whose media can still be fetched. Time bounds them too: none stays over two windows.
MOST_EARLIER = 8

Name = tuple[str, str, str]


class Life(Protocol):
    """One life of an output stream as one publisher has it on the air."""

    output: OutputStream
    numbering: Numbering
    wall: WallTime
    #: Everything that can be fetched, by name.
    files: dict[str, object]

    def leave(self) -> None:
        """Another life takes its place; the files stay."""

    def abandon(self) -> None:
        """Nothing of it can be fetched any more."""


L = TypeVar("L", bound=Life)


@dataclass(slots=True)
class Continuity:
    """What goes on from life to life of a name while the engine lives."""

    numbering: Numbering
    wall: WallTime


class OnAir(Generic[L]):
    """The live streams by virtual host, application and output stream name; a new life takes the place of the old.

    What viewers of the old life know of can be fetched until ``remove``. ``arrivals`` is released whenever a stream
    goes on the air.
    """

    def __init__(self) -> None:
        self.arrivals = ParkingLot()
        self._lives: dict[Name, L] = {}
        self._earlier: dict[Name, list[L]] = {}
        self._continuities: dict[Name, Continuity] = {}

    def find(self, vhost: str, app: str, name: str) -> L | None:
        return self._lives.get((vhost, app, name))

    def file(self, vhost: str, app: str, name: str, file: str) -> tuple[L, object] | None:
        """A file of an earlier life, with that life."""
        for live in self._earlier.get((vhost, app, name), ()):
            found = live.files.get(file)
            if found is not None:
                return live, found
        return None

    def yield_name(self, name: Name) -> Continuity | None:
        """End the life that has the name now. Returns what the next one goes on with."""
        live = self._lives.pop(name, None)
        if live is not None:
            live.leave()
            earlier = self._earlier.setdefault(name, [])
            earlier.append(live)
            if len(earlier) > MOST_EARLIER:
                earlier.pop(0).files.clear()
        return self._continuities.get(name)

    def put(self, live: L) -> None:
        """``yield_name`` first."""
        name = live.output.vhost, live.output.app, live.output.name
        self._lives[name] = live
        self._continuities.pop(name, None)
        if len(self._continuities) >= MOST_NAMES:
            del self._continuities[next(iter(self._continuities))]
        self._continuities[name] = Continuity(live.numbering, live.wall)
        self.arrivals.release_all()

    def remove(self, live: L) -> None:
        """Nothing of ``live`` can be fetched any more."""
        name = live.output.vhost, live.output.app, live.output.name
        if self._lives.get(name) is live:
            del self._lives[name]
        earlier = self._earlier.get(name, [])
        if live in earlier:
            earlier.remove(live)
            if not earlier:
                del self._earlier[name]
        live.abandon()
