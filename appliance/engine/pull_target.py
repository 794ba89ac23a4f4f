"""The input stream of a pull, as its sources see it one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from appliance.engine.input_stream import InputStream
from appliance.media.contracts import Source
from appliance.media.stream import Stream
from appliance.media.track import Track

OpenInput = Callable[[], InputStream]


class SendFrame(Protocol):
    """See ``contracts.Input.send``."""

    def __call__(
        self, track: Track, pts: int, dts: int, keyframe: bool, payload: bytes, duration: int = 0
    ) -> None: ...


class PullTarget:
    """A ``contracts.Input`` that stays when a source leaves. A source with other tracks gets a new input stream.

    ``gave``: the source in use has told its tracks. ``over``: the engine has ended the input (deleted, taken over by
    another source). ``running``: a source is connected.
    """

    def __init__(self, open_input: OpenInput, went_on: Callable[[], None]) -> None:
        self.gave = False
        self.over = False
        self.running = False
        self.lost = ""
        self._open = open_input
        self._went_on = went_on
        self._scope = trio.CancelScope()
        self._callbacks: list[Callable[[str], None]] = []
        self._shape: frozenset[tuple[int, str]] = frozenset()
        self._take(open_input())

    def _take(self, opened: InputStream) -> None:
        self.input = opened
        #: Called for every frame, so it is the input's own method.
        self.send: SendFrame = opened.send
        opened.on_cancel(lambda reason: self._lose(opened, reason))

    def _lose(self, ended: InputStream, reason: str) -> None:
        if ended is self.input:
            self.over = True
            self.interrupt(reason)

    @property
    def label(self) -> str:
        return self.input.label

    @property
    def stream(self) -> Stream:
        return self.input.stream

    @property
    def raw(self) -> bool:
        """No packets of it come through here."""
        return self.input.prepared and self.input.stream.raw

    def change_source(self, open_input: OpenInput, source: Source) -> None:
        """The next address feeds the same input."""
        self._open = open_input
        self.input.source = source

    async def feed(self, pull: Callable[[], Awaitable[None]], connect_within: float) -> str:
        """Run one connection of a source; why it ended. Raises what the source raises."""
        self.gave = False
        self.lost = ""
        self._callbacks = []
        self.running = True
        try:
            with trio.CancelScope() as self._scope:
                self._scope.deadline = trio.current_time() + connect_within
                await pull()
                return "the source has ended"
        finally:
            self.running = False
            self.input.lose(self.lost or "the connection to its source is over")
        return self.lost or f"no stream within {connect_within:g} s"

    def prepare(self, tracks: Sequence[Track]) -> None:
        shape = frozenset((track.id, str(track.media)) for track in tracks)
        if self.gave and shape == self._shape:
            return
        if self.input.prepared and self._shape and shape != self._shape:
            self.input.end("its source has other tracks now")
            self._take(self._open())
        self._shape = shape
        self.gave = True
        self._scope.deadline = float("inf")
        # What the source before gave last is no sign of life of this one.
        self.input.last_packet = self.input.clock.monotonic()
        self.input.prepare(tracks)
        self._went_on()

    def close(self, reason: str) -> None:
        """A source leaves; the stream waits for the next one."""

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def interrupt(self, reason: str) -> None:
        """End the connection in use."""
        self.lost = self.lost or reason
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(reason)
        self._scope.cancel()

    def end(self, reason: str) -> None:
        """The stream is over."""
        self.over = True
        self.interrupt(reason)
        self.input.end(reason)
