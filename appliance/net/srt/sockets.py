"""One SRT connection, and how to make one as caller."""

from __future__ import annotations

import logging
import socket as system
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import trio

from appliance.errors import BadRequest, ConfigError, Unavailable
from appliance.net.srt import address
from appliance.net.srt.library import (
    CONNECTED,
    EASYNC_RECEIVE,
    EASYNC_SEND,
    ECONGEST,
    ECONNLOST,
    ERR,
    IN,
    OUT,
    SrtError,
    SrtRefused,
    library,
)
from appliance.net.srt.options import RCVLATENCY, RCVSYN, SNDSYN, STREAMID, apply_options, set_flag
from appliance.net.srt.poller import Poller
from appliance.net.srt.statistics import SrtStatistics, from_trace

log = logging.getLogger("kiln.srt")

#: Seven packets of MPEG-TS: what a message of live mode carries.
PAYLOAD_SIZE: Final = 1316
_MESSAGE: Final = 1456
#: Messages of one ``receive``.
_BATCH: Final = 64
#: How often the rest is asked for once the connection is over (s).
_TAIL_STEP: Final = 0.01
_SEND_BUFFER_FULL: Final = (EASYNC_SEND, ECONGEST)


class SrtHandle:
    """A socket of libsrt with the task that waits for it in each direction."""

    def __init__(self, poller: Poller, handle: int, *, adopted: bool = False) -> None:
        """``adopted``: the poller knows the handle, as another object's."""
        self.poller = poller
        self.library = poller.library
        self.handle = handle
        self.closed = False
        #: The connection has failed; what had come before can still be read.
        self.failed = False
        self._waiting: dict[int, trio.lowlevel.Task] = {}
        if adopted:
            poller.replace(handle, self._ready)
        else:
            poller.add(handle, self._ready)

    def _ready(self, events: int) -> None:
        if events & ERR:
            self.failed = True
            self.poller.mute(self.handle)
        for direction in (IN, OUT):
            if events & (direction | ERR):
                task = self._waiting.pop(direction, None)
                if task is not None:
                    trio.lowlevel.reschedule(task)
                elif not self.failed:
                    # Nobody waits: it would be told again and again.
                    self.poller.want(self.handle, self.poller.wanted(self.handle) & ~direction)

    async def wait(self, direction: int) -> None:
        """Until there may be something to do in ``direction`` (IN or OUT). One task each."""
        if self.closed:
            raise SrtError("the SRT socket is closed")
        if direction in self._waiting:
            raise trio.BusyResourceError("another task waits for this SRT socket")
        if self.failed:
            await trio.lowlevel.checkpoint()
            return
        self.poller.want(self.handle, self.poller.wanted(self.handle) | direction)
        self._waiting[direction] = trio.lowlevel.current_task()

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._waiting.pop(direction, None)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def close(self) -> None:
        """Does nothing the second time. Who waits gets SrtError or the end of the stream."""
        if self.closed:
            return
        self.closed = True
        self.poller.remove(self.handle)
        self.library.lib.srt_close(self.handle)
        waiting, self._waiting = list(self._waiting.values()), {}
        for task in waiting:
            trio.lowlevel.reschedule(task)


class SrtSocket(SrtHandle):
    """A connection. ``peer`` is ``1.2.3.4:5678``, ``address`` the address alone, ``stream_id`` what the caller asked
    for. ``receive`` and ``send`` may each be used by one task; ``close`` by anybody."""

    def __init__(self, poller: Poller, handle: int, *, adopted: bool = False) -> None:
        super().__init__(poller, handle, adopted=adopted)
        ffi = self.library.ffi
        self._lost = False
        self._end_at = 0.0
        self._statistics = SrtStatistics()
        self._buffer = ffi.new("char[]", _MESSAGE * _BATCH)
        self.address, port = _name(poller, handle, "srt_getpeername")
        self.peer = f"[{self.address}]:{port}" if ":" in self.address else f"{self.address}:{port}"
        self.stream_id = self._text(STREAMID)
        #: The receiver's latency that both ends agreed on.
        self.latency_ms = self._number(RCVLATENCY)
        self.bytes_received = 0
        self.bytes_sent = 0

    @property
    def alive(self) -> bool:
        """Whether the connection still stands."""
        return not (self.closed or self._lost or self.failed)

    async def receive(self) -> bytes:
        """What has come, one message or more in a row (at most 64); b"" when the connection is over.

        What the peer sent before it closed is given first. Messages that were lost on the way are left out.
        """
        data = self.receive_nowait()
        if data or self._lost:
            await trio.lowlevel.checkpoint()
        while not data and not self._lost:
            if not self.failed:
                await self.wait(IN)
            elif trio.current_time() >= self._end_at:
                self._lost = True
            else:
                # What had come is given when its time to be played is there, but nobody tells any longer.
                await trio.sleep(_TAIL_STEP)
            data = self.receive_nowait()
        return data

    def receive_nowait(self) -> bytes:
        """What is there; b"" when nothing is."""
        if self.closed:
            self._lost = True
        if self._lost:
            return b""
        receive, handle, buffer = self.library.lib.srt_recvmsg2, self.handle, self._buffer
        null = self.library.ffi.NULL
        size = 0
        for _ in range(_BATCH):
            count = receive(handle, buffer + size, _MESSAGE, null)
            if count <= 0:
                self._nothing_read(count)
                break
            size += count
        self.bytes_received += size
        return bytes(self.library.ffi.buffer(buffer, size)) if size else b""

    def _nothing_read(self, count: int) -> None:
        error = self.library.last_error() if count else 0
        if error == ECONNLOST and self._end_at == 0.0:
            self.failed = True
            self._end_at = trio.current_time() + self.latency_ms / 1000 + _TAIL_STEP
        elif error not in (EASYNC_RECEIVE, ECONNLOST):
            self._lost = True

    async def send(self, data: bytes) -> None:
        """Send ``data`` in messages of at most PAYLOAD_SIZE; waits while libsrt's buffer is full.

        Raises SrtError when the connection is over.
        """
        sent = self.send_nowait(data)
        if sent == len(data):
            await trio.lowlevel.checkpoint()
        while sent < len(data):
            await self.wait(OUT)
            sent += self.send_nowait(data[sent:])

    def send_nowait(self, data: bytes) -> int:
        """Send what libsrt's buffer takes, in messages of at most PAYLOAD_SIZE; how many bytes that were.

        Raises SrtError when the connection is over.
        """
        if self.closed or self._lost:
            raise SrtError("the SRT connection is over")
        send, handle, null = self.library.lib.srt_sendmsg2, self.handle, self.library.ffi.NULL
        total, sent = len(data), 0
        whole = self.library.ffi.from_buffer("char[]", data)
        while sent < total:
            count = send(handle, whole + sent, min(PAYLOAD_SIZE, total - sent), null)
            if count < 0:
                if self.library.last_error() in _SEND_BUFFER_FULL:
                    break
                self._lost = True
                raise SrtError(f"the SRT connection is over: {self.library.reason()}")
            sent += count
        self.bytes_sent += sent
        return sent

    def statistics(self) -> SrtStatistics:
        """Of now; once the connection is over, of when it was last asked for."""
        trace = self.library.ffi.new("SRT_TRACEBSTATS *")
        if self.alive and self.library.lib.srt_bistats(self.handle, trace, 0, 1) >= 0:
            self._statistics = from_trace(trace)
        return self._statistics

    async def drain(self, seconds: float, filler: bytes = b"") -> None:
        """Give the far end up to ``seconds`` to take and play what was sent: what it has not played when we close, many
        a receiver forgets.

        ``filler`` (a message that means nothing to it) follows until all is there: a receiver asks again only for what
        is missing before something that came, so that of the last messages a lost one would never come.
        """
        behind = 0
        with trio.move_on_after(seconds), suppress(SrtError):
            # libsrt tells nobody of acknowledgements.
            while self.alive and self.statistics().send_waiting > behind:
                await trio.sleep(_TAIL_STEP)
                if filler and self.alive:
                    behind += self.send_nowait(filler) == len(filler)
            if self.alive:
                await trio.sleep(self._statistics.latency / 1000)

    def _text(self, option: int) -> str:
        ffi = self.library.ffi
        value, size = ffi.new("char[]", 520), ffi.new("int *", 520)
        if self.library.lib.srt_getsockflag(self.handle, option, value, size) < 0:
            return ""
        return bytes(ffi.buffer(value, size[0])).decode("utf-8", "surrogateescape")

    def _number(self, option: int) -> int:
        ffi = self.library.ffi
        value, size = ffi.new("int *"), ffi.new("int *", 4)
        if self.library.lib.srt_getsockflag(self.handle, option, value, size) < 0:
            return 0
        return int(value[0])


def _name(poller: Poller, handle: int, function: str) -> tuple[str, int]:
    ffi = poller.library.ffi
    name, size = ffi.new("char[]", address.SIZE), ffi.new("int *", address.SIZE)
    if getattr(poller.library.lib, function)(handle, name, size) < 0:
        return "", 0
    return address.unpack(bytes(ffi.buffer(name, address.SIZE)))


def local_port(poller: Poller, handle: int) -> int:
    return _name(poller, handle, "srt_getsockname")[1]


def new_handle(poller: Poller, options: Mapping[str, str]) -> int:
    """A socket that never blocks. Raises ConfigError and SrtError."""
    handle = int(poller.library.lib.srt_create_socket())
    if handle < 0:
        raise SrtError(f"no SRT socket: {poller.library.reason()}")
    try:
        set_flag(poller.library, handle, RCVSYN, False)
        set_flag(poller.library, handle, SNDSYN, False)
        apply_options(poller.library, handle, options)
    except BaseException:
        poller.library.lib.srt_close(handle)
        raise
    return handle


async def connect(
    host: str, port: int, *, stream_id: str = "", passphrase: str = "", pbkeylen: int = 0,
    latency_ms: int | None = None, timeout_ms: int = 3000, options: Mapping[str, str] | None = None,
) -> SrtSocket:  # fmt: skip
    """Call a listener. ``host`` is an address, or a name that is then looked up.

    ``latency_ms`` None is libsrt's 120. ``options`` are further ``SRTO_…``. Raises SrtMissing, SrtRefused (with its
    code), BadRequest (an option that can't be), and Unavailable.
    """
    await trio.to_thread.run_sync(library)
    wanted = dict(options or {})
    wanted["SRTO_CONNTIMEO"] = str(timeout_ms)
    if stream_id:
        wanted["SRTO_STREAMID"] = stream_id
    if passphrase:
        wanted["SRTO_PASSPHRASE"] = passphrase
        if pbkeylen:
            wanted["SRTO_PBKEYLEN"] = str(pbkeylen)
    if latency_ms is not None:
        wanted["SRTO_LATENCY"] = str(latency_ms)
    where = await _look_up(host, port)
    poller = Poller.current()
    try:
        handle = new_handle(poller, wanted)
    except ConfigError as error:
        raise BadRequest(str(error)) from error
    return await _call(poller, handle, where, f"{host}:{port}", timeout_ms)


async def _look_up(host: str, port: int) -> bytes:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=system.SOCK_DGRAM)
        return address.pack(str(found[0][4][0]), port)
    except OSError as error:
        raise Unavailable(f"can't find {host}: {error.strerror or error}") from error


async def _call(poller: Poller, handle: int, where: bytes, shown: str, timeout_ms: int) -> SrtSocket:
    lib = poller.library.lib
    calling = SrtHandle(poller, handle)
    connected = False
    try:
        if lib.srt_connect(handle, where, len(where)) < 0:
            raise SrtError(f"can't call {shown}: {poller.library.reason()}")
        # libsrt keeps the time itself; ours is for the day when it does not.
        with trio.move_on_after(timeout_ms / 1000 + 2):
            await calling.wait(OUT)
        connected = lib.srt_getsockstate(handle) == CONNECTED
        if not connected:
            code = int(lib.srt_getrejectreason(handle))
            raise SrtRefused(f"{shown} does not take the call: {poller.library.reject_text(code)}", code)
    finally:
        if not connected:
            calling.close()
    calling.closed = True
    return SrtSocket(poller, handle, adopted=True)
