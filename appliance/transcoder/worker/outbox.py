"""The worker's way out to the engine: bounded, and nobody who encodes ever waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from av.packet import Packet

from appliance.transcoder.messages import pack_track, packet_head
from appliance.transcoder.spec import EncodedTrack

#: What may wait for an engine that does not read.
LIMIT_BYTES = 8 * 1024 * 1024
LIMIT_NS = 2_000_000_000
#: Pieces handed to the kernel in one call.
_BATCH = 64

Payload: TypeAlias = "bytes | Packet[Any]"


class _Waiting(NamedTuple):
    since: int
    size: int
    head: bytes
    payload: Payload | None


class Outbox:
    """Packets of all renditions on their way to the engine, in order, written by one thread (`run`).

    When more waits than the limits allow, a rendition's packets are dropped up to its next key frame; ``on_drop(id)``
    is then called, so that a key frame comes soon.
    """

    def __init__(self, media: socket.socket, on_drop: Callable[[int], None]) -> None:
        self._media = media
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._closed = False
        self._skipping: set[int] = set()
        self.produced = 0
        self.dropped: dict[int, int] = {}

    def track(self, track: EncodedTrack) -> None:
        """Announce ``track``; never dropped (it is small and comes seldom)."""
        self._put(pack_track(track), None, 0)

    def packet(self, id: int, pts: int, dts: int, duration: int, keyframe: bool, payload: Payload) -> bool:
        """Send one packet; False when it was dropped."""
        size = len(payload) if isinstance(payload, bytes) else payload.size
        if self._full() or id in self._skipping:
            if not keyframe or self._full():
                newly = id not in self._skipping
                self._skipping.add(id)
                self.dropped[id] = self.dropped.get(id, 0) + 1
                if newly:
                    self._on_drop(id)
                return False
            self._skipping.discard(id)
        self._put(packet_head(id, pts, dts, duration, keyframe, size), payload, size)
        self.produced += 1
        return True

    def _full(self) -> bool:
        if self._bytes > LIMIT_BYTES:
            return True
        try:
            oldest = self._waiting[0]
        except IndexError:
            return False
        return time.monotonic_ns() - oldest.since > LIMIT_NS

    def _put(self, head: bytes, payload: Payload | None, size: int) -> None:
        with self._changed:
            self._waiting.append(_Waiting(time.monotonic_ns(), size + len(head), head, payload))
            self._bytes += size + len(head)
            self._changed.notify()

    def run(self) -> None:
        """Write until closed and empty, or until the engine is gone. The only caller that waits for the socket."""
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    break
                batch = [self._waiting[index] for index in range(min(_BATCH, len(self._waiting)))]
            if not self._write(batch):
                break
            with self._changed:
                for item in batch:
                    self._waiting.popleft()
                    self._bytes -= item.size
        try:
            self._media.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _write(self, batch: list[_Waiting]) -> bool:
        pieces: list[memoryview] = []
        for item in batch:
            pieces.append(memoryview(item.head))
            if item.payload is not None:
                pieces.append(memoryview(item.payload))
        try:
            while pieces:
                sent = self._media.sendmsg(pieces)
                while pieces and sent >= pieces[0].nbytes:
                    sent -= pieces.pop(0).nbytes
                if sent:
                    pieces[0] = pieces[0][sent:]
        except OSError:
            return False
        return True

    def close(self) -> None:
        """No more comes; `run` ends when all is written."""
        with self._changed:
            self._closed = True
            self._changed.notify()
