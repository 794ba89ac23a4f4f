"""One captured stream of an application. The frames never come here: the codec worker opens the source itself."""

from __future__ import annotations

import logging

import trio

from appliance.media.contracts import Context, Progress, Source
from appliance.transcoder import sources

log = logging.getLogger("kiln.capture")

LOOK_SECONDS = 1.0


class CaptureProvider:
    """Holds the input stream ``name`` for the raw source ``url`` (``pattern://``, ``v4l2://``, ``alsa://``).

    The constructor raises ConfigError for a URL that makes no sense, with the reason.
    """

    def __init__(self, context: Context, vhost: str, app: str, name: str, url: str) -> None:
        self._context = context
        self._vhost = vhost
        self._app = app
        self._name = name
        self._source = sources.parse(url)

    async def run(self, progress: Progress) -> None:
        """A supervised child: the stream is there until this is cancelled or the engine ends it.

        Raises what ``Directory.open_input`` raises.
        """
        ended = trio.Event()
        stream = self._context.directory.open_input(
            self._vhost, self._app, self._name, Source("Capture", self._source.url)
        )
        reason = "capture stopped"

        def cancelled(why: str) -> None:
            nonlocal reason
            reason = why
            ended.set()

        stream.on_cancel(cancelled)
        stream.prepare(self._source.tracks())
        try:
            while not ended.is_set():
                progress()
                with trio.move_on_after(LOOK_SECONDS):
                    await ended.wait()
        finally:
            stream.close(reason)
