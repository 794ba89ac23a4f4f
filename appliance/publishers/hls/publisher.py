"""The HLS publisher: an output stream into MPEG-TS segments and playlists, and what serves them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import trio

from appliance.media.contracts import Context, OutputStream, Progress
from appliance.media.track import Track
from appliance.publishers.hls.delivery import Delivery
from appliance.publishers.hls.live import Live
from appliance.publishers.hls.segmenter import SUPPORTED_CODECS
from appliance.publishers.numbering import Numbering
from appliance.publishers.on_air import OnAir
from appliance.publishers.wall_time import WallTime
from appliance.settings.models import HlsPublisher as Settings

log = logging.getLogger("kiln.hls")


class HlsPublisher:
    """Publishes output streams as HLS version 3. ``app`` answers what ``claims`` says."""

    name = "hls"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._on_air: OnAir[Live] = OnAir()
        self.app = Delivery(context, self._on_air)

    def accepts(self, tracks: Sequence[Track]) -> bool:
        """At least one track is H.264, H.265, AAC, MP3 or AC-3."""
        return any(track.codec in SUPPORTED_CODECS for track in tracks)

    def live(self, vhost: str, app: str, name: str) -> Live | None:
        """The stream on the air under that name."""
        return self._on_air.find(vhost, app, name)

    async def run(self, output: OutputStream, progress: Progress) -> None:
        """Segment ``output`` until its stream is closed; then it stays for one window, with EXT-X-ENDLIST."""
        live = self._go_on_air(output)
        if not live.renditions:
            log.warning("no playlist has a track that HLS can carry, nothing is published stream=%s", output.label)
        try:
            await live.numbering.start()
            await self._segment(live, progress)
            live.end()
            await _stay(live, progress)
        finally:
            live.interrupted = trio.current_effective_deadline() == -math.inf
            self._on_air.remove(live)

    def _go_on_air(self, output: OutputStream) -> Live:
        settings = getattr(getattr(output.application, "publishers", None), "hls", None)
        settings = settings if isinstance(settings, Settings) else Settings()

        def by_time() -> int:
            return self._context.clock.wall() // max(1, int(settings.segment_duration * 1e9))

        earlier = self._on_air.yield_name((output.vhost, output.app, output.name))
        numbering = Numbering(
            self._context.reserve, f"hls/{output.label}", fallback=by_time,
            first=by_time() if settings.server_time_based_segment_numbering else None,
        )  # fmt: skip
        if earlier is not None:
            numbering.follow(earlier.numbering)
        live = Live(output, settings, WallTime(self._context.clock) if earlier is None else earlier.wall, numbering)
        self._on_air.put(live)
        return live

    async def _segment(self, live: Live, progress: Progress) -> None:
        reader = live.output.stream.reader("hls")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(live.numbering.run, name=f"hls numbers {live.label}")
                nursery.start_soon(_cancel_when_left, live, nursery.cancel_scope)
                async for packets in reader:
                    live.push(packets)
                    progress()
                nursery.cancel_scope.cancel()
        finally:
            reader.close()


async def _cancel_when_left(live: Live, scope: trio.CancelScope) -> None:
    await live.left.wait()
    scope.cancel()


async def _stay(live: Live, progress: Progress) -> None:
    """Until whoever is furthest behind has seen the end."""
    until = trio.current_time() + live.window_seconds + live.target_duration
    while trio.current_time() < until:
        progress()
        await trio.sleep(min(1.0, until - trio.current_time()))
