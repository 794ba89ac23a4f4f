"""HTTP/2 (RFC 9113) for one connection: one reads, each handler is a task, writes go out as they come.

Framing is by h2, except that DATA frames which do not end a stream are framed here without copying their payload.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from appliance.net.asgi import ClientDisconnected
from appliance.net.connection import Address, Connection, Server
from appliance.net.direct import Direct
from appliance.net.dispatcher import Dispatcher
from appliance.net.http2_fields import RequestDecoder, ResponseEncoder
from appliance.net.http2_stream import Http2Stream
from appliance.net.transport import PlainTransport

LOG = logging.getLogger("kiln.net")

_CHEAP_BURST = 200.0
_CHEAP_RATE = 50.0
_MOST_QUEUED = 1024 * 1024


class _H2(H2Connection):
    # What h2 remembers of each closed stream, so that a viewer's connection does not grow by the hour.
    MAX_CLOSED_STREAMS = 256


class Http2Connection(Connection):
    """A connection on which the client speaks HTTP/2 from its first byte.

    With ``direct`` and ``dispatcher``, what the application answers directly needs no task a stream.
    """

    def __init__(
        self,
        server: Server,
        transport: PlainTransport,
        client: Address | None,
        local: Any,
        direct: Direct | None = None,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        super().__init__(server, transport, client, local)
        self._direct = direct
        self._dispatcher = dispatcher
        self.h2 = _H2(
            H2Configuration(
                client_side=False,
                validate_inbound_headers=False,  # http2_fields does.
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: self.limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.limits.header_size,
            },
        )
        self.h2.decoder = RequestDecoder()
        # A head over the limit up to four times of it is answered (431), beyond that the connection ends.
        self.h2.decoder.max_header_list_size = 4 * self.limits.header_size
        self.h2.encoder = ResponseEncoder(server.heads.hpack_lines)  # type: ignore[assignment]
        self.streams: dict[int, Http2Stream] = {}
        self.window_opened = trio.lowlevel.ParkingLot()
        self.blocked = False
        self._out: list[bytes | memoryview] = []
        self._blocked = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery
        self._reader: trio.lowlevel.Task | None = None
        self._cheap = _CHEAP_BURST
        self._cheap_at = trio.current_time()
        self._over = False

    async def run(self) -> None:
        self.read_deadline = trio.current_time() + self.limits.header_timeout
        self.h2.initiate_connection()
        self.flush()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._write_when_blocked)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            for stream in self.streams.values():
                stream.forget()

    def stop_when_idle(self) -> None:
        self._say_goodbye(ErrorCodes.NO_ERROR)
        if not self.streams:
            self.scope.cancel()

    def enforce(self, now: float) -> None:
        super().enforce(now)
        for stream in list(self.streams.values()):
            stream.enforce(now)

    def time_out(self) -> None:
        self._say_goodbye(ErrorCodes.NO_ERROR)
        self.abandon()

    # Writing.

    def queue(self, *buffers: bytes | memoryview) -> None:
        """Put ready frames behind all that h2 has made so far."""
        self._take_frames()
        self._out.extend(buffers)

    def flush(self) -> None:
        """Send what the socket takes now. The rest is sent by the connection's writer."""
        self._take_frames()
        if self.blocked:
            # Streams queue nothing while blocked: this is what a flood of frames made us answer.
            if sum(map(len, self._out)) > _MOST_QUEUED:
                self.cut()
        elif self._out:
            try:
                self._out = self.transport.try_send(self._out)
            except OSError:
                self._out = []
                self.abandon()
            if self._out:
                self.blocked = True
                self._blocked.unpark_all()

    async def unblocked(self) -> None:
        """Wait until the socket has taken all that was queued."""
        while self.blocked:
            await self._drained.park()

    def _take_frames(self) -> None:
        frames = self.h2.data_to_send()
        if frames:
            self._out.append(frames)

    async def _write_when_blocked(self) -> None:
        transport = self.transport
        while True:
            while not self.blocked:
                await self._blocked.park()
            while self._out:
                self.write_deadline = trio.current_time() + self.limits.write_timeout
                await trio.lowlevel.wait_writable(transport.fd)
                try:
                    self._out = transport.try_send(self._out)
                except OSError:
                    self._out = []
                    self.abandon()
            self.write_deadline = math.inf
            self.blocked = False
            self._drained.unpark_all()

    def _say_goodbye(self, code: ErrorCodes) -> None:
        """GOAWAY, past h2, which would refuse to send anything after it."""
        if not self._over:
            self._over = True
            self.queue(GoAwayFrame(0, last_stream_id=self.h2.highest_inbound_stream_id, error_code=code).serialize())
            self.flush()

    # Reading.

    async def _read(self) -> None:
        """Until the client, or what it sends, ends the connection."""
        if self._dispatcher is None:
            await trio.lowlevel.wait_readable(self.transport.fd)
            while self._take_in():
                await trio.lowlevel.wait_readable(self.transport.fd)
            return
        self._dispatcher.watch(self.transport.fd, self)
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._cancel_reading)

    def _stop_reading(self) -> trio.lowlevel.Task | None:
        """Hear no more of the dispatcher. Returns the task that waits for that, if it does."""
        reader, self._reader = self._reader, None
        if self._dispatcher is not None:
            self._dispatcher.unwatch(self.transport.fd)
        return reader

    def _cancel_reading(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._stop_reading()
        return trio.lowlevel.Abort.SUCCEEDED

    def on_readable(self) -> None:
        """The dispatcher's call."""
        if not self._take_in():
            reader = self._stop_reading()
            if reader is not None:
                trio.lowlevel.reschedule(reader)

    def _take_in(self) -> bool:
        """Act on what has come. False when the connection is over."""
        data = self.transport.try_receive()
        if data is None:
            return True
        if not data:
            self.gone = True
            return False
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:
            LOG.debug("event=protocol_error server=%s peer=%s reason=%s", self.server.name, self.client, error)
            self.flush()
            return False
        for event in events:
            if not self._handle(event):
                return False
        self.flush()
        return True

    def _handle(self, event: Event) -> bool:
        """Act on what the client sent. False when the connection is over."""
        if isinstance(event, RequestReceived):
            return self._open(event)
        if isinstance(event, DataReceived):
            stream = self.streams.get(event.stream_id or 0)
            size = event.flow_controlled_length or 0
            if stream is None:
                self.acknowledge(size, event.stream_id or 0)
            else:
                stream.data_received(bytes(event.data or b""), size)
            return bool(event.data or event.stream_ended) or self._allow_cheap()
        if isinstance(event, StreamEnded):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.body_ended()
        elif isinstance(event, StreamReset):
            stream = self.streams.get(event.stream_id or 0)
            if stream is not None:
                stream.cancel()
                return self._allow_cheap()
        elif isinstance(event, WindowUpdated):
            self.window_opened.unpark_all()
        elif isinstance(event, RemoteSettingsChanged):
            self.window_opened.unpark_all()
            if not self.streams:
                self._await_requests()
            return self._allow_cheap()
        elif isinstance(event, PingReceived | PriorityUpdated | UnknownFrameReceived):
            return self._allow_cheap()
        elif isinstance(event, ConnectionTerminated):
            return False
        return True

    def _allow_cheap(self) -> bool:
        """Frames that cost a client nothing, resets above all, are allowed at a rate; a flood ends the connection."""
        now = trio.current_time()
        self._cheap = min(_CHEAP_BURST, self._cheap + (now - self._cheap_at) * _CHEAP_RATE) - 1
        self._cheap_at = now
        if self._cheap >= 0:
            return True
        self.server.note("flood", "event=http2_flood server=%s peer=%s", self.server.name, self.client)
        self._say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
        return False

    def _open(self, event: RequestReceived) -> bool:
        stream_id = event.stream_id
        assert stream_id is not None
        if self._over or self.server.stopping:
            self.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return True
        if len(self.streams) >= 2 * self.limits.streams:
            self._say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
            return False
        stream = Http2Stream(self, stream_id, event.headers or [], ended=event.stream_ended is not None)
        self.streams[stream_id] = stream
        self.read_deadline = math.inf
        direct, dispatcher = self._direct, self._dispatcher
        if direct is None or dispatcher is None or not stream.answer_directly(direct, dispatcher):
            self.start(stream)
        return True

    def start(self, stream: Http2Stream) -> None:
        """Answer it in a task."""
        self._nursery.start_soon(self._run_stream, stream)

    async def _run_stream(self, stream: Http2Stream) -> None:
        try:
            with stream.scope:
                await stream.answer()
        except ClientDisconnected:
            pass
        except Exception as error:
            self.server.handler_failed(stream.asgi_scope or {"path": ""}, error)
        finally:
            self.over(stream)

    def over(self, stream: Http2Stream) -> None:
        """The stream has been answered, or will not be."""
        del self.streams[stream.id]
        stream.close()
        self.flush()
        if not self.streams:
            if self._over:
                self.scope.cancel()
            self._await_requests()

    def _await_requests(self) -> None:
        self.read_deadline = trio.current_time() + self.limits.idle_timeout

    # What streams do to the connection.

    def acknowledge(self, size: int, stream_id: int) -> None:
        """Give the client back the window for bytes that were taken."""
        if size:
            try:
                self.h2.acknowledge_received_data(size, stream_id)
            except ProtocolError:
                self.abandon()

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        try:
            self.h2.reset_stream(stream_id, code)
        except ProtocolError:
            return  # It is closed already.
        self.flush()
