"""The bad network does what it says, and the same again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.kit.lossy import Relay, Toxics, tcp_relay, udp_relay


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A TCP server that gives back what it gets."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            while data := await stream.receive_some(65536):
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield "127.0.0.1", listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def through(relay: Relay, data: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", relay.port) as stream:
        await stream.send_all(data)
        back = b""
        while len(back) < len(data):
            back += await stream.receive_some(65536)
        return back


async def test_tcp_brings_everything_in_order() -> None:
    data = bytes(range(256)) * 40
    async with echo() as target, tcp_relay(target, Toxics(latency=0.005, jitter=0.01, slice=97)) as relay:
        started = trio.current_time()
        assert await through(relay, data) == data
        assert trio.current_time() - started >= 0.01


async def test_a_narrow_line_takes_its_time() -> None:
    async with echo() as target, tcp_relay(target, Toxics(bandwidth=50_000)) as relay:
        started = trio.current_time()
        await through(relay, bytes(10_000))
        assert trio.current_time() - started >= 0.2


async def test_a_black_hole_passes_nothing_until_it_heals() -> None:
    async with echo() as target, tcp_relay(target) as relay:
        relay.black_hole()
        async with await trio.open_tcp_stream("127.0.0.1", relay.port) as stream:
            await stream.send_all(b"hello")
            with trio.move_on_after(0.05) as waiting:
                await stream.receive_some(5)
            assert waiting.cancelled_caught
            relay.heal()
            with trio.fail_after(2):
                assert await stream.receive_some(5) == b"hello"


async def test_a_reset_reaches_both_ends() -> None:
    async with (
        echo() as target,
        tcp_relay(target) as relay,
        await trio.open_tcp_stream("127.0.0.1", relay.port) as stream,
    ):
        await stream.send_all(b"hello")
        assert await stream.receive_some(5) == b"hello"
        await relay.reset_peers()
        with trio.fail_after(2), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(1)


async def lost_pattern(seed: int, toxics: Toxics, count: int = 200) -> tuple[list[int], Relay]:
    """Which numbers of ``count`` datagrams arrive, in their order of arrival."""
    sink = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    sender = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    got: list[int] = []
    with sink, sender:
        await sink.bind(("127.0.0.1", 0))
        async with udp_relay(sink.getsockname(), toxics, seed=seed) as relay:
            for number in range(count):
                await sender.sendto(number.to_bytes(2, "big"), ("127.0.0.1", relay.port))
                await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.1):
                while True:
                    got.append(int.from_bytes(await sink.recv(16), "big"))
    return got, relay


async def test_the_same_seed_loses_the_same_datagrams() -> None:
    first, relay = await lost_pattern(4, Toxics(loss=0.1))
    again, _ = await lost_pattern(4, Toxics(loss=0.1))
    other, _ = await lost_pattern(5, Toxics(loss=0.1))
    assert first == again
    assert first != other
    assert 5 <= relay.lost <= 40
    assert len(first) == 200 - relay.lost


async def test_bursts_take_neighbours() -> None:
    got, relay = await lost_pattern(1, Toxics(loss=0.2, burst=10))
    missing = sorted(set(range(200)) - set(got))
    assert relay.lost == len(missing) >= 10
    assert missing[9] == missing[0] + 9


async def test_doubles() -> None:
    got, _ = await lost_pattern(1, Toxics(duplicate=1.0), 20)
    assert sorted(got) == sorted([*range(20), *range(20)])


async def test_late_ones_are_overtaken() -> None:
    got, _ = await lost_pattern(2, Toxics(reorder=0.2), 50)
    assert sorted(got) == list(range(50))
    assert got != sorted(got)
