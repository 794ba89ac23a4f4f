"""Applications that a template made and that no stream uses any longer go again (Modules/DynamicAppRemoval)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import trio

from appliance.engine.virtual_host import VirtualHost
from appliance.media.clock import NANOSECONDS, Clock
from appliance.media.contracts import Progress

log = logging.getLogger("kiln.engine")

LOOK_EVERY: Final = 5.0
#: How long an application stays without a stream (catalogue, appendix B).
UNUSED_NS: Final = 60 * NANOSECONDS


class DynamicApplications:
    """``in_use(vhost, app)``: something waits there for its stream, a record for instance."""

    def __init__(
        self, vhosts: Mapping[str, VirtualHost], clock: Clock, in_use: Callable[[str, str], bool]
    ) -> None:
        self._vhosts = vhosts
        self._clock = clock
        self._in_use = in_use

    async def run(self, progress: Progress) -> None:
        while True:
            progress()
            await trio.sleep(LOOK_EVERY)
            now = self._clock.monotonic()
            for vhost in list(self._vhosts.values()):
                for application in vhost.dynamic:
                    if application.inputs or self._in_use(vhost.name, application.name):
                        application.used = now
                    elif now - application.used >= UNUSED_NS:
                        vhost.remove(application.name, "no stream uses it")
                        log.info("application of the template removed app=%s", application.label)
