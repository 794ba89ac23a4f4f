"""A bad network in front of a server: a relay that delays, chokes, cuts, loses, doubles and reorders, by a seed.

Two relays with the same seed treat the same sequence of datagrams alike.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

_CHUNK = 16384


@dataclass
class Toxics:
    """What the network does. Times in seconds, rates in bytes a second; 0 is off. May be changed while it runs.

    ``loss``, ``duplicate`` and ``reorder`` are chances (0 to 1) of a datagram, and mean nothing to TCP. ``burst`` is
    how many datagrams in a row one loss takes. ``slice`` is the largest piece of TCP that goes on at once.
    A relay that is ``black`` keeps its connections and passes nothing.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: int = 0
    slice: int = 0
    loss: float = 0.0
    burst: int = 1
    duplicate: float = 0.0
    reorder: float = 0.0
    black: bool = False


@dataclass
class Relay:
    """``port`` of 127.0.0.1 leads to ``target``, both ways through ``toxics``."""

    target: tuple[str, int]
    toxics: Toxics = field(default_factory=Toxics)
    seed: int = 1
    port: int = 0
    connections: int = 0
    datagrams: int = 0
    lost: int = 0
    _streams: list[trio.SocketStream] = field(default_factory=list)
    _bright: trio.Event = field(default_factory=trio.Event)

    def black_hole(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._bright = trio.Event()
        self.toxics.black = True

    def heal(self) -> None:
        self.toxics.black = False
        self._bright.set()

    async def reset_peers(self) -> None:
        """Cut every connection with a TCP reset."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()

    async def _wait_bright(self) -> None:
        while self.toxics.black:
            await self._bright.wait()

    # -- TCP

    async def _serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        chance = random.Random(f"{self.seed}/{self.connections}")
        try:
            server = await trio.open_tcp_stream(*self.target)
        except OSError:
            await client.aclose()
            return
        self._streams += [client, server]
        async with client, server:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pipe, client, server, chance)
                    nursery.start_soon(self._pipe, server, client, chance)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        self._streams = [stream for stream in self._streams if stream not in (client, server)]

    async def _pipe(self, source: trio.SocketStream, sink: trio.SocketStream, chance: random.Random) -> None:
        """One direction: what arrives waits its latency in a bounded queue, in order."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](256)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain, receive, sink)
            async with send:
                while data := await source.receive_some(self.toxics.slice or _CHUNK):
                    delay = self.toxics.latency + chance.random() * self.toxics.jitter
                    await send.send((trio.current_time() + delay, data))

    async def _drain(self, receive: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.SocketStream) -> None:
        async with receive:
            async for due, data in receive:
                await trio.sleep_until(due)
                await self._wait_bright()
                if self.toxics.bandwidth:
                    await trio.sleep(len(data) / self.toxics.bandwidth)
                await sink.send_all(data)
        await sink.send_eof()

    # -- UDP

    async def _serve_udp(self, sock: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        forth: dict[tuple[str, int], _Direction] = {}
        while True:
            data, client = await sock.recvfrom(65536)
            if client not in forth:
                upstream = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
                await upstream.connect(self.target)
                self.connections += 1
                name = f"{self.seed}/{self.connections}"
                forth[client] = _Direction(self, random.Random(name + "/forth"), nursery, upstream, None)
                back = _Direction(self, random.Random(name + "/back"), nursery, sock, client)
                nursery.start_soon(self._udp_back, upstream, back)
            forth[client].pass_on(data)

    async def _udp_back(self, upstream: trio.socket.SocketType, back: _Direction) -> None:
        with upstream:
            while True:
                try:
                    data = await upstream.recv(65536)
                except ConnectionRefusedError:
                    continue
                back.pass_on(data)


class _Direction:
    """Datagrams of one peer one way: each has its fate, decided in order by the seed."""

    def __init__(
        self,
        relay: Relay,
        chance: random.Random,
        nursery: trio.Nursery,
        sock: trio.socket.SocketType,
        to: tuple[str, int] | None,
    ) -> None:
        self._relay = relay
        self._chance = chance
        self._nursery = nursery
        self._sock = sock
        self._to = to
        self._losing = 0

    def pass_on(self, data: bytes) -> None:
        toxics, chance = self._relay.toxics, self._chance
        self._relay.datagrams += 1
        loss, double, late, jitter = (chance.random() for _ in range(4))
        if self._losing == 0 and loss * toxics.burst < toxics.loss:
            self._losing = toxics.burst
        if self._losing > 0 or toxics.black:
            self._losing = max(0, self._losing - 1)
            self._relay.lost += 1
            return
        delay = toxics.latency + jitter * toxics.jitter
        if late < toxics.reorder:
            delay += max(toxics.jitter, 0.01)
        for _ in range(2 if double < toxics.duplicate else 1):
            self._nursery.start_soon(self._later, delay, data)

    async def _later(self, delay: float, data: bytes) -> None:
        if delay:
            await trio.sleep(delay)
        try:
            if self._to is None:
                await self._sock.send(data)
            else:
                await self._sock.sendto(data, self._to)
        except ConnectionRefusedError:
            pass


@asynccontextmanager
async def tcp_relay(target: tuple[str, int], toxics: Toxics | None = None, *, seed: int = 1) -> AsyncIterator[Relay]:
    """A TCP relay to ``target`` on a free port of 127.0.0.1; it ends with the block, its connections too."""
    relay = Relay(target, toxics or Toxics(), seed)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    relay.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, relay._serve, [listener])
        yield relay
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def udp_relay(target: tuple[str, int], toxics: Toxics | None = None, *, seed: int = 1) -> AsyncIterator[Relay]:
    """A UDP relay to ``target`` on a free port of 127.0.0.1, with a port of its own to the target for each peer."""
    relay = Relay(target, toxics or Toxics(), seed)
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    with sock:
        await sock.bind(("127.0.0.1", 0))
        relay.port = sock.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay._serve_udp, sock, nursery)
            yield relay
            nursery.cancel_scope.cancel()
