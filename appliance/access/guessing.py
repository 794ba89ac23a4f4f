"""Guessing tokens is slow: whoever shows too many bad ones waits, and the right one still opens at once."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

FREE = 10
"""Bad tokens a minute that an address may show before it is slowed down."""
WINDOW = 60.0
MOST_ADDRESSES = 4096


class Guessing:
    """Counts bad tokens by address, of IPv6 by its /64. ``clock`` tells seconds, monotonic.

    Memory is bounded: the addresses that were quiet longest are forgotten first.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bad: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> float:
        """``address`` showed a bad token. Seconds until it may show the next one unpunished; 0.0 while it has tries
        left."""
        now = self._clock()
        key = _network(address)
        times = self._bad.setdefault(key, deque(maxlen=FREE + 1))
        self._bad.move_to_end(key)
        while times and times[0] <= now - WINDOW:
            times.popleft()
        times.append(now)
        if len(self._bad) > MOST_ADDRESSES:
            self._bad.popitem(last=False)
        return times[0] + WINDOW - now if len(times) > FREE else 0.0


def _network(address: str) -> str:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped) if mapped else str(int(ip) >> 64)
    return str(ip)
