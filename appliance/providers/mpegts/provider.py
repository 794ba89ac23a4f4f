"""The MPEG-TS provider: UDP ports, multicast groups and TCP ports (wire catalogue 6.5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from appliance.errors import KilnError
from appliance.media.contracts import Context
from appliance.net.listener import Listener
from appliance.net.quiet_log import QuietLog
from appliance.net.tcp_server import serve_tcp
from appliance.net.udp import Datagram, UdpReceiver
from appliance.protocols.mpegts.demuxer import Damage
from appliance.providers.mpegts.session import Counters, Session, Target, without_rtp

log = logging.getLogger("kiln.mpegts")

_SWEEP: Final = 0.25
#: How often the groups that are wanted are looked at (s).
_LOOK_AT_GROUPS: Final = 1.0
_READ_SIZE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class MpegtsPort:
    """Where packets come in: ``host`` is an address of this machine (``*``, ``::``), or a multicast group."""

    host: str
    port: int
    protocol: str = "udp"
    interface: str = ""


@dataclass(frozen=True, slots=True)
class _Group:
    """A multicast group that was joined."""

    receiver: UdpReceiver
    session: Session
    scope: trio.CancelScope


class MpegtsProvider:
    """A supervised child: ``run`` serves until cancelled. ``counters`` may be read at any time.

    ``look_up(port)`` tells which stream a port feeds; it is asked when a source begins, so that settings may change.
    ``opened(shown)`` is called with what is listened on whenever that has changed: (scheme, host, port) of each.
    ``groups()`` tells once a second which multicast groups are wanted now: they are joined and left while the rest goes
    on. ``group_failed(group, why)`` hears of one that could not be joined, and with None once that is over.
    """

    name = "mpegts"

    def __init__(
        self, context: Context, ports: Sequence[MpegtsPort], look_up: Callable[[MpegtsPort], Target | None],
        opened: Callable[[Sequence[tuple[str, str, int]]], None] | None = None,
        groups: Callable[[], Iterable[MpegtsPort]] = tuple,
        group_failed: Callable[[MpegtsPort, KilnError | None], None] = lambda port, error: None,
    ) -> None:  # fmt: skip
        self.counters = Counters()
        self._groups = groups
        self._group_failed = group_failed
        self._joined: dict[MpegtsPort, _Group] = {}
        self._lacking: set[MpegtsPort] = set()
        self._directory = context.directory
        self._receivers = [(port, UdpReceiver(port.host, port.port, port.interface)) for port in ports
                           if port.protocol != "tcp"]  # fmt: skip
        self._listeners = [(port, Listener.tcp(port.host, port.port)) for port in ports if port.protocol == "tcp"]
        self._places: list[tuple[MpegtsPort, UdpReceiver | Listener]] = [*self._receivers, *self._listeners]
        self._look_up = look_up
        self._opened = opened
        self._sessions: list[Session] = []
        self._quiet = QuietLog(log)

    @property
    def ports(self) -> list[int]:
        """The UDP ports that are listened on, then the TCP ports."""
        return [receiver.port for _, receiver in self._receivers] + [listener.port for _, listener in self._listeners]

    @property
    def damage(self) -> dict[str, Damage]:
        """What was wrong with the packets of each live source, by ``vhost/app/stream``."""
        return {session.label: session.feed.damage for session in self._sessions if session.feed is not None}

    async def run(
        self, progress: Callable[[], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Raises KilnError when a port can't be bound."""
        try:
            for _, place in self._places:
                place.bind()
            self._tell_opened()
            async with trio.open_nursery() as nursery:
                for port, receiver in self._receivers:
                    nursery.start_soon(self._receive, port, receiver)
                for port, listener in self._listeners:
                    await nursery.start(self._listen, port, listener)
                self._adjust(nursery)
                task_status.started()
                await self._sweep(progress, nursery)
        finally:
            for group in self._joined.values():
                group.receiver.close()
            for session in self._sessions:
                session.end("the box stops")
            for _, place in self._places:
                place.close()

    def _tell_opened(self) -> None:
        if self._opened is not None:
            groups = [(port, group.receiver) for port, group in self._joined.items()]
            self._opened([(port.protocol, place.host, place.port) for port, place in (*self._places, *groups)])

    def _adjust(self, nursery: trio.Nursery) -> None:
        """Join what is wanted and leave what is not."""
        wanted = dict.fromkeys(self._groups())
        gone = [port for port in self._joined if port not in wanted]
        for port in gone:
            group = self._joined.pop(port)
            group.scope.cancel()
            group.session.end("no application wants the group any longer")
            self._sessions.remove(group.session)
            group.receiver.close()
        for port in self._lacking - wanted.keys():
            self._lacking.discard(port)
            self._group_failed(port, None)
        fresh = [port for port in wanted if port not in self._joined and self._join(port, nursery)]
        if gone or fresh:
            self._tell_opened()

    def _join(self, port: MpegtsPort, nursery: trio.Nursery) -> bool:
        """A group that can't be joined is tried again with the next look."""
        receiver = UdpReceiver(port.host, port.port, port.interface)
        try:
            receiver.bind()
        except KilnError as error:
            if port not in self._lacking:
                log.warning("group not joined on=%s reason=%r", receiver, str(error))
                self._lacking.add(port)
                self._group_failed(port, error)
            return False
        if port in self._lacking:
            self._lacking.discard(port)
            self._group_failed(port, None)
        group = self._joined[port] = _Group(receiver, self._session(port, str(receiver), "UDP"), trio.CancelScope())
        nursery.start_soon(self._receive_group, group)
        return True

    async def _receive_group(self, group: _Group) -> None:
        with group.scope:
            await self._receive_from(group.receiver, group.session)

    def _session(self, port: MpegtsPort, shown: str, transport: str) -> Session:
        session = Session(self._directory, self.counters, shown, transport, partial(self._look_up, port))
        self._sessions.append(session)
        return session

    async def _receive(self, port: MpegtsPort, receiver: UdpReceiver) -> None:
        await self._receive_from(receiver, self._session(port, str(receiver), "UDP"))

    async def _receive_from(self, receiver: UdpReceiver, session: Session) -> None:
        while True:
            batch = await receiver.receive()
            now = trio.current_time()
            for sender, data in _by_sender(batch):
                self._take(session, data, sender, now)

    def _take(self, session: Session, data: bytes, sender: tuple[str, int], now: float) -> None:
        try:
            session.receive(data, sender, now)
        except Exception as error:
            # One source's fault is not the others'.
            self._quiet.log(logging.ERROR, "fault", "source failed stream=%s", session.label, error=error)
            session.end("internal fault")

    async def _listen(self, port: MpegtsPort, listener: Listener, *, task_status: trio.TaskStatus[None]) -> None:
        session = self._session(port, str(listener), "TCP")
        handle = partial(self._serve, session)
        await serve_tcp(listener.sock, handle, name="mpegts", task_status=task_status)

    async def _serve(self, session: Session, sock: trio.socket.SocketType, name: str) -> None:
        """One connection a port: another is closed while there is one."""
        host, _, number = name.rpartition(":")
        peer = host, int(number)
        if session.sender is not None:
            session.counters.strangers += 1
            self._quiet.log(logging.WARNING, "second", "second sender closed stream=%s peer=%s", session.label, name)
            return
        reason = "closed by the sender"
        try:
            while data := await sock.recv(_READ_SIZE):
                self._take(session, data, peer, trio.current_time())
                if not session.hears(peer):
                    # It was refused, or ended by somebody else.
                    return
        except OSError as error:
            reason = f"connection lost: {error.strerror or error}"
        finally:
            if session.hears(peer):
                session.end(reason)

    async def _sweep(self, progress: Callable[[], None], nursery: trio.Nursery) -> None:
        looked = trio.current_time()
        while True:
            progress()
            await trio.sleep(_SWEEP)
            now = trio.current_time()
            if now - looked >= _LOOK_AT_GROUPS:
                looked = now
                self._adjust(nursery)
            for session in self._sessions:
                session.sweep(now)


def _by_sender(batch: list[Datagram]) -> list[tuple[tuple[str, int], bytes]]:
    """The datagrams of each sender in a row, joined; senders in the order they came."""
    runs: dict[tuple[str, int], list[bytes]] = {}
    for data, sender in batch:
        runs.setdefault(sender, []).append(data if data[:1] == b"G" else without_rtp(data))
    return [(sender, b"".join(parts)) for sender, parts in runs.items()]
