"""The LL-HLS publisher: an output stream into parts, segments and playlists, and what serves them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import trio

from appliance.errors import BadRequest
from appliance.media.contracts import Context, OutputStream, Progress
from appliance.media.track import Track
from appliance.protocols.fmp4 import SUPPORTED_CODECS
from appliance.publishers.llhls.delivery import Delivery
from appliance.publishers.llhls.dvr import Dvr
from appliance.publishers.llhls.live import Live, playlists_of, used_tracks
from appliance.publishers.media_files import MediaFiles
from appliance.publishers.numbering import Numbering
from appliance.publishers.on_air import OnAir
from appliance.publishers.wall_time import WallTime
from appliance.settings.models import LLHlsPublisher as Settings

log = logging.getLogger("kiln.llhls")

#: Seconds that a stream whose source stopped may be carried on by a new life of its name before it gets EXT-X-ENDLIST.
SUCCESSION_GRACE = 3.0


class LlhlsPublisher:
    """Publishes output streams as low-latency HLS.

    ``app`` is the ASGI callable for ``/app/stream/file``; it answers by itself what it doesn't know (404).
    """

    name = "llhls"

    def __init__(self, context: Context, short: Callable[[], str] = lambda: "") -> None:
        """``short`` says why nothing may be written to the disk now, "" when it may."""
        self._context = context
        self._disk = MediaFiles(context.media_root, short)
        self._on_air: OnAir[Live] = OnAir()
        self.app = Delivery(context, self._on_air)

    def accepts(self, tracks: Sequence[Track]) -> bool:
        """At least one track is H.264, H.265, AV1, VP9, AAC or Opus."""
        return any(track.codec in SUPPORTED_CODECS for track in tracks)

    def live(self, vhost: str, app: str, name: str) -> Live | None:
        """The stream on the air under that name."""
        return self._on_air.find(vhost, app, name)

    def viewers(self, vhost: str, app: str, name: str) -> int:
        """How many players asked for a playlist of the stream in the last three target durations."""
        live = self.live(vhost, app, name)
        return 0 if live is None else live.viewers.count(trio.current_time())

    async def run(self, output: OutputStream, progress: Progress) -> None:
        """Package ``output`` until its stream is closed; then it stays for one window, with EXT-X-ENDLIST.

        A new life of the same name within ``SUCCESSION_GRACE``, or at any time, carries the playlists on instead.
        """
        settings = _settings(output)
        _report_what_is_not_built(output, settings)
        if not used_tracks(playlists_of(output, settings).values(), output):
            log.warning("no playlist has a track that LL-HLS can carry, nothing is published stream=%s", output.label)
            await _nothing_to_do(output, progress)
            return
        live = self._go_on_air(output, settings)
        try:
            await live.numbering.start()
            await self._package(live, progress)
            await _wait_until_left(live, trio.current_time() + SUCCESSION_GRACE, progress)
            if not live.gone:
                live.end()
                await _wait_until_left(live, trio.current_time() + _window(live), progress)
            if live.gone:
                await _keep_files(live, progress)
        finally:
            live.interrupted = trio.current_effective_deadline() == -math.inf
            replaced = live.gone
            self._on_air.remove(live)
            if live.dvr is not None and not (live.interrupted or replaced):
                await live.dvr.clear()

    def _go_on_air(self, output: OutputStream, settings: Settings) -> Live:
        """From here on requests are held rather than refused."""
        earlier = self._on_air.yield_name((output.vhost, output.app, output.name))
        numbering = self._numbering(output, settings)
        if earlier is not None:
            numbering.follow(earlier.numbering)
        wall = WallTime(self._context.clock) if earlier is None else earlier.wall
        live = Live(output, settings, wall, numbering, self._dvr(output, settings))
        self._on_air.put(live)
        return live

    def _dvr(self, output: OutputStream, settings: Settings) -> Dvr | None:
        if not settings.dvr.enable:
            return None
        try:
            return Dvr(output, settings.dvr, self._disk)
        except BadRequest as fault:
            log.error("no rewinding stream=%s setting=LLHLS/DVR/TempStoragePath reason=%s", output.label, fault)
            return None

    async def _package(self, live: Live, progress: Progress) -> None:
        reader = live.output.stream.reader("llhls")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(live.numbering.run, name=f"llhls numbers {live.label}")
                if live.dvr is not None:
                    nursery.start_soon(live.dvr.run, live, name=f"llhls disk {live.label}")
                nursery.start_soon(_cancel_when_left, live, nursery.cancel_scope)
                async for packets in reader:
                    live.push(packets)
                    reader.wake_at = live.packager.due
                    progress()
                nursery.cancel_scope.cancel()
        finally:
            reader.close()
        live.finish()

    def _numbering(self, output: OutputStream, settings: Settings) -> Numbering:
        def by_time() -> int:
            return self._context.clock.wall() // max(1, int(settings.segment_duration * 1e9))

        first = by_time() if settings.server_time_based_segment_numbering else None
        return Numbering(self._context.reserve, f"llhls/{output.label}", fallback=by_time, first=first)


def _window(live: Live) -> float:
    """The time in seconds that a viewer who is furthest behind needs to see the end."""
    return max((window.edge - window.oldest for window in live.windows.values()), default=0.0)


async def _cancel_when_left(live: Live, scope: trio.CancelScope) -> None:
    await live.left.wait()
    scope.cancel()


async def _wait_until_left(live: Live, until: float, progress: Progress) -> None:
    """Until a new life takes the place of ``live``, or that moment."""
    while not live.gone and trio.current_time() < until:
        progress()
        with trio.move_on_at(min(until, trio.current_time() + 1)):
            await live.left.wait()


async def _keep_files(live: Live, progress: Progress) -> None:
    until = trio.current_time() + live.longest_need
    while live.files and trio.current_time() < until:
        progress()
        await trio.sleep(min(1.0, until - trio.current_time()))


async def _nothing_to_do(output: OutputStream, progress: Progress) -> None:
    while not output.stream.closed:
        progress()
        with trio.move_on_after(1):
            await output.stream.wait_closed()


def _settings(output: OutputStream) -> Settings:
    settings = getattr(getattr(output.application, "publishers", None), "llhls", None)
    return settings if isinstance(settings, Settings) else Settings()


def _report_what_is_not_built(output: OutputStream, settings: Settings) -> None:
    missing = {
        "DRM": settings.drm.enable,
    }
    for name, wanted in missing.items():
        if wanted:
            log.warning("setting without effect, not built yet stream=%s setting=LLHLS/%s", output.label, name)
    for query in settings.default_query_string.queries:
        if query.key not in ("_HLS_legacy", "_HLS_rewind"):
            log.warning(
                "default query not known, has no effect stream=%s setting=Publishers/LLHLS/DefaultQueryString key=%s",
                output.label, query.key,
            )  # fmt: skip
        elif query.key == "_HLS_rewind" and not settings.dvr.enable:
            log.info(
                "default query has no effect without DVR stream=%s "
                "setting=Publishers/LLHLS/DefaultQueryString key=_HLS_rewind", output.label,
            )  # fmt: skip
