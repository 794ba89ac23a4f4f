"""One RTMP connection: a socket, a session, and the stream that it feeds."""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

import trio

from appliance.errors import KilnError, RemoteProtocolError
from appliance.protocols.rtmp import (
    Audio,
    Connect,
    Data,
    Event,
    Metadata,
    PlayRefused,
    Publish,
    RtmpServer,
    Unpublish,
    Video,
)
from appliance.providers.rtmp.event_generator import EventGenerator
from appliance.providers.rtmp.ingest import Admission, Ingest, NothingToCarry, Peer, admit, refusal_code
from appliance.providers.rtmp.room import Room

log = logging.getLogger("kiln.rtmp")

READ_SIZE: Final = 64 * 1024
#: A read of no more than this may be a chunk header without its body.
_SHORT_READ: Final = 32
#: Handshake and publish must be done in this time, and a publisher must go on air in it (s).
PUBLISH_WITHIN: Final = 10.0
#: How long a publisher that was refused may take to read why (s).
LINGER: Final = 1.0
#: When more than this is missing of a message, the kernel need not wake us for every segment of it, only near its end:
#: the tail stays out, because a sender with Nagle's algorithm holds it back until we have read the rest.
_SLEEP_THROUGH: Final = 8 * 1024
_TAIL: Final = 4 * 1024
#: Sound alone does not wake us while pictures larger than this keep coming: it is read with the next picture, and
#: what no picture follows (the last commands, sound alone) at the next sweep.
_SOUND_WAITS: Final = 1024
#: What may wait for a publisher that does not read; after that it gets no more acknowledgements.
_UNSENT: Final = 16 * 1024


class Connection:
    """``run`` serves the peer until either side ends it. The provider's sweep looks at ``overdue`` once a second."""

    def __init__(self, room: Room, sock: trio.socket.SocketType, peer: Peer) -> None:
        self.peer = peer
        self.ingest: Ingest | None = None
        self._admission: Admission | None = None
        self._generator: EventGenerator | None = None
        #: Whether it has published at any time, and so is known.
        self.published = False
        self.bytes = 0
        #: What the peer has not taken yet of our answers.
        self.unsent = b""
        self._room = room
        self._socket = sock
        self._session = RtmpServer()
        self._scope = trio.CancelScope()
        self._reason = ""
        self._software = ""
        self._began = self._heard = trio.current_time()
        self._heard_bytes = 0
        #: Sizes of the smallest picture in this second and in the one before (0: none came).
        self._smallest = self._smallest_before = 0
        # How much has to be there before the kernel wakes us.
        self._low_water = 1

    @property
    def publishing(self) -> bool:
        return self.ingest is not None

    def cancel(self, reason: str) -> None:
        """End the connection from our side."""
        if not self._reason:
            self._reason = reason
        self._scope.cancel()

    def overdue(self, now: float) -> str:
        """Why this connection has to go now, "" when it may stay. Called once a second."""
        self._smallest_before, self._smallest = self._smallest, 0
        # Wakes us for whatever waits below the mark; the next read sets a new one.
        self._wake_from(1)
        if self.bytes != self._heard_bytes:
            self._heard, self._heard_bytes = now, self.bytes
        ingest = self.ingest
        if ingest is None:
            return "no publish within 10 s" if now - self._began > PUBLISH_WITHIN else ""
        if not ingest.on_air and now - self._began > PUBLISH_WITHIN:
            return "no playable track within 10 s"
        assert self._admission is not None
        silence = self._admission.settings.packet_silence_timeout_ms
        if silence and (now - self._heard) * 1000 > silence:
            return f"no data for {silence} ms"
        return ""

    async def run(self) -> None:
        if self._socket.family != socket.AF_UNIX:
            keep_alive(self._socket)
        reason = "internal fault"
        try:
            with self._scope:
                reason = await self._serve()
            if self._scope.cancelled_caught:
                reason = self._reason
        except trio.Cancelled:
            reason = "the box stops"
            raise
        finally:
            self._end_stream(reason)
            self._room.log_end(self.peer, reason, self.bytes)
        if self._session.refused:
            await self._linger()

    async def _serve(self) -> str:
        """Reads until the end; why it ended."""
        try:
            return await self._read()
        except NothingToCarry as error:
            return self._put_off(error)
        except RemoteProtocolError as error:
            self._room.counters.protocol_errors += 1
            return f"protocol error: {error}"
        except KilnError as error:
            # The engine can't take the stream after all.
            return self._put_off(error)
        except OSError as error:
            return f"connection lost: {error.strerror or error}"

    def _put_off(self, error: KilnError) -> str:
        self._session.end_publish(refusal_code(error), str(error))
        return f"refused: {error}"

    async def _read(self) -> str:
        descriptor = self._socket.fileno()
        session = self._session
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            try:
                data = os.read(descriptor, READ_SIZE)
                if not data:
                    return "closed by the publisher"
                if len(data) <= _SHORT_READ:
                    # Many encoders send a header alone, and the body once that is acknowledged: it is there by now.
                    data += os.read(descriptor, READ_SIZE)
            except BlockingIOError:
                pass
            self._take(data)
            self._wake_from(self._worth_waking(session.missing))
            if self.unsent or session.has_data_to_send:
                await self._flush()
            if self._reason:
                return self._reason

    def _wake_from(self, low_water: int) -> None:
        if low_water != self._low_water:
            self._low_water = low_water
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)

    def _worth_waking(self, missing: int) -> int:
        """How much must be there before the kernel wakes us, when ``missing`` bytes of a message are not."""
        if missing > _SLEEP_THROUGH:
            return min(missing - _TAIL, READ_SIZE)
        if missing > 1 or self.ingest is None:
            return 1
        return _SOUND_WAITS if min(self._smallest, self._smallest_before) > _SOUND_WAITS else 1

    def _take(self, data: bytes) -> None:
        self.bytes += len(data)
        session, ingest = self._session, self.ingest
        events = session.receive_data(data)
        while True:
            acted = False
            for event in events:
                if isinstance(event, Video):
                    if ingest is not None:
                        size = len(event.body)
                        if size < self._smallest or not self._smallest:
                            self._smallest = size
                        ingest.video(event.timestamp, event.body)
                elif isinstance(event, Audio):
                    if ingest is not None:
                        ingest.audio(event.timestamp, event.body)
                else:
                    self._act(event)
                    ingest, acted = self.ingest, True
            if not acted or not session.paused:
                return
            events = session.receive_data(b"")

    def _act(self, event: Event) -> None:
        match event:
            case Connect():
                self._software = event.software[:64]
            case Publish():
                self._publish(event)
            case Metadata():
                if self.ingest is not None:
                    self.ingest.metadata(event.values)
                    self._generate("onMetaData", [event.values])
            case Unpublish():
                self._end_stream(f"ended by the publisher ({event.command})")
                self._began = trio.current_time()
            case PlayRefused():
                log.info("play refused peer=%s stream=%.128r", self.peer.name, event.stream)
            case Data():
                self._generate(event.name, event.values)

    def _generate(self, name: str, values: list[object]) -> None:
        """A data message: the events that it triggers, if any."""
        if self.ingest is not None and self._generator is not None:
            self._generator.take(self.ingest.input, name, values)
        else:
            log.debug("data message left out peer=%s name=%.64r", self.peer.name, name)

    def _publish(self, event: Publish) -> None:
        counters = self._room.counters
        try:
            admission = admit(self._room.directory, event.address, self.peer, self._room.publishing)
        except KilnError as error:
            counters.refused += 1
            self._session.reject_publish(refusal_code(error), str(error))
            self._reason = f"publish of {event.address.app}/{event.address.stream} refused: {error}"
            return
        ingest = self.ingest = Ingest(admission.input, self.peer.name)
        self._admission = admission
        rules = admission.settings.event_generator
        self._generator = EventGenerator(rules, ingest.label) if rules is not None else None
        admission.input.on_cancel(lambda reason: self.cancel(reason) if self.ingest is ingest else None)
        self._session.accept_publish()
        self._began = trio.current_time()
        self._room.started(admission.vhost, admission.app)
        if not self.published:
            self.published = True
            self._room.no_longer_pending(self.peer)
        log.info("publisher on stream=%s peer=%s software=%r", ingest.label, self.peer.name, self._software)

    def _end_stream(self, reason: str) -> None:
        ingest, self.ingest = self.ingest, None
        if ingest is not None:
            ingest.close(reason)
            assert self._admission is not None
            self._room.stopped(self._admission.vhost, self._admission.app)
            log.info("publisher off stream=%s peer=%s reason=%r", ingest.label, self.peer.name, reason)

    async def _flush(self) -> None:
        """Write what the session has to say. A publisher that doesn't read is waited for only before it publishes."""
        out = self._session.data_to_send()
        if not self.publishing or len(self.unsent) <= _UNSENT:
            self.unsent += out
        while self.unsent:
            try:
                self.unsent = self.unsent[os.write(self._socket.fileno(), self.unsent) :]
            except BlockingIOError:
                if self.publishing:
                    return
                await trio.lowlevel.wait_writable(self._socket)

    async def _linger(self) -> None:
        """Give the peer time to read why it was refused: closing on unread data would take it back."""
        with trio.move_on_after(LINGER):
            try:
                await self._flush()
                self._socket.shutdown(socket.SHUT_WR)
                while await self._socket.recv(READ_SIZE):
                    pass
            except OSError as error:
                log.debug("refusal not read peer=%s reason=%s", self.peer.name, error)


def keep_alive(sock: trio.socket.SocketType) -> None:
    """A publisher whose machine or network is gone is noticed after about 30 s of silence."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
