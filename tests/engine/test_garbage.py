"""What points at each other is freed in the end, though nothing is allocated meanwhile."""

from __future__ import annotations

import gc
import weakref

import trio
import trio.testing

from appliance.engine.garbage import LOOK_EVERY, WORTH_IT, collect_garbage


class Knot:
    """Points at itself."""

    def __init__(self) -> None:
        self.own = self


async def test_knots_are_freed_within_two_looks(autojump_clock: trio.testing.MockClock) -> None:
    gc.collect()
    before = gc.get_threshold()
    # As the engine sets it: the collector's own rule never comes into force here.
    gc.set_threshold(1_000_000)
    try:
        knots = [Knot() for _ in range(2 * WORTH_IT)]
        watched = weakref.ref(knots[0])
        knots.clear()
        assert watched() is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_garbage, lambda: None)
            await trio.sleep(2 * LOOK_EVERY)
            nursery.cancel_scope.cancel()
        assert watched() is None
    finally:
        gc.set_threshold(*before)
