"""One thread in srt_epoll_uwait for all sockets of a trio run: it wakes their tasks in batches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

import trio

from appliance.net.srt.library import ENABLE_EMPTY, ERR, Library, library

log = logging.getLogger("kiln.srt")

#: At most so many batches a second come into trio: a wake-up for every packet costs three times as much (s).
PACE: Final = 0.005
_EVENTS: Final = 256

Ready = Callable[[int], None]

_current: trio.lowlevel.RunVar[Poller | None] = trio.lowlevel.RunVar("kiln.srt.poller")


class Poller:
    """Its thread lives while there are sockets. Everything but ``_watch`` runs in trio's thread."""

    def __init__(self, lib: Library) -> None:
        self.library = lib
        self._ready: dict[int, Ready] = {}
        self._wanted: dict[int, int] = {}
        self._token = trio.lowlevel.current_trio_token()
        self._eid = -1
        self._end = threading.Lock()

    @classmethod
    def current(cls) -> Poller:
        """The poller of this trio run. Raises SrtMissing."""
        poller = _current.get(None)
        if poller is None:
            poller = cls(library())
            _current.set(poller)
        return poller

    def add(self, socket: int, ready: Ready) -> None:
        """``ready(events)`` is called in trio's thread when what ``want`` asked for is there."""
        if not self._ready:
            self._begin()
        self._ready[socket] = ready
        self._wanted[socket] = ERR
        self.library.lib.srt_epoll_add_usock(self._eid, socket, self._flags(ERR))

    def want(self, socket: int, events: int) -> None:
        """From now on, until it is asked otherwise."""
        if self._wanted[socket] != events | ERR:
            self._wanted[socket] = events | ERR
            self.library.lib.srt_epoll_update_usock(self._eid, socket, self._flags(events | ERR))

    def wanted(self, socket: int) -> int:
        return self._wanted[socket]

    def mute(self, socket: int) -> None:
        """A socket in error stays so for ever: it is not told of again."""
        if self._wanted[socket]:
            self._wanted[socket] = 0
            self.library.lib.srt_epoll_remove_usock(self._eid, socket)

    def replace(self, socket: int, ready: Ready) -> None:
        """From now on another object is told."""
        self._ready[socket] = ready

    def remove(self, socket: int) -> None:
        """Before the socket is closed. The thread ends with the last one."""
        self._ready.pop(socket)
        if self._wanted.pop(socket):
            self.library.lib.srt_epoll_remove_usock(self._eid, socket)

        if not self._ready:
            self.library.lib.srt_epoll_release(self._eid)
            self._end.release()

    def _begin(self) -> None:
        self._eid = self.library.lib.srt_epoll_create()
        self.library.lib.srt_epoll_set(self._eid, ENABLE_EMPTY)
        # Held by the thread's pause; released, it ends the thread.
        self._end = threading.Lock()
        self._end.acquire()
        turn = threading.Lock()
        turn.acquire()
        arguments = (self._eid, self._end, turn)
        threading.Thread(target=self._watch, args=arguments, name="srt-epoll", daemon=True).start()

    def _flags(self, events: int) -> object:
        return self.library.ffi.new("int *", events)

    def _deliver(self, events: list[tuple[int, int]], turn: threading.Lock) -> None:
        """Runs in trio: whatever happens in here would end the whole run."""
        for socket, happened in events:
            ready = self._ready.get(socket)
            if ready is not None:
                try:
                    ready(happened)
                except Exception:
                    log.exception("socket could not be told socket=%d", socket)
        turn.release()

    def _watch(self, eid: int, end: threading.Lock, turn: threading.Lock) -> None:
        """The thread: one C call for the events, one for the pause."""
        events = self.library.ffi.new("SRT_EPOLL_EVENT[]", _EVENTS)
        wait, deliver, run_soon = self.library.lib.srt_epoll_uwait, self._deliver, self._token.run_sync_soon
        while True:
            count = wait(eid, events, _EVENTS, -1)
            if count < 0:
                return
            batch = [(event.fd, event.events) for event in events[0 : min(count, _EVENTS)]]
            try:
                run_soon(deliver, batch, turn)
            except trio.RunFinishedError:
                return
            # Not before trio has had its turn: a busy loop gets one batch, however long it is busy.
            while not turn.acquire(timeout=1):
                if end.acquire(blocking=False):
                    return
            if end.acquire(timeout=PACE):
                return
