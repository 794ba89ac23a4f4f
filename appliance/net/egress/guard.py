"""The guard itself: look up, check, connect to what was checked."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final, Self

import trio

from appliance.errors import BadRequest, Unavailable
from appliance.media.url import Url
from appliance.net.egress.addresses import Address, AddressRules, literal
from appliance.net.egress.url import parse_url

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("kiln.egress")

#: Operators list networks in this variable, comma-separated, beside those of Server.xml.
ALLOW_VARIABLE: Final = "KILN_EGRESS_ALLOW"
HINT: Final = "An operator may allow the network under Modules/Egress/Allow or in KILN_EGRESS_ALLOW."
#: Seconds.
LOOK_UP_WITHIN: Final = 5.0
CONNECT_WITHIN: Final = 5.0
#: The next address is tried when this one has not answered by then (RFC 8305 section 5), in seconds.
STAGGER: Final = 0.25
#: Names whose last good addresses are kept, and how many of each.
REMEMBERED: Final = 256
CANDIDATES: Final = 8
#: Look-ups at once: a name server that hangs holds a thread each.
THREADS: Final = 16
MAX_REDIRECTS: Final = 3

#: A group of addresses for a name; raises OSError (gaierror).
LookUp = Callable[[str], Awaitable[Sequence[str]]]


class AddressRefused(BadRequest):
    """The host is, or its name leads to, an address that URLs from outside may not reach."""


class Egress:
    """``allow``: networks that the operator lets URLs reach although they are this machine, link-local, or metadata.

    Private networks need no listing: the box stands in one. Raises ValueError for what is no network.
    """

    def __init__(
        self, allow: Iterable[str] = (), *, look_up: LookUp | None = None, rules: AddressRules | None = None
    ) -> None:
        self.rules = rules or AddressRules(allow)
        self._limiter = trio.CapacityLimiter(THREADS)
        self._look_up = look_up or self._ask_system
        self._last_good: dict[str, tuple[str, ...]] = {}
        self._roots: ssl.SSLContext | None = None

    @classmethod
    def configured(
        cls, listed: Iterable[str], environment: Mapping[str, str], alarms: MutableMapping[str, str]
    ) -> Self:
        """Of Server.xml and the environment; what is no network there is told and left out."""
        networks = list(listed)
        for text in filter(None, map(str.strip, environment.get(ALLOW_VARIABLE, "").split(","))):
            try:
                ip_network(text, strict=False)
            except ValueError:
                alarms[f"egress:{text}"] = f"{ALLOW_VARIABLE}: {text} is no network and allows nothing"
                log.error("no network, it allows nothing variable=%s text=%r", ALLOW_VARIABLE, text)
            else:
                networks.append(text)
        return cls(networks)

    def check_url(self, text: str, schemes: Collection[str]) -> Url:
        """``text`` taken apart. Raises BadRequest with the reason: not a URL, a scheme not in ``schemes``, a host that
        can never be reached. Names are looked up later, when somebody connects."""
        url = parse_url(text, schemes)
        self.check_host(url.host, multicast=url.scheme == "udp")
        return url

    def check_host(self, host: str, *, multicast: bool = False) -> None:
        """Raises AddressRefused when ``host`` is an address (or ``localhost``) that may not be reached."""
        name = host.rstrip(".").lower()
        address = ip_address("127.0.0.1") if name == "localhost" or name.endswith(".localhost") else literal(host)
        if address is not None:
            self._refuse_unless_fine(host, address, multicast)

    async def resolve(
        self, host: str, port: int, *, multicast: bool = False, timeout: float = LOOK_UP_WITHIN
    ) -> list[tuple[str, int]]:
        """``(address, port)`` of each address of ``host`` that may be reached, in the resolver's order, at least one.

        ``timeout`` in seconds. While no name server answers, the last good addresses of the name are given. Raises
        AddressRefused when all are refused, Unavailable when the name can't be looked up.
        """
        address = literal(host)
        if address is not None:
            self._refuse_unless_fine(host, address, multicast)
            return [(str(address), port)]
        found = await self._addresses_of(host, timeout)
        fine: list[str] = []
        reasons: list[str] = []
        for text in found:
            reason = self._refusal_of(text, multicast)
            if reason:
                reasons.append(f"{text} is {reason}")
            elif text not in fine:
                fine.append(text)
        if not fine:
            raise AddressRefused(f"{host} may not be reached: {'; '.join(reasons[:3])}", hint=HINT)
        fine = fine[:CANDIDATES]
        self._remember(host, fine)
        return [(text, port) for text in fine]

    async def open_tcp(
        self, host: str, port: int, timeout: float = CONNECT_WITHIN, *, send_buffer: int = 0
    ) -> trio.SocketStream:
        """A connection to an address of ``host`` that was checked, in ``timeout`` seconds with the look-up.

        ``send_buffer``: bytes that the kernel may hold for a peer that stops reading (0: its own choice). Raises
        AddressRefused and Unavailable.
        """
        with trio.move_on_after(timeout):
            addresses = await self.resolve(host, port, timeout=timeout)
            return await _first_to_answer(addresses, f"{host}:{port}", send_buffer)
        raise Unavailable(f"{host}:{port} does not answer in {timeout:g} s")

    async def open_tls(
        self, host: str, port: int, timeout: float = CONNECT_WITHIN, *, send_buffer: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> trio.SSLStream[trio.SocketStream]:  # fmt: skip
        """As ``open_tcp``, then TLS: the certificate must name ``host`` and lead to one of the system's roots."""
        checked = context or self._roots
        if checked is None:
            # Reading all the system's roots takes longer than the loop may stand still.
            checked = self._roots = await trio.to_thread.run_sync(ssl.create_default_context)
        with trio.move_on_after(timeout):
            plain = await self.open_tcp(host, port, timeout, send_buffer=send_buffer)
            stream = trio.SSLStream(
                plain, checked, server_hostname=host.rstrip("."), https_compatible=True
            )
            try:
                await stream.do_handshake()
            except BaseException as error:
                plain.socket.close()
                if isinstance(error, trio.BrokenResourceError):
                    reason = error.__cause__ or error
                    text = getattr(reason, "verify_message", "") or getattr(reason, "reason", "") or "closed"
                    raise Unavailable(f"{host}:{port} TLS failed: {text}") from error
                raise
            return stream
        raise Unavailable(f"{host}:{port} does not answer in {timeout:g} s")

    def http_transport(self, *, verify: ssl.SSLContext | bool = True) -> httpx.AsyncBaseTransport:
        """For an ``httpx.AsyncClient`` of your own: give it ``trust_env=False, max_redirects=MAX_REDIRECTS``."""
        from appliance.net.egress.http import guarded_transport

        if verify is True:
            verify = self._roots = self._roots or ssl.create_default_context()
        return guarded_transport(self, verify)

    def http_client(
        self, *, timeout: float = CONNECT_WITHIN, redirects: bool = False, verify: ssl.SSLContext | bool = True
    ) -> httpx.AsyncClient:
        """A client whose every connection, those of redirects too (3 at most), goes through this guard. ``timeout`` in
        seconds for each step of a request. Refused addresses are AddressRefused, all else is httpx's own errors."""
        import httpx

        return httpx.AsyncClient(
            transport=self.http_transport(verify=verify), timeout=timeout, follow_redirects=redirects,
            max_redirects=MAX_REDIRECTS, trust_env=False,
        )  # fmt: skip

    def _refuse_unless_fine(self, host: str, address: Address, multicast: bool) -> None:
        reason = self.rules.refusal(address, multicast=multicast)
        if reason:
            raise AddressRefused(f"{host} may not be reached: it is {reason}", hint=HINT)

    def _refusal_of(self, text: str, multicast: bool) -> str:
        address = literal(text)
        return "no address" if address is None else self.rules.refusal(address, multicast=multicast)

    async def _addresses_of(self, host: str, timeout: float) -> Sequence[str]:
        reason = f"no answer in {timeout:g} s"
        with trio.move_on_after(timeout):
            try:
                found = await self._look_up(host)
            except OSError as error:
                reason = error.strerror or str(error)
                if _is_final(error):
                    raise Unavailable(f"can't find {host}: {reason}") from error
            else:
                if found:
                    return found
                reason = "it has no address"
        remembered = self._last_good.get(host)
        if remembered is None:
            raise Unavailable(f"can't find {host}: {reason}")
        log.warning("name server does not answer, last good address taken host=%s reason=%r", host, reason)
        return remembered

    async def _ask_system(self, host: str) -> Sequence[str]:
        found = await trio.to_thread.run_sync(
            _system_look_up, host, abandon_on_cancel=True, limiter=self._limiter
        )
        return [address for address in found if address]

    def _remember(self, host: str, addresses: Sequence[str]) -> None:
        self._last_good.pop(host, None)
        self._last_good[host] = tuple(addresses)
        if len(self._last_good) > REMEMBERED:
            del self._last_good[next(iter(self._last_good))]


def _system_look_up(host: str) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _is_final(error: OSError) -> bool:
    """Whether a name server says that there is no such name; anything else may be the way to it."""
    nodata = getattr(socket, "EAI_NODATA", socket.EAI_NONAME)
    return isinstance(error, socket.gaierror) and error.errno in (socket.EAI_NONAME, nodata)


async def _first_to_answer(
    addresses: Sequence[tuple[str, int]], shown: str, send_buffer: int
) -> trio.SocketStream:
    """Each address gets a head start over the next; the first connection wins (RFC 8305)."""
    faults: list[OSError] = []
    won: list[trio.SocketStream] = []

    async def attempt(address: tuple[str, int], failed: trio.Event, nursery: trio.Nursery) -> None:
        try:
            stream = await _connect(address, send_buffer)
        except OSError as error:
            faults.append(error)
            failed.set()
            return
        if won:
            await stream.aclose()
        else:
            won.append(stream)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed, nursery)
                with trio.move_on_after(STAGGER):
                    await failed.wait()
    except BaseException:
        for stream in won:
            stream.socket.close()
        raise
    if not won:
        raise Unavailable(f"{shown} {_reason(faults)}")
    return won[0]


async def _connect(address: tuple[str, int], send_buffer: int) -> trio.SocketStream:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        if send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        await sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def _reason(faults: Sequence[OSError]) -> str:
    if any(fault.errno == errno.ECONNREFUSED for fault in faults):
        return "refuses the connection"
    return f"can't be reached: {faults[0].strerror or faults[0]}" if faults else "can't be reached"
