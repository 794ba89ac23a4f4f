"""Ports as Server.xml writes them: ``8081``, ``1935/tcp``, ``4000-4001,4004,4005/udp``, ``*:10000-10004/udp``."""

from __future__ import annotations

import re

import msgspec

from appliance.errors import ConfigError

_RANGE = r"[0-9]{1,5}(?:-[0-9]{1,5})?"
_PORTS = re.compile(rf"\s*(?P<list>{_RANGE}(?:\s*,\s*{_RANGE})*)\s*(?:/\s*(?P<protocol>\w+))?\s*")
_CANDIDATE = re.compile(r"\s*(?P<address>\[[^\]]*\]|[^:\[\]]*):(?P<ports>[^:]*)")


class PortList(msgspec.Struct, frozen=True):
    """``numbers`` in ascending order; ``protocol`` is tcp, udp or srt."""

    numbers: tuple[int, ...]
    protocol: str


class Candidate(msgspec.Struct, frozen=True):
    """Where media may be received: ``address`` is ``*`` or an address (IPv6 without its brackets)."""

    address: str
    ports: PortList


def parse_ports(text: str | int, protocol: str) -> PortList:
    """Read ports; ``protocol`` is what holds when the text has none. Raises ConfigError."""
    match = _PORTS.fullmatch(str(text))
    if not match:
        raise ConfigError(f"Invalid port: [{str(text)[:60]}]", hint="Write it as 4000, 4000/udp or 4000-4001,4004/udp.")
    numbers: set[int] = set()
    for part in match["list"].split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high > 65535:
            raise ConfigError(f"Invalid port: [{str(text)[:60]}]", hint="Ports are 0 to 65535, a range goes upwards.")
        numbers.update(range(low, high + 1))
    return PortList(tuple(sorted(numbers)), (match["protocol"] or protocol).lower())


def parse_port(text: str | int) -> int:
    """Read one TCP port. Raises ConfigError."""
    ports = parse_ports(text, "tcp")
    if len(ports.numbers) != 1 or ports.protocol != "tcp":
        raise ConfigError(f"Invalid port: [{str(text)[:60]}]", hint="One TCP port is wanted, such as 1935 or 1935/tcp.")
    return ports.numbers[0]


def parse_candidate(text: str, protocol: str) -> Candidate:
    """Read ``address:ports[/protocol]``. Raises ConfigError."""
    match = _CANDIDATE.fullmatch(text)
    if not match or not match["address"].strip("[]"):
        raise ConfigError(f"Invalid address and port: [{text[:60]}]", hint="Write it as *:10000-10004/udp.")
    return Candidate(match["address"].strip("[] "), parse_ports(match["ports"], protocol))
