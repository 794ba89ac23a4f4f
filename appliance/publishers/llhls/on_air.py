"""Which streams can be asked for now."""

from __future__ import annotations

from appliance.net.parking import ParkingLot
from appliance.publishers.llhls.live import Live


class OnAir:
    """The live streams by virtual host, application and output stream name; a new life takes the place of the old.

    ``arrivals`` is released whenever a stream goes on the air.
    """

    def __init__(self) -> None:
        self.arrivals = ParkingLot()
        self._lives: dict[tuple[str, str, str], Live] = {}

    def find(self, vhost: str, app: str, name: str) -> Live | None:
        return self._lives.get((vhost, app, name))

    def put(self, live: Live) -> None:
        output = live.output
        earlier = self._lives.get((output.vhost, output.app, output.name))
        self._lives[output.vhost, output.app, output.name] = live
        if earlier is not None:
            earlier.leave()
        self.arrivals.release_all()

    def remove(self, live: Live) -> None:
        output = live.output
        if self._lives.get((output.vhost, output.app, output.name)) is live:
            del self._lives[output.vhost, output.app, output.name]
        live.leave()
