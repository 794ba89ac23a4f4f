"""Which ports the box listens on, and which it could not have."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field

import trio

from appliance.errors import KilnError
from appliance.net.listener import Listener, bind_listeners

log = logging.getLogger("kiln.engine")


@dataclass(slots=True)
class Bound:
    """Where the box can be reached, filled as sockets are bound: (service, scheme, host, port)."""

    services: list[tuple[str, str, str, int]] = field(default_factory=list)

    def port(self, service: str, scheme: str) -> int | None:
        return next((port for name, kind, _, port in self.services if (name, kind) == (service, scheme)), None)


class Ports:
    """Binds the listeners of every service; a port that is taken is an alarm until a later try has it."""

    def __init__(self, alarms: MutableMapping[str, str]) -> None:
        self.bound = Bound()
        self._alarms = alarms
        self._attempted: set[str] = set()
        self._expected: set[str] = set()
        self._all_attempted = trio.Event()

    def expect(self, service: str) -> None:
        """``all_attempted`` waits for this one too."""
        self._expected.add(service)

    async def all_attempted(self) -> None:
        """Until every service that is expected has tried to bind its ports once."""
        if self._attempted < self._expected:
            await self._all_attempted.wait()

    def bind(self, service: str, listeners: Sequence[Listener], *, scheme: str = "http") -> None:
        """Raises KilnError, and an alarm stands until a later try has the port."""
        try:
            bind_listeners(listeners)
        except KilnError as error:
            self._alarms[f"port:{service}"] = f"{error}. {error.hint}"
            raise
        else:
            self._alarms.pop(f"port:{service}", None)
            self._note_bound(service, listeners, scheme)
        finally:
            self.attempted(service)

    def attempted(self, service: str) -> None:
        """For a service that binds its ports by itself: it has tried."""
        self._attempted.add(service)
        if self._attempted >= self._expected:
            self._all_attempted.set()

    def failed(self, service: str, error: KilnError) -> None:
        """For a service that binds its ports by itself: it could not, and an alarm stands until it can."""
        self._alarms[f"port:{service}"] = f"{error}. {error.hint}" if error.hint else str(error)
        self.forget(service)
        self.attempted(service)

    def lacking(self, service: str, part: str, error: KilnError | None) -> None:
        """An alarm that a part of ``service`` is not listened on while the rest is; ``error`` None: it is over."""
        if error is None:
            self._alarms.pop(f"port:{service}:{part}", None)
        else:
            self._alarms[f"port:{service}:{part}"] = str(error)

    def opened(self, service: str, scheme: str, host: str, port: int) -> None:
        """For a service that binds its ports by itself: it listens there."""
        self._alarms.pop(f"port:{service}", None)
        self.bound.services.append((service, scheme, host, port))
        log.info("listening service=%s on=%s:%d", service, host, port)

    def forget(self, service: str) -> None:
        """Nothing of ``service`` is listened on any longer."""
        self.bound.services = [known for known in self.bound.services if known[0] != service]

    def _note_bound(self, service: str, listeners: Sequence[Listener], scheme: str) -> None:
        self.forget(service)
        for listener in listeners:
            shown = "unix" if listener.path else f"{scheme}s" if listener.contexts else scheme
            port = 0 if listener.path else listener.port
            self.bound.services.append((service, shown, listener.path or listener.host, port))
            log.info("listening service=%s on=%s", service, listener)
