"""One RTSP session: from the connection to its end, frames into the input."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import trio

from appliance.errors import BadRequest, KilnError, RemoteProtocolError, Unavailable
from appliance.media.contracts import Input, Progress, PullRequest
from appliance.protocols import sdp
from appliance.protocols.rtp.receiver import PATIENCE, SUPPORTED, Frame, Receiver, supported
from appliance.protocols.rtsp.client import Described, Event, MediaData, Playing, Refused, RtspClient, SetUp
from appliance.providers.rtsp.transport import PortPair, open_port_pair

log = logging.getLogger("kiln.rtsp")

READ_SIZE = 64 * 1024
LARGEST_DATAGRAM = 65_536
REPORT_EVERY = 5.0
#: A status that says that no other try with this URL will do.
HOPELESS = frozenset({401, 403, 404, 410})
SERVER_SENDS_NO_SUCH = 461

Task = Callable[[], Awaitable[None]]


class UdpNotWanted(Exception):
    """The server sends by TCP alone, or the other way round."""


class Session:
    """``udp`` has the media sent to ports of ours, else they come on the connection. ``run`` until the source ends."""

    def __init__(
        self, client: RtspClient, stream: trio.SocketStream, request: PullRequest, target: Input, *, udp: bool
    ) -> None:
        self._client = client
        self._stream = stream
        self._request = request
        self._target = target
        self._udp = udp
        self._timeout = request.timeout_ms / 1000
        self._media: list[sdp.Media] = []
        self._set_up: list[SetUp] = []
        self._pairs: list[PortPair] = []
        self._channels: dict[int, tuple[int, bool]] = {}
        self._receiver: Receiver | None = None
        self._keep_alive = 30.0
        self._prepared = False
        self._waiting: list[Frame] = []
        self._since = 0.0
        self._sending = trio.Lock()
        self._fault: Exception | None = None

    async def run(self, progress: Progress) -> None:
        """Raises Unavailable, BadRequest, RemoteProtocolError, UdpNotWanted."""
        try:
            await self._begin(progress)
            async with trio.open_nursery() as nursery:
                tasks: list[Task] = [partial(self._listen, progress), self._report, self._stay_alive]
                for number, pair in enumerate(self._pairs):
                    tasks.append(partial(self._datagrams, number, pair.rtp, progress, is_rtcp=False))
                    tasks.append(partial(self._datagrams, number, pair.rtcp, progress, is_rtcp=True))
                for task in tasks:
                    nursery.start_soon(self._first_to_end, task, nursery.cancel_scope)
            if self._fault is not None:
                raise self._fault
        except trio.BrokenResourceError as error:
            raise Unavailable(f"the connection to the RTSP server broke: {error.__cause__ or error}") from error
        finally:
            for pair in self._pairs:
                pair.close()
            await self._leave()

    async def _first_to_end(self, task: Task, scope: trio.CancelScope) -> None:
        """Whichever ends first ends the session; its fault is the session's."""
        try:
            await task()
        except (KilnError, trio.BrokenResourceError) as error:
            self._fault = self._fault or error
        scope.cancel()

    # The connection

    async def _begin(self, progress: Progress) -> None:
        """Until media come."""
        self._client.start()
        await self._flush()
        while self._receiver is None:
            with trio.move_on_after(self._timeout):
                events = await self._read()
                progress()
                for event in events:
                    await self._handle(event)
                continue
            raise Unavailable(f"the RTSP server does not answer in {self._timeout:g} s")

    async def _listen(self, progress: Progress) -> None:
        """Until the server hangs up or says goodbye. Over UDP the connection itself may well be silent."""
        assert self._receiver is not None
        while not self._receiver.ended:
            for event in await self._read():
                await self._handle(event)
            progress()

    async def _read(self) -> list[Event]:
        data = await self._stream.receive_some(READ_SIZE)
        if not data:
            raise Unavailable("the RTSP server closed the connection")
        events = list(self._client.receive_data(bytes(data)))
        await self._flush()
        return events

    async def _flush(self) -> None:
        with trio.move_on_after(self._timeout):
            async with self._sending:
                data = self._client.data_to_send()
                if data:
                    await self._stream.send_all(data)
            return
        raise Unavailable(f"the RTSP server takes nothing for {self._timeout:g} s")

    async def _leave(self) -> None:
        """Goodbye, if that takes no time."""
        with trio.CancelScope(shield=True), trio.move_on_after(0.2):
            self._client.tear_down()
            try:
                await self._flush()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, Unavailable):
                return

    async def _handle(self, event: Event) -> None:
        match event:
            case MediaData(channel, data):
                number, is_rtcp = self._channels.get(channel, (-1, False))
                if number >= 0:
                    self._take(number, data, is_rtcp=is_rtcp)
            case Described(description):
                await self._choose(description)
            case SetUp():
                self._note_set_up(event)
            case Playing(keep_alive, begins):
                self._keep_alive = keep_alive
                self._play(begins)
                for number in range(len(self._pairs)):
                    await self._open_the_way(number)
            case Refused(status, reason):
                raise self._refusal(status, reason)

    def _refusal(self, status: int, reason: str) -> Exception:
        if status == SERVER_SENDS_NO_SUCH:
            return UdpNotWanted()
        text = f"the RTSP server refused: {status} {reason}"
        return BadRequest(text) if status in HOPELESS else Unavailable(text)

    async def _choose(self, description: sdp.Description) -> None:
        self._media = supported(description.media)
        if not self._media:
            offered = ", ".join(sorted({medium.encoding or medium.kind for medium in description.media})) or "nothing"
            raise BadRequest(f"the RTSP server offers {offered}, and not {', '.join(sorted(SUPPORTED))}")
        ports = None
        if self._udp:
            own = self._stream.socket.getsockname()[0]
            for _ in self._media:
                self._pairs.append(await open_port_pair(own, self._stream.socket.family))
            ports = [pair.port for pair in self._pairs]
        self._client.set_up(self._media, ports)
        await self._flush()

    def _note_set_up(self, done: SetUp) -> None:
        number = len(self._set_up)
        self._set_up.append(done)
        if done.channels is not None:
            self._channels[done.channels[0]] = (number, False)
            self._channels[done.channels[1]] = (number, True)
        elif not self._udp:
            raise RemoteProtocolError("the RTSP server does not say where its packets come")

    def _play(self, begins: Mapping[str, int]) -> None:
        receiver = Receiver(
            self._media, reordered=self._udp, ignore_sender_reports=self._request.ignore_rtcp_sr_timestamp,
            own_ssrc=random.getrandbits(32),
        )  # fmt: skip
        receiver.begin({n: begins[each.url] for n, each in enumerate(self._set_up) if each.url in begins})
        self._receiver = receiver
        self._since = trio.current_time()

    async def _open_the_way(self, number: int) -> None:
        """A packet to where the media come from makes address translators and firewalls let them in."""
        host = self._stream.socket.getpeername()[0]
        pair, ports = self._pairs[number], self._set_up[number].server_ports
        for sock, port in ((pair.rtp, ports[0]), (pair.rtcp, ports[1])):
            if port:
                try:
                    await sock.sendto(b"\x80\x00\x00\x00" + bytes(8), (host, port))
                except OSError as error:
                    log.info("no way opened stream=%s port=%d reason=%s", self._target.label, port, error)

    # Media

    async def _datagrams(
        self, number: int, sock: trio.socket.SocketType, progress: Progress, *, is_rtcp: bool
    ) -> None:
        host = self._stream.socket.getpeername()[0]
        while True:
            data, sender = await sock.recvfrom(LARGEST_DATAGRAM)
            if sender[0] == host:
                progress()
                self._take(number, data, is_rtcp=is_rtcp)

    def _take(self, number: int, data: bytes, *, is_rtcp: bool) -> None:
        receiver = self._receiver
        if receiver is None:
            return  # before PLAY is answered: some servers are hasty
        now = trio.current_time()
        frames = receiver.rtcp(number, data, now) if is_rtcp else receiver.rtp(number, data, now)
        if self._prepared:
            self._send(frames)
        else:
            self._waiting += frames
            self._prepare(receiver, now)

    def _prepare(self, receiver: Receiver, now: float) -> None:
        """Once all tracks are known; a medium that stays unknown does not keep the others waiting for ever."""
        tracks = receiver.tracks
        if tracks is None and now - self._since > 2 * PATIENCE:
            tracks = receiver.known_tracks
        if not tracks or not self._waiting:
            return
        self._prepared = True
        self._target.prepare(tracks)
        waiting, self._waiting = self._waiting, []
        self._send(sorted(waiting, key=lambda frame: frame.dts / frame.track.timescale))

    def _send(self, frames: Iterable[Frame]) -> None:
        send = self._target.send
        for frame in frames:
            send(frame.track, frame.pts, frame.dts, frame.keyframe, frame.payload, frame.duration)

    # Signs of life

    async def _report(self) -> None:
        while True:
            await trio.sleep(REPORT_EVERY)
            assert self._receiver is not None
            for number, packet in self._receiver.reports(trio.current_time()):
                await self._send_report(number, packet)

    async def _send_report(self, number: int, packet: bytes) -> None:
        done = self._set_up[number]
        if done.channels is not None:
            self._client.send_interleaved(done.channels[1], packet)
        elif done.server_ports[1]:
            host = self._stream.socket.getpeername()[0]
            try:
                await self._pairs[number].rtcp.sendto(packet, (host, done.server_ports[1]))
            except OSError as error:
                log.info("report not sent stream=%s reason=%s", self._target.label, error)

    async def _stay_alive(self) -> None:
        """Reports and signs of life go out from here, at most a second late."""
        due = trio.current_time() + self._keep_alive
        while True:
            await trio.sleep(1.0)
            if trio.current_time() >= due:
                self._client.keep_alive()
                due = trio.current_time() + self._keep_alive
            await self._flush()
