"""Parking: many tasks released at once, early ends, cancellation."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from appliance.net.parking import BATCH, ParkedTask, ParkingLot


async def test_release_wakes_all_that_wait_and_none_that_come_later() -> None:
    lot = ParkingLot()
    woken: list[int] = []

    async def wait(n: int) -> None:
        assert await lot.park()
        woken.append(n)
        if n == 0:
            assert await lot.park()
            woken.append(-1)

    async with trio.open_nursery() as nursery:
        for n in range(3 * BATCH + 5):
            nursery.start_soon(wait, n)
        await wait_all_tasks_blocked()
        assert len(lot) == 3 * BATCH + 5
        assert lot.release_all() == 3 * BATCH + 5
        assert lot.release_all() == 0
        await wait_all_tasks_blocked()
        assert sorted(woken) == list(range(3 * BATCH + 5))
        assert lot.release_all() == 1
    assert woken[-1] == -1


async def test_a_release_is_spread_over_scheduler_passes() -> None:
    lot = ParkingLot()
    woken = 0
    seen: list[int] = []

    async def wait() -> None:
        nonlocal woken
        await lot.park()
        woken += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10 * BATCH):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        lot.release_all()
        while woken < 10 * BATCH:
            await trio.lowlevel.checkpoint()
            seen.append(woken)
    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) <= 2 * BATCH


async def test_giving_up_ends_one_wait() -> None:
    lot = ParkingLot()
    place = ParkedTask()
    results: list[bool] = []

    async def wait(place: ParkedTask | None) -> None:
        results.append(await lot.park(place))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, place)
        nursery.start_soon(wait, None)
        await wait_all_tasks_blocked()
        place.give_up()
        place.give_up()
        await wait_all_tasks_blocked()
        assert results == [False]
        lot.release_all()
        place.give_up()
    assert results == [False, True]


async def test_cancelled_tasks_leave_the_lot_even_while_it_is_released() -> None:
    lot = ParkingLot()
    woken = 0

    async def wait() -> None:
        nonlocal woken
        await lot.park()
        woken += 1

    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as doomed:
            for _ in range(2 * BATCH):
                doomed.start_soon(wait)
                outer.start_soon(wait)
            await wait_all_tasks_blocked()
            lot.release_all()
            doomed.cancel_scope.cancel()
        assert len(lot) == 0
    assert woken >= 2 * BATCH
