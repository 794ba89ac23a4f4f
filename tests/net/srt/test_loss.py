"""What a network loses comes again in time (RELIABILITY 5)."""

from __future__ import annotations

import pytest
import trio

from appliance.net import srt
from appliance.net.srt import SrtListener
from tests.kit.lossy import Toxics, udp_relay
from tests.kit.shares import long_share

pytestmark = pytest.mark.needs("libsrt")

#: Messages a second: 2 Mbit/s.
RATE = 190
NOTHING = 0xFFFFFFFF
FILLER = NOTHING.to_bytes(4, "big") * 329


async def through(loss: float, seconds: float, round_trip: float, latency: float) -> tuple[int, int, int]:
    """Send numbered messages through a bad network: (sent, missing, sent again)."""
    listener = SrtListener("127.0.0.1", 0)
    listener.bind()
    numbers: list[int] = []
    toxics = Toxics(latency=round_trip / 2, loss=loss)
    try:
        async with udp_relay(("127.0.0.1", listener.port), toxics, seed=int(loss * 100)) as relay:
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    socket = await listener.accept()
                    while data := await socket.receive():
                        found = (int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 1316))
                        numbers.extend(number for number in found if number != NOTHING)
                    socket.close()

                nursery.start_soon(receive)
                caller = await srt.connect("127.0.0.1", relay.port, latency_ms=round(latency * 1000))
                began, sent = trio.current_time(), 0
                while trio.current_time() - began < seconds:
                    due = int((trio.current_time() - began) * RATE) + 1
                    while sent < due:
                        await caller.send(sent.to_bytes(4, "big") * 329)
                        sent += 1
                    await trio.sleep(0.005)
                await caller.drain(3, FILLER)
                again = caller.statistics().retransmitted
                caller.close()
            lost = relay.lost
    finally:
        listener.close()
    assert lost >= sent * loss * 0.6
    assert numbers == sorted(set(numbers))
    return sent, sent - len(numbers), again


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_the_last_of_all_comes_again(number: int) -> None:
    """Nothing follows it that would show what is missing."""
    listener = SrtListener("127.0.0.1", 0)
    listener.bind()
    toxics = Toxics(latency=0.01)
    got = bytearray()
    async with udp_relay(("127.0.0.1", listener.port), toxics) as relay, trio.open_nursery() as nursery:

        async def receive() -> None:
            socket = await listener.accept()
            while data := await socket.receive():
                got.extend(data)
            socket.close()

        nursery.start_soon(receive)
        caller = await srt.connect("127.0.0.1", relay.port, latency_ms=500)
        await caller.send(b"first" * 10)
        # libsrt's ways are known, and the line is quiet.
        await trio.sleep(0.05)
        toxics.loss, before = 1.0, relay.lost
        for _ in range(number):
            await caller.send(b"last" * 10)
        while relay.lost < before + number:  # noqa: ASYNC110
            await trio.sleep(0.001)
        toxics.loss = 0.0
        with trio.fail_after(2):
            await caller.drain(5, b"?" * 10)
        caller.close()
    listener.close()
    assert bytes(got).replace(b"?", b"") == b"first" * 10 + b"last" * 10 * number


async def test_what_the_network_loses_comes_again() -> None:
    sent, missing, again = await through(0.05, 2.5, 0.03, 0.5)
    assert missing == 0, f"{missing} of {sent}"
    assert again >= sent * 0.03


@pytest.mark.long
@pytest.mark.parametrize(("loss", "factor"), [(0.01, 3), (0.03, 4), (0.07, 6), (0.10, 7)])
async def test_residual_loss(loss: float, factor: int) -> None:
    """Latency in round trips as the tables of SRT's makers have it for each loss."""
    sent, missing, _ = await through(loss, long_share(60, 10), 0.1, 0.1 * factor)
    assert missing / sent < 1e-5, f"{missing} of {sent}"
