"""What points at each other and at nothing else is freed by a collector, which by itself hardly ever comes by here.

A stream that ends leaves some hundred such objects. The collector's own rule counts allocations: on a box that lives
for months with a few streams an hour that is too late, and while 1 000 viewers wait it would be far too often.
"""

from __future__ import annotations

import gc
import logging
import time
from typing import Final

import trio

from appliance.media.contracts import Progress

log = logging.getLogger("kiln.engine")

LOOK_EVERY: Final = 60.0
#: So many objects more than at the last look are worth it.
WORTH_IT: Final = 1000
#: A collection that held the loop for longer (s) is followed by a rest.
LONG: Final = 0.02
REST: Final = 600.0


async def collect_garbage(progress: Progress) -> None:
    """For ever."""
    while True:
        progress()
        await trio.sleep(LOOK_EVERY)
        if gc.get_count()[0] < WORTH_IT:
            continue
        began = time.perf_counter()
        found = gc.collect()
        took = time.perf_counter() - began
        log.debug("garbage objects=%d ms=%.1f", found, took * 1000)
        if took > LONG:
            await trio.sleep(REST)
