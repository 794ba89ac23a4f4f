"""What the first client of its kind would otherwise wait for, and everybody with it while it loads."""

from __future__ import annotations

import importlib

import trio

from appliance.media.contracts import Progress

#: From the small to the large, so that no step keeps the loop for long.
LATER = (
    "hpack.hpack", "h2.events", "h2.stream", "h2.connection", "appliance.net.http2", "appliance.protocols.sdp",
    "appliance.protocols.rtsp.messages", "appliance.protocols.rtsp.client", "appliance.protocols.rtp.receiver",
    "appliance.providers.rtsp.session",
)  # fmt: skip
#: Seconds between two of them: the box has just come on the air, and viewers come first.
PAUSE = 0.1


async def warm_up(progress: Progress) -> None:
    """Load what the start did without, a piece at a time."""
    for name in LATER:
        await trio.sleep(PAUSE)
        progress()
        importlib.import_module(name)
