"""Which addresses a URL from outside may lead to."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

#: Networks and what they are, in the order in which they are looked at; the first that fits is the reason.
_REFUSED: Final = tuple(
    (ip_network(network), what)
    for network, what in (
        ("169.254.169.254/32", "a cloud's metadata service"),
        ("169.254.170.2/32", "a cloud's metadata service"),
        ("100.100.100.200/32", "a cloud's metadata service"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("192.0.0.192/32", "a cloud's metadata service"),
        ("fd00:ec2::254/128", "a cloud's metadata service"),
        ("fd20:ce::254/128", "a cloud's metadata service"),
        ("127.0.0.0/8", "this machine"),
        ("::1/128", "this machine"),
        ("0.0.0.0/8", "an unspecified address"),
        ("::/128", "an unspecified address"),
        ("169.254.0.0/16", "a link-local address"),
        ("fe80::/10", "a link-local address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_MULTICAST: Final = (ip_network("224.0.0.0/4"), ip_network("ff00::/8"))
_LOCAL_MULTICAST: Final = (ip_network("ff01::/16"), ip_network("ff11::/16"))

#: IPv6 networks whose addresses hold an IPv4 address that the packet may end at, and how far from the right it stands.
_HOLDS_IPV4: Final = tuple(
    (ip_network(network), shift)
    for network, shift in (
        ("::/96", 0),
        ("::ffff:0:0:0/96", 0),
        ("64:ff9b::/96", 0),
        ("64:ff9b:1::/48", 0),
        ("2002::/16", 80),
    )
)
_TEREDO: Final = ip_network("2001::/32")
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)


def literal(host: str) -> Address | None:
    """The address that ``host`` is, in any spelling that the system's resolver takes for one (``127.1``,
    ``0x7f000001``, ``2130706433``, ``::ffff:127.0.0.1``); None for a name."""
    try:
        return _plain(ip_address(host))
    except ValueError:
        pass
    if not host.strip(".")[:1].isdigit():
        return None
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return None


def _plain(address: Address) -> Address:
    """IPv4 mapped into IPv6 is IPv4: the kernel sends it so."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _faces(address: Address) -> Iterator[Address]:
    """``address``, and the IPv4 addresses that a gateway would make of it."""
    address = _plain(address)
    yield address
    if isinstance(address, IPv4Address):
        return
    bare = IPv6Address(int(address))
    for network, shift in _HOLDS_IPV4:
        # ::1 and :: are themselves.
        if bare in network and int(bare) > 1:
            yield IPv4Address(int(bare) >> shift & 0xFFFFFFFF)
    if bare in _TEREDO:
        yield IPv4Address(int(bare) >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~int(bare) & 0xFFFFFFFF)
    if int(bare) >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(int(bare) & 0xFFFFFFFF)


def is_own(address: Address) -> bool:
    """Whether the kernel would send to this machine itself. No packet leaves: a datagram socket only looks up a way."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            source = str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return False
    return int(ip_address(source)) == int(address)


class AddressRules:
    """``allow``: networks (``127.0.0.0/8``, ``192.0.2.7``) that the operator lets URLs reach whatever they are.

    Raises ValueError for what is no network.
    """

    def __init__(self, allow: Iterable[str] = (), *, own: Callable[[Address], bool] = is_own) -> None:
        self._allowed = tuple(ip_network(text.strip(), strict=False) for text in allow if text.strip())
        self._own = own

    def refusal(self, address: Address, *, multicast: bool = False) -> str:
        """Why ``address`` may not be reached: "this machine"; "" when it may. ``multicast``: groups are fine."""
        for face in _faces(address):
            if reason := self._refusal(face, multicast):
                return reason
        return ""

    def _refusal(self, address: Address, multicast: bool) -> str:
        bare = address if isinstance(address, IPv4Address) else IPv6Address(int(address))
        if any(bare in network for network in self._allowed):
            return ""
        for network, what in _REFUSED:
            if bare in network:
                return what
        if any(bare in network for network in _MULTICAST):
            if multicast and not any(bare in network for network in _LOCAL_MULTICAST):
                return ""
            return "a multicast address"
        return "an address of this machine" if self._own(bare) else ""
