"""A target that speaks RTMP or RTMPS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from appliance.errors import BadRequest, RemoteProtocolError, Unavailable
from appliance.media.contracts import Egress
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.protocols.flv import FlvMuxer
from appliance.protocols.rtmp.client import ClientState, Ended, Refused, RtmpClient
from appliance.publishers.push.destination import Destination
from appliance.publishers.push.target import SEND_BUFFER, Wire
from appliance.publishers.push.target import Refused as TargetRefused

FOUR_CCS: Final = {Codec.H265: "hvc1", Codec.AV1: "av01", Codec.VP9: "vp09", Codec.OPUS: "Opus"}


class RtmpTarget:
    """A connection over which the server has said that it takes our stream."""

    def __init__(self, wire: Wire, client: RtmpClient, tracks: Sequence[Track]) -> None:
        self._wire = wire
        self._client = client
        self._current: dict[int, Track | None] = {track.id: None for track in tracks}
        self._tracks = {track.id: track for track in tracks}
        self._has_video = any(track.is_video for track in tracks)
        #: The stream's time at which ours began, in ticks of each track; None until the first frame.
        self._bases: dict[int, int] | None = None
        self._last: dict[int, int] = {}

    @classmethod
    async def open(
        cls, where: Destination, tracks: Sequence[Track], egress: Egress, connect: float, timeout: float
    ) -> RtmpTarget:
        """Raises Unavailable, BadRequest. ``connect`` bounds all of it, ``timeout`` each send; seconds."""
        url = where.url
        open_ = egress.open_tls if url.scheme == "rtmps" else egress.open_tcp
        with trio.move_on_after(connect):
            wire = Wire(await open_(url.host, url.port, connect, send_buffer=SEND_BUFFER), timeout)
            four_ccs = [FOUR_CCS[track.codec] for track in tracks if track.codec in FOUR_CCS]
            client = RtmpClient(f"{url.shown}/{where.app}", where.app, where.key, four_ccs=four_ccs)
            try:
                await _talk_until_started(wire, client)
            except BaseException:
                wire.close()
                raise
            return cls(wire, client, tracks)
        raise Unavailable(f"{url.authority} does not take the stream in {connect:g} s")

    @property
    def sent(self) -> int:
        return self._wire.sent

    async def send(self, packets: list[Packet]) -> None:
        for packet in packets:
            self._put(packet)
        await self._wire.send(self._client.data_to_send())

    def _put(self, packet: Packet) -> None:
        track = packet.track
        if track.id not in self._current:
            return
        if self._bases is None and not self._begin(packet):
            return
        assert self._bases is not None
        base = self._bases[track.id]
        dts = packet.dts - base
        if dts < 0 or dts <= self._last.get(track.id, -1):
            return
        if self._current[track.id] is not track:
            self._introduce(track, dts)
        self._last[track.id] = dts
        time, body = FlvMuxer.frame(track, packet.pts - base, dts, packet.keyframe, packet.payload)
        if track.is_video:
            self._client.send_video(time, body)
        else:
            self._client.send_audio(time, body)

    def _begin(self, packet: Packet) -> bool:
        """Whether ``packet`` may be the first: times are counted from it."""
        track = packet.track
        if self._has_video and not (track.is_video and packet.keyframe):
            return False
        self._bases = {
            each.id: packet.dts * each.timescale // track.timescale for each in self._tracks.values()
        }
        self._client.send_metadata(FlvMuxer.metadata(list(self._tracks.values())))
        for each in self._tracks.values():
            self._introduce(track if each.id == track.id else each, 0)
        return True

    def _introduce(self, track: Track, dts: int) -> None:
        """The sequence header: before the first frame, and again when the configuration is a new one."""
        try:
            body = FlvMuxer.configuration(track)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        if self._current[track.id] is not None:
            self._tracks[track.id] = track
            self._client.send_metadata(FlvMuxer.metadata(list(self._tracks.values())))
        self._current[track.id] = track
        time = dts * 1000 // track.timescale
        if track.is_video:
            self._client.send_video(time, body)
        else:
            self._client.send_audio(time, body)

    async def listen(self) -> None:
        while True:
            await _hear(self._wire, self._client)

    async def finish(self) -> None:
        self._client.stop()
        await self._wire.send(self._client.data_to_send())
        await self._wire.end()

    def close(self) -> None:
        self._wire.close()


async def _talk_until_started(wire: Wire, client: RtmpClient) -> None:
    await wire.send(client.data_to_send())
    while client.state is not ClientState.STARTED:
        await _hear(wire, client)


async def _hear(wire: Wire, client: RtmpClient) -> None:
    data = await wire.receive()
    try:
        events = client.receive_data(data)
    except RemoteProtocolError as error:
        raise Unavailable(f"the target does not speak RTMP: {error}") from error
    for event in events:
        if isinstance(event, Refused):
            raise TargetRefused(f"the server says {event.code}: {event.description}")
        if isinstance(event, Ended):
            raise Unavailable(f"the server ended the stream: {event.code}")
    answer = client.data_to_send()
    if answer:
        await wire.send(answer)
